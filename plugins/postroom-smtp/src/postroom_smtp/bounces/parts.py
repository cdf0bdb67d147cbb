"""A mail taken apart: its report, the message that it returns, and what it says in words."""

from __future__ import annotations

import html
import re
from datetime import UTC, datetime
from email.message import Message
from email.parser import BytesParser
from functools import cached_property
from typing import TYPE_CHECKING, Any

from postroom_smtp.bounces.fields import LONGEST_FIELD, MOST_FIELDS, Fields, addresses, dated

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LONGEST_NOTICE = 40_000
"""Characters that are read of what a mail says in words."""

_RETURNED = frozenset(
    {
        "message/rfc822",
        "text/rfc822-headers",
        "message/global",
        "message/global-headers",
        "text/rfc822-header",
        "text/rfc822",
        "message/rfc822-headers",
    }
)
"""The message that a report returns, or its headers (RFC 6522, RFC 6533); and how some servers misspell these."""

_CHARSETS = re.compile(
    r"utf-?8|us-ascii|iso-8859-\d+|windows-125\d|iso-2022-(?:jp|kr)|shift_jis|euc-(?:jp|kr)|gb2312|gbk|gb18030|big5|"
    r"koi8-[ru]",
    re.IGNORECASE,
)
_MESSAGE_ID = re.compile(r"<[^<>\s]{1,998}>")
_QUOTED_ID = re.compile(r"^[> \t|]*Message-ID:\s*(<[^<>\s]{1,998}>)", re.IGNORECASE | re.MULTILINE)
_HEADER = re.compile(r"^[> \t|]*(?:Received|Return-Path|Message-ID|From|Date):", re.IGNORECASE | re.MULTILINE)
_TAG = re.compile(r"<[^<>]*>")
_BREAK = re.compile(r"<(?:br|/?p|/?div|/?tr|/?li)\b[^<>]*>", re.IGNORECASE)
_IN_VIEW = ("text/plain", "text/html", "text")


class MailPart(Message):
    """A part of a mail. Only multiparts are taken apart: a mail or a report within it stays the text that it is."""

    @property
    def kind(self) -> str:
        return super().get_content_type()

    def get_content_type(self) -> str:
        return self.kind if self.kind.startswith("multipart/") else "text/plain"


class Mail:
    """A mail that was posted, as far as reports need it. Raises nothing for one that is odd."""

    def __init__(self, body: bytes) -> None:
        self.whole = BytesParser(MailPart).parsebytes(body)
        self._leaves = [part for part in self.whole.walk() if not part.is_multipart()]

    def field(self, name: str) -> str:
        """A field of the mail on one line; bytes that are no ASCII come out as what stands for them."""
        return next(iter(self.every(name)), "")

    def every(self, name: str) -> list[str]:
        found = (self.whole.get_all(name) or [])[:MOST_FIELDS]
        return [" ".join(_text(value).split())[:LONGEST_FIELD] for value in found]

    def reports(self, *kinds: str) -> list[str]:
        """The text of each part of these types."""
        return [_content(part) for part in self._leaves if part.kind in kinds]

    @cached_property
    def returned(self) -> Fields:
        """The headers of the message that is returned; none where nothing is, or it is only quoted in the text."""
        found = next((_content(part) for part in self._leaves if part.kind in _RETURNED), "")
        return Fields(re.split(r"\r?\n[ \t]*\r?\n", found.lstrip("\r\n"), maxsplit=1)[0])

    @cached_property
    def message_id(self) -> str | None:
        """The Message-ID of the message that the mail is about, from wherever it is said."""
        found = _MESSAGE_ID.search(self.returned.get("Message-ID")) or _MESSAGE_ID.search(self.field("In-Reply-To"))
        if found:
            return found[0]
        quoted = _QUOTED_ID.search(self.words)
        return quoted[1] if quoted else None

    @cached_property
    def sent_to(self) -> frozenset[str]:
        """Whom the returned message names as its recipients, in small letters."""
        return frozenset(self._returned_addresses("To", "Cc"))

    @cached_property
    def sent_from(self) -> frozenset[str]:
        """Whom the returned message, and the one that returns it, name as their senders: us, and the server."""
        named = [self.field(name) for name in ("To", "From", "Return-Path", "Sender")]
        of_mail = (address.lower() for value in named for address in addresses(value))
        return frozenset({*of_mail, *self._returned_addresses("From", "Return-Path", "Sender", "Reply-To")})

    @property
    def sender(self) -> str | None:
        return next(iter(addresses(self.field("From"))), None)

    @cached_property
    def when(self) -> Mapping[str, Any]:
        """The time in `Date`, or now."""
        return dated(self.field("Date")) or {"occurred_at": datetime.now(UTC), "dated": False}

    @cached_property
    def words(self) -> str:
        """What the mail says in words, the message that it quotes in them included.

        So does a multipart that has no parts, since its boundary is another than it says.
        """
        shown = [part for part in self._leaves if part.kind in _IN_VIEW or part.kind.startswith("multipart/")]
        plain = [part for part in shown if part.kind != "text/html"] or shown
        return "\n".join(_shown(part) for part in plain)[:LONGEST_NOTICE]

    def _returned_addresses(self, *names: str) -> Iterator[str]:
        headers = self.returned or Fields(_quoted_headers(self.words))
        for name in names:
            yield from (address.lower() for address in addresses(headers.get(name)))


def _quoted_headers(words: str) -> str:
    found = _HEADER.search(words)
    return "\n".join(line.lstrip("> |") for line in words[found.start() :].splitlines()) if found else ""


def _shown(part: MailPart) -> str:
    text = _content(part)
    if part.kind != "text/html":
        return text
    return html.unescape(_TAG.sub("", _BREAK.sub("\n", text)))


def _content(part: MailPart) -> str:
    content = part.get_payload(decode=True)
    if not isinstance(content, bytes):
        return ""
    charset = _text(part.get_param("charset") or "")
    name = charset if _CHARSETS.fullmatch(charset) else "utf-8"
    text = content.decode(name, "replace")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _text(value: object) -> str:
    return str(value).encode(errors="replace").decode()
