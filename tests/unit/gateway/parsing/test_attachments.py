"""Attachments and images of the wire, in every encoding."""

from __future__ import annotations

import base64
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.attachments import LARGEST_EMAIL
from postroom.gateway.http.errors import ApiError, Problem
from postroom.gateway.parsing.attachments import ENCODINGS, parse_files


def read_one(where: Any = "attachments", **item: Any) -> Any:
    problems: list[Problem] = []
    files = parse_files([{"name": "a.bin", "type": "application/x-test", **item}], where, 10, problems)
    return problems or files[0][1]


def written(content: bytes, encoding: str) -> str:
    """What a Node Buffer's `toString(encoding)` gives."""
    if encoding == "base64":
        return base64.b64encode(content).decode()
    if encoding == "base64url":
        return base64.urlsafe_b64encode(content).decode().rstrip("=")
    if encoding == "hex":
        return content.hex()
    return content.decode("latin-1")


@given(st.binary(max_size=60), st.sampled_from(["base64", "base64url", "hex", "binary", "latin1"]), st.booleans())
def test_any_bytes_come_through_every_encoding_that_can_write_them(content: Any, encoding: Any, shout: Any) -> None:
    name = encoding.upper() if shout else encoding
    assert read_one(content=written(content, encoding), encoding=name)["content"] == content


@given(st.text(st.characters(blacklist_categories=["Cs"]), max_size=40))
def test_any_text_comes_through_the_unicode_encodings_and_without_one(text: str) -> None:
    for encoding in ("utf8", "utf-8", None, ""):
        assert read_one(content=text, encoding=encoding)["content"] == text.encode()
    for encoding in ("utf16le", "utf-16le", "ucs2", "ucs-2"):
        assert read_one(content=text, encoding=encoding)["content"] == text.encode("utf-16-le")


@given(st.binary(max_size=60))
def test_a_node_buffer_object_is_its_bytes(content: Any) -> None:
    assert read_one(content={"type": "Buffer", "data": list(content)})["content"] == content


def test_every_encoding_is_known_to_these_tests() -> None:
    assert set(ENCODINGS) == {"base64", "base64url", "hex", "binary", "latin1", "utf8", "utf-8", "ascii"} | {
        "utf16le",
        "utf-16le",
        "ucs2",
        "ucs-2",
    }


@pytest.mark.parametrize("text", ["SGVsbG8=", "SGVsbG8", "SGVs\r\nbG8=", " SGVsbG8= "])
def test_base64_needs_no_padding_and_may_be_folded(text: str) -> None:
    assert read_one(content=text, encoding="base64")["content"] == b"Hello"


def test_either_base64_alphabet_is_read_under_either_name() -> None:
    for encoding in ("base64", "base64url"):
        assert read_one(content="-_8", encoding=encoding)["content"] == b"\xfb\xff"
        assert read_one(content="+/8=", encoding=encoding)["content"] == b"\xfb\xff"


def test_content_that_happens_to_be_base64_is_not_decoded_unasked() -> None:
    assert read_one(content="SGVsbG8=")["content"] == b"SGVsbG8="


@pytest.mark.parametrize(
    ("item", "field", "told"),
    [
        ({"content": "zz", "encoding": "hex"}, "content", "not valid hex"),
        ({"content": "abc", "encoding": "hex"}, "content", "not valid hex"),
        ({"content": "!!!!", "encoding": "base64"}, "content", "not valid base64"),
        ({"content": "A", "encoding": "base64"}, "content", "not valid base64"),
        ({"content": "data:image/png;base64,AAAA", "encoding": "base64"}, "content", "leave the 'data:"),
        ({"content": "aβ", "encoding": "latin1"}, "content", "character 2 does not fit latin1"),
        ({"content": "\ud800"}, "content", "character 1 does not fit utf8"),
        ({"content": "x", "encoding": "rot13"}, "encoding", "must be one of base64"),
        ({"content": "x", "encoding": 3}, "encoding", "must be one of"),
        ({}, "content", "is missing"),
        ({"content": 3}, "content", "must be a text"),
        ({"content": {"type": "Buffer", "data": [256]}}, "content", "0 to 255"),
        ({"content": {"type": "Buffer", "data": ["x"]}}, "content", "0 to 255"),
        ({"content": {"type": "Buffer", "data": 10**9}}, "content", "Node Buffer"),
        ({"content": {"type": "Blob", "data": []}}, "content", "Node Buffer"),
        ({"content": "x", "name": ""}, "name", "is missing"),
        ({"content": "x", "name": 7}, "name", "must be a text"),
        ({"content": "x", "type": 7}, "type", "must be a text"),
    ],
)
def test_a_mistake_is_told_with_its_place(item: Any, field: str | None, told: Any) -> None:
    (problem,) = read_one(**item)
    assert problem.field == f"attachments[0].{field}"
    assert told in problem.message


def test_an_image_is_inline_by_its_name_and_base64_unless_it_says_otherwise() -> None:
    read = read_one("images", name="logo", type="image/png", content="iVBORw==")
    assert read == {"filename": "logo", "content": b"\x89PNG", "content_type": "image/png"} | {
        "inline": True,
        "content_id": "logo",
    }
    assert read_one("images", content="89504e47", encoding="hex")["content"] == b"\x89PNG"


def test_a_text_says_that_it_is_utf8() -> None:
    assert read_one(type="text/plain", content="é")["content_type"] == "text/plain; charset=utf-8"
    assert read_one(type="text/csv; charset=x", content="é")["content_type"] == "text/csv; charset=x"
    assert read_one(type="text/plain", content="6869", encoding="hex")["content_type"] == "text/plain"


@pytest.mark.parametrize("given", [None, "", []])
def test_no_attachments_in_any_form_are_none(given: Any) -> None:
    problems: list[Problem] = []
    assert parse_files(given, "attachments", 10, problems) == []
    assert problems == []


@pytest.mark.parametrize(
    ("given", "told"), [("x", "must be a list"), (["x"], "must be an object"), ([{}] * 11, "11 files")]
)
def test_what_is_no_list_of_objects_is_told(given: Any, told: Any) -> None:
    problems: list[Problem] = []
    assert parse_files(given, "attachments", 10, problems) == []
    assert told in problems[0].message


@pytest.mark.parametrize("encoding", ["base64", "hex", "utf8"])
def test_files_too_large_are_refused_before_they_are_decoded(encoding: Any) -> None:
    text = "A" * (3 * LARGEST_EMAIL)
    tracemalloc.start()
    with pytest.raises(ApiError) as caught:
        read_one(content=text, encoding=encoding)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert caught.value.status == 413
    assert peak < 100_000


def test_files_that_are_too_large_together_are_refused() -> None:
    half = {"name": "a", "content": "A" * (LARGEST_EMAIL // 2 + 1)}
    with pytest.raises(ApiError, match="at most 40,000,000 bytes"):
        parse_files([half, half], "attachments", 10, [])
