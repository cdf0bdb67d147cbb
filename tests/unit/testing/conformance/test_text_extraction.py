"""Whatever a request wraps a value in, the kit finds it; and nothing that is not there."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from email.header import Header
from email.message import EmailMessage
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.testing.conformance.fake_provider import spellings
from postroom.testing.conformance.text_extraction import mime_texts, request_texts
from postroom.testing.http import RecordedRequest

VALUES = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=8).map("kit{}kit".format)


def request(body: bytes, content_type: str, target: str = "/v1/messages") -> RecordedRequest:
    return RecordedRequest("POST", target, {"content-type": content_type}, body)


def multipart(value: str) -> bytes:
    return b'--b\r\nContent-Disposition: form-data; name="text"\r\n\r\n' + value.encode() + b"\r\n--b--\r\n"


WRAPPED = {
    "json": lambda value: request(json.dumps({"messages": [{"text": value}]}).encode(), "application/json"),
    "raw json": lambda value: request(json.dumps({"a": value}, ensure_ascii=False).encode(), "application/json"),
    "a key": lambda value: request(json.dumps({value: 1}).encode(), "application/json"),
    "base64": lambda value: request(
        json.dumps({"content": base64.b64encode(value.encode()).decode()}).encode(), "application/json"
    ),
    "encoded word": lambda value: request(
        json.dumps({"X-A": Header(value, "utf-8").encode(linesep="")}).encode(), "application/json"
    ),
    "a form": lambda value: request(urlencode({"Body": value}).encode(), "application/x-www-form-urlencoded"),
    "json in a form": lambda value: request(urlencode({"v": json.dumps({"a": value})}).encode(), "x-form"),
    "multipart": lambda value: request(multipart(value), "multipart/form-data; boundary=b"),
    "the query": lambda value: request(b"", "", f"/v1?{urlencode({'text': value})}"),
}


@pytest.mark.parametrize("wrapping", WRAPPED)
@given(value=VALUES)
def test_a_value_is_found_in_whatever_it_is_wrapped(wrapping: str, value: str) -> None:
    texts = request_texts(WRAPPED[wrapping](value))
    assert any(value in text for text in texts)
    assert not any(f"{value}!" in text for text in texts)


def test_an_email_is_read_part_by_part() -> None:
    message = EmailMessage()
    message["Subject"] = "Grüße aus der Küche"
    message.set_content("Ein Text\n")
    message.add_attachment("Inhalt äöü".encode(), "application", "octet-stream", filename="Überblick.bin")
    texts = mime_texts(message.as_bytes())
    for value in ("Grüße aus der Küche", "Ein Text", "Inhalt äöü", "Überblick.bin"):
        assert any(value in text for text in texts)


def test_line_ends_of_the_wire_are_those_of_the_message() -> None:
    assert "one\ntwo" in "".join(request_texts(request(b"one\r\ntwo", "text/plain")))
    assert spellings("one\r\ntwo") == ["one\ntwo"]


def test_a_moment_is_known_in_every_usual_spelling() -> None:
    moment = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    found = spellings(moment)
    assert {"1893553445", "2030-01-02T03:04:05", "Wed, 02 Jan 2030 03:04:05 +0000"} <= set(found)


def test_a_number_is_known_without_its_plus() -> None:
    assert spellings("+442079460000") == ["442079460000"]
    assert spellings("+not a number") == ["+not a number"]
