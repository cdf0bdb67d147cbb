"""Reading JSON: what is taken, what is refused, and whether the answer says where the mistake is."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.growth import MOST, growth

from postroom.gateway.http.errors import ApiError
from postroom.gateway.http.json_body import DEEPEST, MOST_NAMES, MOST_OBJECTS, parse_json

SAMPLES = Path(__file__).parents[1] / "samples"

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def refused(body: bytes) -> ApiError:
    with pytest.raises(ApiError) as caught:
        parse_json(body)
    assert caught.value.status == 400
    return caught.value


@given(st.dictionaries(st.text(), VALUES))
def test_any_object_is_read_as_it_was_written(value: Any) -> None:
    assert parse_json(json.dumps(value).encode()) == value
    assert parse_json(json.dumps(value, ensure_ascii=False, indent=1).encode("utf-8", "surrogatepass")) == value


@given(st.binary(max_size=60))
def test_any_bytes_are_an_object_or_a_400(body: Any) -> None:
    try:
        assert isinstance(parse_json(body), dict)
    except ApiError as refusal:
        assert refusal.status == 400
        assert refusal.message.endswith(".")


@pytest.mark.parametrize(
    ("body", "line", "column", "hint"),
    [
        ("{\n  'to': 1}", 2, 3, "double quotes"),
        ("{\"a\": 'b'}", 1, 7, "double quotes"),
        ('{"a": 1, // why\n"b": 2}', 1, 10, "no comments"),
        ('{"a": 1 /* why */}', 1, 9, "no comments"),
        ('{"a": 1,\n# why\n"b": 2}', 2, 1, "no comments"),
        ('{"a": "b\nc"}', 1, 9, "\\n"),
        ('{"a": [1, 2', 1, 12, "too early"),
        ("", 1, 1, "empty"),
        ("<p>hi</p>", 1, 1, "found '<'"),
    ],
)
def test_a_mistake_is_pointed_at_with_line_and_column(body: Any, line: int, column: int, hint: str) -> None:
    refusal = refused(body.encode())
    assert refusal.code == "invalid_json"
    assert (refusal.extra["line"], refusal.extra["column"]) == (line, column)
    assert f"line {line}, column {column}" in refusal.message
    assert hint in refusal.message


@pytest.mark.parametrize("body", ['{"a": [1,]}', '{"a": 1,}'])
def test_a_comma_too_many_is_named(body: Any) -> None:
    assert "comma" in refused(body.encode()).message


def test_the_pages_two_sms_samples_as_printed_are_pointed_at() -> None:
    samples = [(SAMPLES / name).read_text() for name in ("sms.txt", "sms_batch.txt")]
    for sample in samples:
        refusal = refused(sample.encode())
        printed = sample.splitlines()[refusal.extra["line"] - 1]
        assert printed[refusal.extra["column"] - 1] == "'"
    quoted = samples[0].replace("'", '"')
    assert "no comments" in refused(quoted.encode()).message


def test_a_name_given_twice_is_refused_since_others_may_have_read_the_other_one() -> None:
    assert "'to' is given twice" in refused(b'{"x": {"to": 1, "to": 2}}').message


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_what_json_does_not_know_as_a_number_is_refused(number: str) -> None:
    assert number in refused(f'{{"a": {number}}}'.encode()).message


def test_a_number_of_ten_thousand_digits_is_refused() -> None:
    assert "digits" in refused(b'{"a": ' + b"9" * 10_000 + b"}").message


@pytest.mark.parametrize("levels", [DEEPEST + 1, 500, 100_000])
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_deep_nesting_is_refused(levels: int, opening: bytes, closing: bytes) -> None:
    body = b'{"a":' + opening * levels + b"1" + closing * levels + b"}"
    assert "levels deep" in refused(body).message


def test_nesting_within_the_bound_is_taken_however_many_lists_there_are() -> None:
    value = {"a": [[index] for index in range(500)]}
    inner: object = 1
    for _ in range(DEEPEST - 1):
        inner = [inner]
    assert parse_json(json.dumps(value).encode()) == value
    assert parse_json(json.dumps({"a": inner}).encode()) == {"a": inner}


@pytest.mark.parametrize(("body", "kind"), [("[]", "a list"), ('"x"', "a text"), ("1", "a number"), ("null", "null")])
def test_what_is_no_object_is_refused_by_its_kind(body: Any, kind: Any) -> None:
    assert f"not {kind}" in refused(body.encode()).message


def test_a_byte_that_is_not_utf8_is_counted_out() -> None:
    assert "byte 8" in refused(b'{"a": "\xff"}').message


def test_a_byte_order_mark_is_skipped() -> None:
    assert parse_json(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}


def test_a_number_too_large_for_a_float_does_not_fail_the_reading() -> None:
    assert math.isinf(parse_json(b'{"a": 1e999}')["a"])


def test_more_lists_and_objects_than_memory_is_meant_for_are_refused_before_they_are_made() -> None:
    body = b'{"a": [' + b"[]," * MOST_OBJECTS + b"1]}"
    with pytest.raises(ApiError, match="more than 1,000,000 lists and objects"):
        parse_json(body)


def _ignoring_mistakes(body: bytes) -> None:
    with contextlib.suppress(ApiError):
        parse_json(body)


def _names(size: int) -> bytes:
    return b"{" + b", ".join(b'"%d": 1' % number for number in range(size)) + b', "%d": 1}' % (size - 1)


COSTLY_BODIES = {
    "many names and the last one twice": _names,
    "many objects with a name twice": lambda size: b'{"a": [' + b'{"b": 1, "b": 1},' * size + b"1]}",
    "lists": lambda size: b'{"a": [' + b"[]," * size + b"1]}",
    "a text without end": lambda size: b'{"a": "' + b"\\\\" * size,
    "spaces after a name": lambda size: b'{"a"' + b" " * size + b"1}",
    "quotes": lambda size: b'{"a": ' + b'"' * size,
    "a long number": lambda size: b'{"a": ' + b"9" * size + b"}",
    "lines before a mistake": lambda size: b"{" + b"\n" * size + b"'",
}


@pytest.mark.parametrize("make", COSTLY_BODIES.values(), ids=COSTLY_BODIES)
def test_a_body_twice_as_long_costs_twice_as_much(make: Callable[[int], bytes]) -> None:
    assert growth(make, _ignoring_mistakes, 4000) < MOST


@pytest.mark.parametrize("colon", [b":", b" :", b"\n\t :"])
def test_more_names_than_memory_is_meant_for_are_refused_before_they_are_made(colon: bytes) -> None:
    body = b'{"a": 1' + b', "b"' + colon + b"1" + (b',"c"' + colon + b"1") * MOST_NAMES + b"}"
    with pytest.raises(ApiError, match="more than 500,000 names"):
        parse_json(body)
