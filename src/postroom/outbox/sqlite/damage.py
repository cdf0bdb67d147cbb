"""Reading what may be damaged: a value that is no text any more costs its own row, and no other."""

from __future__ import annotations

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


def _text(raw: bytes) -> str | bytes:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw
