"""Reading what may be damaged: a value that is no text any more costs its own row, and no other."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def tolerated(connection: sqlite3.Connection) -> Iterator[None]:
    """Within it, a text that is no UTF-8 is bytes, where it otherwise fails the statement and all its rows."""
    before = connection.text_factory
    connection.text_factory = _text
    try:
        yield
    finally:
        connection.text_factory = before


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


def _text(raw: bytes) -> str | bytes:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw
