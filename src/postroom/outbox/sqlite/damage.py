"""Reading what may be damaged: a value that is no text any more costs its own row, and no other."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from postroom.receipts import Channel, Status

if TYPE_CHECKING:
    from collections.abc import Iterator

_STATUSES, _CHANNELS = frozenset(Status), frozenset(Channel)


@contextmanager
def tolerated(connection: sqlite3.Connection) -> Iterator[None]:
    """Within it, a text that is no UTF-8 is bytes, where it otherwise fails the statement and all its rows."""
    before = connection.text_factory
    connection.text_factory = decoded
    try:
        yield
    finally:
        connection.text_factory = before


def decoded(raw: bytes) -> str | bytes:
    """Return a stored text, or its bytes where they are no UTF-8."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def is_damage(error: BaseException | None) -> bool:
    """Whether SQLite met a page that is none of its file: not a lock, a full disk or missing rights."""
    return type(error) is sqlite3.DatabaseError  # those have errors of their own, derived from it


def intact_files(connection: sqlite3.Connection, seq: int) -> dict[int, bytes]:
    """Return the contents of a message's attachments by their number, without those that are not what was stored."""
    try:
        with tolerated(connection):
            rows = connection.execute(_FILES, (seq,)).fetchall()
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        return {}
    return {
        number: content
        for number, digest, content in rows
        if isinstance(content, bytes) and hashlib.sha256(content).digest() == digest
    }


_FILES = "SELECT number, hash, content FROM message_files JOIN files USING (hash) WHERE seq = ?"


def number(value: Any, otherwise: float) -> float:
    """Return a stored number, or `otherwise` for what is none."""
    return value if isinstance(value, int | float) else otherwise


def text(value: Any) -> str:
    """Return a stored text as far as it can be shown."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def status(value: Any) -> Status:
    """Return a stored status; of a message without a known one nobody knows whether it was sent."""
    return Status(value) if value in _STATUSES else Status.IN_DOUBT


def channel(value: Any) -> Channel:
    """Return a stored channel, or e-mail for what is none."""
    return Channel(value) if value in _CHANNELS else Channel.EMAIL
