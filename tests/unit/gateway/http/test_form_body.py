"""Reading url-encoded bodies whose names have brackets."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.growth import MOST, growth

from postroom.gateway.http.errors import ApiError
from postroom.gateway.http.form_body import LONGEST_NAME, MOST_FIELDS, parse_form

NAMES = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="[]"), min_size=1, max_size=8).filter(
    lambda name: not name.isdigit()
)
TREES = st.recursive(
    st.text(st.characters(blacklist_categories=["Cs"]), max_size=8),
    lambda inner: st.lists(inner, min_size=1, max_size=3) | st.dictionaries(NAMES, inner, min_size=1, max_size=3),
    max_leaves=12,
)


def pairs(value: Any, name: str) -> Any:
    """What jQuery's `$.param` and `qs.stringify` make of a value."""
    if isinstance(value, str):
        return [(name, value)]
    items = enumerate(value) if isinstance(value, list) else value.items()
    return [pair for key, child in items for pair in pairs(child, f"{name}[{key}]")]


@given(st.dictionaries(NAMES, TREES, max_size=4))
def test_what_the_usual_writers_write_is_read_back(tree: Any) -> None:
    body = urlencode([pair for name, value in tree.items() for pair in pairs(value, name)]).encode()
    assert parse_form(body) == tree


@given(st.binary(max_size=80))
def test_any_bytes_are_an_object_or_a_400(body: Any) -> None:
    try:
        assert isinstance(parse_form(body), dict)
    except ApiError as refusal:
        assert refusal.status == 400


def test_the_seeds_email_as_a_form() -> None:
    body = b"to[0][email]=john%40example.com&to[0][type]=to&html=%3Cp%3EHi+John+1%3C%2Fp%3E&headers[Reply-To]=a%40b.org"
    assert parse_form(body) == {
        "to": [{"email": "john@example.com", "type": "to"}],
        "html": "<p>Hi John 1</p>",
        "headers": {"Reply-To": "a@b.org"},
    }


def test_names_without_a_number_make_a_list_in_their_order() -> None:
    assert parse_form(b"to[]=a&to[]=b&to[]=c") == {"to": ["a", "b", "c"]}


def test_numbers_far_apart_make_no_long_list() -> None:
    assert parse_form(b"to[999999]=b&to[0]=a") == {"to": ["a", "b"]}


@pytest.mark.parametrize("body", [b"a[b=1", b"[b]=1", b"a]=1", b"a[b]c=1", b"a[[b]]=1", b"a=1&a[b]=2", b"=1"])
def test_a_name_that_makes_no_sense_is_refused_and_shown(body: Any) -> None:
    with pytest.raises(ApiError, match=r"field name|given twice"):
        parse_form(body)


def test_a_field_given_twice_is_refused_with_the_way_to_write_a_list() -> None:
    with pytest.raises(ApiError, match=r"given twice; write to\[\] for a list"):
        parse_form(b"to=a&to=b")


def test_too_many_fields_and_too_many_brackets_are_refused() -> None:
    with pytest.raises(ApiError, match="fields"):
        parse_form(b"a[]=1&" * (MOST_FIELDS + 1))
    with pytest.raises(ApiError, match="not understood"):
        parse_form(b"a" + b"[b]" * 1000 + b"=1")


@pytest.mark.parametrize("body", ["a=\xe4".encode("latin-1"), b"a=%FF"])
def test_what_is_no_utf8_is_refused(body: Any) -> None:
    with pytest.raises(ApiError, match="UTF-8"):
        parse_form(body)


PIECES = st.sampled_from(
    [
        b"%",
        b"%4",
        b"%41",
        b"%c3%a9",
        b"=",
        b"%3D",
        b"+",
        b"%2B",
        b"a",
        b"\n",
        b"%0a",
        b"=\n",
        b"%zz",
        b" \t",
        b"_",
        b".",
    ]
)


@given(st.lists(PIECES, max_size=12).map(b"".join))
def test_percent_encoding_is_taken_off_as_the_standard_library_does(value: bytes) -> None:
    try:
        [(_, expected)] = parse_qsl("a=" + value.decode(), keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        return
    assert parse_form(b"a=" + value) == {"a": expected}


def _ignoring_mistakes(body: bytes) -> None:
    with contextlib.suppress(ApiError):
        parse_form(body)


COSTLY: dict[str, Callable[[int], bytes]] = {
    "percent-encoded": lambda size: b"a=" + b"%41" * size,
    "percent signs": lambda size: b"a=" + b"%" * size,
    "fields": lambda size: b"&".join(b"a[%d]=" % number for number in range(size // 4)),
    "nameless places": lambda size: b"&".join([b"a[]="] * (size // 4)),
    "brackets": lambda size: b"a" + b"[" * size + b"=",
    "ampersands": lambda size: b"&" * size,
}


@pytest.mark.parametrize("make", COSTLY.values(), ids=COSTLY)
def test_a_body_twice_as_long_costs_twice_as_much(make: Callable[[int], bytes]) -> None:
    assert growth(make, _ignoring_mistakes, 4000) < MOST


def test_a_percent_encoded_body_costs_little_more_than_a_plain_one() -> None:
    plain, encoded = b"a=" + b"x" * 3_000_000, b"a=" + b"%78" * 1_000_000
    cost = [min(_cost(body) for _ in range(5)) for body in (plain, encoded)]
    assert cost[1] < cost[0] * 40  # 400 times as much with an object for each character


def _cost(body: bytes) -> float:
    begun = time.thread_time()
    parse_form(body)
    return time.thread_time() - begun


def test_the_name_of_a_field_has_a_bound() -> None:
    with pytest.raises(ApiError, match="not understood"):
        parse_form(b"a" * (LONGEST_NAME + 1) + b"=1")
