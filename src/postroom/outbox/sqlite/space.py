"""Space in the file: what removed messages took goes back to the disk."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from postroom.errors import OutboxError
from postroom.outbox.sqlite.database import connect, explained

if TYPE_CHECKING:
    from pathlib import Path

KEPT_FREE = 4 * 2**20
"""Bytes of free pages that stay in the file, since the next messages take them."""

MOST_AT_ONCE = 2 * 2**20
"""Bytes given back in one transaction: some milliseconds, in which others wait."""

_INCREMENTAL = 2
"""What `PRAGMA auto_vacuum` says of a file whose free pages can be given back (https://sqlite.org/pragma.html)."""

_COPIES = 2
"""How much of what it keeps `compact` writes beside the file: a temporary copy, and the copy's way through the WAL."""


def to_give_back(connection: sqlite3.Connection) -> int:
    """How many free pages are more than stay in the file.

    None in a file that an earlier version made, which keeps its free pages until it is compacted.
    """
    if _pragma(connection, "auto_vacuum") != _INCREMENTAL:
        return 0
    return max(0, _pragma(connection, "freelist_count") - KEPT_FREE // _pragma(connection, "page_size"))


def give_back(connection: sqlite3.Connection) -> None:
    """Cut some of these pages off the end of the file."""
    for _ in range(min(to_give_back(connection), MOST_AT_ONCE // _pragma(connection, "page_size"))):
        connection.execute("PRAGMA incremental_vacuum(1)")  # sqlite3 steps it once, and so frees one, whatever is asked


def compact(path: Path, busy_timeout: float) -> tuple[int, int]:
    """Write the file anew without its free pages; return the bytes it took before, and takes now.

    From then on `give_back` works in it too. Who writes meanwhile waits. Raises OutboxError when the disk has no room
    for the copies, or another process keeps the file locked.
    """
    with closing(connect(path, busy_timeout=busy_timeout, writes=True)) as connection:
        try:
            _check_room(connection, path)
            before = _taken(path)
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            raise explained(error, path) from error
    return before, _taken(path)


def _check_room(connection: sqlite3.Connection, path: Path) -> None:
    kept = _pragma(connection, "page_count") - _pragma(connection, "freelist_count")
    needed = _COPIES * kept * _pragma(connection, "page_size")
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise OutboxError(
            f"{path}: to write it anew takes {_mib(needed)} of room on its disk, and {_mib(free)} are free; make room, "
            "or remove more with `postroom outbox purge` before"
        )


def _taken(path: Path) -> int:
    wal = path.with_name(f"{path.name}-wal")
    return path.stat().st_size + (wal.stat().st_size if wal.exists() else 0)


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    value: int = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return value


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"
