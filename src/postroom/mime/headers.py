"""Header section of an e-mail: folded, encoded where it is not ASCII, without Bcc."""

from __future__ import annotations

import re
from binascii import b2a_base64
from email.utils import format_datetime
from functools import lru_cache
from typing import TYPE_CHECKING

from postroom.addresses import quoted_name
from postroom.errors import MessageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from postroom.addresses import Address
    from postroom.messages import Email

_WIDTH = 78
_TOKENS = re.compile(r" *[^ ]+")
_MAILBOX_TOKENS = re.compile(r' *(?:"(?:[^"\\]|\\.)*"|[^ ])+')
"""What is folded between: a quoted string stays whole, since older parsers end it at a line break."""

_LONGEST_NAME = 200
_ADDRESS_HEADERS = frozenset({"From", "To", "Cc", "Reply-To"})
_UNFOLDABLE = re.compile(rb"[^ ]{850}| {60}")
"""Runs that, with a header's name before them, could pass the 998 octets of a line."""

_PRIORITIES = {
    "high": (("X-Priority", "1"), ("Importance", "high")),
    "low": (("X-Priority", "5"), ("Importance", "low")),
}


def header_lines(email: Email, *, smtputf8: bool) -> bytes:
    """Return every header but the MIME ones, each line ended by CRLF."""
    lines = [folded(name, value) for name, value in _headers(email, smtputf8=smtputf8)]
    return "\r\n".join([*lines, ""]).encode()


def _headers(email: Email, *, smtputf8: bool) -> Iterator[tuple[str, str]]:
    given = {name.lower() for name in email.headers}
    if email.from_:
        yield "From", _mailbox(email.from_, smtputf8)
    if email.to or not email.cc:
        yield "To", _mailboxes(email.to, smtputf8) or "undisclosed-recipients:;"
    if email.cc:
        yield "Cc", _mailboxes(email.cc, smtputf8)
    if email.reply_to:
        yield "Reply-To", _mailboxes(email.reply_to, smtputf8)
    yield "Subject", _words("Subject", email.subject, smtputf8)
    if "date" not in given:
        yield "Date", format_datetime(email.date)
    if email.message_id:
        yield "Message-ID", email.message_id
    yield from (header for header in _PRIORITIES.get(email.priority, ()) if header[0].lower() not in given)
    for name, value in email.headers.items():
        yield name, _words(name, value, smtputf8)


def _mailboxes(addresses: tuple[Address, ...], smtputf8: bool) -> str:
    return ", ".join(_mailbox(address, smtputf8) for address in addresses)


@lru_cache(maxsize=4096)
def _mailbox(address: Address, smtputf8: bool) -> str:
    email = address.email if smtputf8 else address.ascii_email
    if email is None:
        raise MessageError(f"{address.email} needs SMTPUTF8, which the server does not offer; nothing was sent")
    if not address.name:
        return email
    return f"{_phrase(address.name, smtputf8)} <{email}>"


def _phrase(name: str, smtputf8: bool) -> str:
    if len(name) > _LONGEST_NAME or not _travels_as_it_is(name, smtputf8):
        return _encoded(name, "Reply-To")
    return quoted_name(name)


def _words(header: str, value: str, smtputf8: bool) -> str:
    value = value.strip()
    return value if _travels_as_it_is(value, smtputf8) else _encoded(value, header)


def _travels_as_it_is(value: str, smtputf8: bool) -> bool:
    """Whether `value` can be written, is not read as an encoded word, and can be folded."""
    if "=?" in value or not (smtputf8 or value.isascii()):
        return False
    return len(value) < 60 or not _UNFOLDABLE.search(value.encode())


def _encoded(text: str, header: str) -> str:
    """Encoded words (RFC 2047) of whole characters: 75 octets each, the first with its header name 76."""
    octets, words, start = text.encode(), [], 0
    room = max((_WIDTH - 2 - len(f"{header}: =?utf-8?b??=")) // 4 * 3, 12)
    while start < len(octets):
        end = min(start + min(room, 45), len(octets))
        while end < len(octets) and octets[end] & 0xC0 == 0x80:
            end -= 1
        words.append(f"=?utf-8?b?{b2a_base64(octets[start:end], newline=False).decode()}?=")
        start, room = end, 45
    return " ".join(words)


def folded(name: str, value: str) -> str:
    """Return a header folded at spaces. A longer word stays whole, since a URL or an id must not be cut."""
    line = f"{name}: {value}"
    if "\r" in line or "\n" in line or "\0" in line:
        raise MessageError(f"the header {name!r} contains a line break or NUL; nothing was sent")
    if len(line) <= _WIDTH:
        return line
    first, *tokens = (_MAILBOX_TOKENS if name in _ADDRESS_HEADERS else _TOKENS).findall(f" {value}")
    lines, current = [], f"{name}:{first}"
    for token in tokens:
        if len(current) + len(token) > _WIDTH:
            lines.append(current)
            current = token
        else:
            current += token
    return "\r\n".join([*lines, current])
