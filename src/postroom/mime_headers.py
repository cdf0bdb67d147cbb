"""The header section of an e-mail: folded, encoded where it is not ASCII, without Bcc."""

from __future__ import annotations

from datetime import UTC, datetime
from email.header import Header
from email.utils import format_datetime
from email.utils import quote as escaped
from functools import lru_cache
from re import compile as regex
from typing import TYPE_CHECKING

from postroom.errors import MessageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from postroom.addresses import Address
    from postroom.messages import Email

_WIDTH = 78
_LONGEST = 998
_ATOMS = regex(r"[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~ ]*")
_PRIORITIES = {"high": ("1", "high"), "low": ("5", "low")}


def header_lines(email: Email, *, smtputf8: bool) -> bytes:
    """Return every header but the MIME ones, each line ended by CRLF."""
    lines = [_folded(name, value) for name, value in _headers(email, smtputf8=smtputf8)]
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
        yield "Date", format_datetime(datetime.now(UTC))
    if email.message_id:
        yield "Message-ID", email.message_id
    if email.priority in _PRIORITIES:
        number, word = _PRIORITIES[email.priority]
        yield "X-Priority", number
        yield "Importance", word
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
    if not smtputf8 and not name.isascii():
        return _encoded("", name)
    return name if _ATOMS.fullmatch(name) else f'"{escaped(name)}"'


def _words(header: str, value: str, smtputf8: bool) -> str:
    """Unstructured text; encoded too where it would be read as an encoded word, or cannot be folded."""
    value = value.strip()
    longest = max((len(word) for word in value.split(" ")), default=0)
    if (value.isascii() or smtputf8) and "=?" not in value and longest < _LONGEST - len(header) - 2:
        return value
    return _encoded(header, value)


def _encoded(header: str, text: str) -> str:
    return Header(text, "utf-8", maxlinelen=_WIDTH, header_name=header or None).encode(linesep="\r\n")


def _folded(name: str, value: str) -> str:
    """Fold at spaces. A word longer than the width stays whole, since a URL or an id must not be cut."""
    line = f"{name}: {value}"
    if len(line) <= _WIDTH or "\r\n" in value:
        return line
    lines, current = [], f"{name}:"
    for word in value.split(" "):
        if len(current) + 1 + len(word) > _WIDTH and current.strip(" ") not in {"", f"{name}:"}:
            lines.append(current)
            current = ""
        current = f"{current} {word}"
    return "\r\n".join([*lines, current])
