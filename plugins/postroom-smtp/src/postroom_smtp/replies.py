"""Parser of SMTP replies, fed with whatever the network delivers (RFC 5321 section 4.2)."""

from __future__ import annotations

import re
from typing import NamedTuple

LONGEST_LINE = 8_192
"""Octets in a reply line; RFC 5321 section 4.5.3.1.5 allows 512."""

LONGEST_REPLY = 65_536
"""Octets in all lines of one reply; a server that sends more is broken or hostile."""

_ENHANCED = re.compile(rb"([245]\.\d{1,3}\.\d{1,3})(?:[ \t]+|$)")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\s]+")


class SmtpReply(NamedTuple):
    """One whole reply: its code, and its lines without the code, joined by line feeds."""

    code: int
    text: bytes

    @property
    def positive(self) -> bool:
        return 200 <= self.code < 300

    @property
    def negative(self) -> bool:
        return self.code >= 400

    @property
    def enhanced(self) -> str | None:
        """The enhanced status code (RFC 3463), where the reply begins with one."""
        found = _ENHANCED.match(self.text)
        return found[1].decode() if found else None

    @property
    def words(self) -> str:
        """The text on one line, without the enhanced codes that RFC 2034 repeats on each."""
        lines = (_ENHANCED.sub(b"", line, count=1) for line in self.text.split(b"\n"))
        return _UNPRINTABLE.sub(" ", b" ".join(lines).decode("utf-8", "replace")).strip()


class ReplyReader:
    """Cuts the stream into replies; memory is bounded whatever the server sends.

    `broken` says what is wrong once the stream stops being SMTP; the replies before that point still count.
    """

    __slots__ = ("_begun", "_code", "_held", "_rest", "broken")

    def __init__(self) -> None:
        self._rest = b""
        self._begun: list[bytes] = []
        self._code = b""
        self._held = 0
        self.broken: str | None = None

    @property
    def between_replies(self) -> bool:
        """Whether everything received so far was whole replies."""
        return not (self._rest or self._begun or self.broken)

    def feed(self, data: bytes) -> list[SmtpReply]:
        """Return the replies that `data` completes."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        replies: list[SmtpReply] = []
        for line in lines:
            reply = self._add(line)
            if self.broken:
                return replies
            if reply is not None:
                replies.append(reply)
        if len(self._rest) > LONGEST_LINE:
            self._break("a reply line without end")
        return replies

    def _add(self, line: bytes) -> SmtpReply | None:
        line = line.removesuffix(b"\r")
        code, mark, text = line[:3], line[3:4], line[4:]
        if len(line) > LONGEST_LINE:
            return self._break("a reply line without end")
        if not _is_code(code) or mark not in (b" ", b"-", b"") or (self._begun and code != self._code):
            return self._break("something that is not an SMTP reply")
        if mark == b"-":
            return self._continue(code, text)
        if not self._begun:
            return SmtpReply(int(code), text)
        reply = SmtpReply(int(code), b"\n".join([*self._begun, text]))
        self._begun, self._held = [], 0
        return reply

    def _continue(self, code: bytes, text: bytes) -> SmtpReply | None:
        self._code = code
        self._begun.append(text)
        self._held += len(text) + 1
        if self._held > LONGEST_REPLY:
            return self._break("a reply without end")
        return None

    def _break(self, why: str) -> SmtpReply | None:
        self.broken, self._rest, self._begun = why, b"", []
        return None


def _is_code(code: bytes) -> bool:
    return len(code) == 3 and code.isdigit() and b"200" <= code < b"600"
