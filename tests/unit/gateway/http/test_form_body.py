"""Reading url-encoded bodies whose names have brackets."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.gateway.http.errors import ApiError
from postroom.gateway.http.form_body import MOST_FIELDS, parse_form

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
