"""Replies are read alike, however the network cuts them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DataObject

from postroom_smtp.envelope import dot_stuffed, with_crlf
from postroom_smtp.replies import LONGEST_LINE, LONGEST_REPLY, ReplyReader, SmtpReply

TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)
REPLIES = st.lists(st.tuples(st.integers(200, 599), st.lists(TEXT, min_size=1, max_size=4)), max_size=5)


def wire(replies: list[tuple[int, list[str]]]) -> bytes:
    lines = []
    for code, texts in replies:
        lines += [f"{code}-{text}\r\n" for text in texts[:-1]]
        lines.append(f"{code} {texts[-1]}\r\n")
    return "".join(lines).encode()


@given(REPLIES, st.data())
def test_any_cut_of_the_stream_gives_the_same_replies(replies: list[tuple[int, list[str]]], data: DataObject) -> None:
    stream = wire(replies)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    reader, heard = ReplyReader(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        heard += reader.feed(stream[start:end])
    assert heard == [SmtpReply(code, "\n".join(texts).encode()) for code, texts in replies]
    assert reader.between_replies
    assert reader.broken is None


@given(st.binary(max_size=300))
def test_anything_at_all_is_read_or_called_broken(junk: bytes) -> None:
    reader = ReplyReader()
    for reply in reader.feed(junk):
        assert 200 <= reply.code < 600


@pytest.mark.parametrize(
    "stream",
    [
        b"HTTP/1.1 400\r\n",
        b"25\r\n",
        b"999 no\r\n",
        b"250_ok\r\n",
        b"250-a\r\n550 b\r\n",
        b"\r\n",
        b"\xb2\xb5\xb0 ok\r\n",
    ],
)
def test_what_is_no_reply_breaks_the_stream(stream: bytes) -> None:
    reader = ReplyReader()
    assert reader.feed(stream) == []
    assert reader.broken


def test_replies_before_the_break_still_count() -> None:
    reader = ReplyReader()
    assert reader.feed(b"250 ok\r\nnonsense\r\n250 ok\r\n") == [SmtpReply(250, b"ok")]
    assert reader.broken


def test_lines_and_replies_are_bounded() -> None:
    reader = ReplyReader()
    reader.feed(b"2" * (LONGEST_LINE + 1))
    assert reader.broken
    reader = ReplyReader()
    for _ in range(LONGEST_REPLY // 8 + 1):
        reader.feed(b"250-abcdefg\r\n")
    assert reader.broken


def test_enhanced_code_and_words_are_told_apart() -> None:
    reply = SmtpReply(550, b"5.1.1 No such user\n5.1.1 here\tat all")
    assert reply.enhanced == "5.1.1"
    assert reply.words == "No such user here at all"
    assert SmtpReply(550, b"No 5.1.1 here").enhanced is None


@given(st.binary(max_size=200))
def test_content_has_crlf_only_and_one_end(content: bytes) -> None:
    ready = with_crlf(content)
    assert ready.endswith(b"\r\n")
    assert ready.replace(b"\r\n", b"").count(b"\r") == ready.replace(b"\r\n", b"").count(b"\n") == 0
    wire = dot_stuffed(ready)
    assert wire.endswith(b"\r\n.\r\n") or ready == b"\r\n"
    body = wire[:-3]
    assert b"\r\n.\r\n" not in b"\r\n" + body
    lines = [line[1:] if line.startswith(b".") else line for line in body.split(b"\r\n")]
    assert b"\r\n".join(lines) == ready


@pytest.mark.parametrize(
    "trick", [b"a\n.\nb", b"a\r.\rb", b"a\r\n.\nb", b"a\n.\r\nb", b".", b"..\r\n.\r\n", b"\r\r\n.\r\n"]
)
def test_no_line_ending_can_end_the_message_early(trick: bytes) -> None:
    """CVE-2023-51764, -51765, -51766."""
    wire = dot_stuffed(with_crlf(trick))
    for end in (b"\r\n.\r\n", b"\n.\n", b"\r.\r", b"\n.\r\n", b"\r\n.\n"):
        assert end not in wire.removesuffix(b"\r\n.\r\n")
