"""Large texts and files are encoded piece by piece, so that no call keeps every other thread waiting."""

from __future__ import annotations

from email import message_from_bytes, policy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.messages import Attachment
from postroom.mime import parts
from postroom.mime.parts import Part, file_part, text_part

PIECE = parts._PIECE
LARGEST = 4 * PIECE
"""What the dearest encoding makes of a piece: three octets of each."""

UNITS = ["x", "Ж", "é and more ", "=", ".", " ", "a line\n", "a line\r\n", "\r", "\n", "\t\n", "x" * 75 + " ", "😀"]
AROUND_A_BORDER = [-77, -2, -1, 0, 1, 2, 77]


def read(part: Part) -> bytes:
    """What the standard library's parser reads, after the lines were looked at."""
    content = b"".join(part)
    assert content.count(b"\n") == content.count(b"\r") == content.count(b"\r\n")
    longest = max(map(len, content.split(b"\r\n")))
    assert longest <= (998 if b"Encoding: 7bit" in content else 78)  # 76, and a blank at the end of a line as `=20`
    message = message_from_bytes(content, policy=policy.SMTP)
    assert not message.defects
    payload = message.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload.replace(b"\r\n", b"\n")


def unix(text: str) -> bytes:
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return (lines if lines.endswith("\n") else f"{lines}\n").encode()


@pytest.mark.parametrize("unit", UNITS)
def test_texts_that_end_around_the_border_of_a_piece_come_back_whole(unit: str) -> None:
    for more in AROUND_A_BORDER:
        wanted = PIECE + more
        text = (unit * (wanted // len(unit.encode()) + 1)).encode()[:wanted].decode(errors="ignore")
        assert read(text_part(text, "plain")) == unix(text)


@settings(max_examples=50)
@given(
    st.integers(-80, 3),
    st.text(st.sampled_from("x.=é😀 \t\r\n"), min_size=1, max_size=90),
    st.sampled_from(["x", "é", "a\n"]),
)
def test_whatever_stands_across_a_border_comes_back(before: int, across: str, unit: str) -> None:
    text = (unit * PIECE).encode()[: PIECE + before].decode(errors="ignore") + across + "and the rest " * 3
    assert read(text_part(text, "plain")) == unix(text)


@pytest.mark.parametrize("more", AROUND_A_BORDER)
def test_files_that_end_around_the_border_of_a_piece_come_back(more: int) -> None:
    content = bytes(range(256)) * (PIECE // 128)
    content = content[: PIECE + more]
    message = message_from_bytes(b"".join(file_part(Attachment(filename="x.bin", content=content))))
    assert message.get_payload(decode=True) == content


@pytest.mark.parametrize("unit", UNITS)
def test_a_large_text_is_made_of_small_pieces(unit: str) -> None:
    text = unit * (3_000_000 // len(unit))
    assert max(map(len, text_part(text, "plain"))) <= LARGEST


@pytest.mark.parametrize("kind", ["application/octet-stream", "message/rfc822"])
def test_a_large_file_is_made_of_small_pieces(kind: str) -> None:
    attachment = Attachment(filename="x", content=b"a line\n" * 400_000, content_type=kind)
    assert max(map(len, file_part(attachment))) <= LARGEST


def test_a_line_that_runs_over_many_pieces_is_too_long_for_7bit() -> None:
    assert b"Encoding: 7bit" not in text_part("x" * 3 * PIECE, "plain")[0]
    assert b"Encoding: 7bit" in text_part("a line\n" * PIECE, "plain")[0]
