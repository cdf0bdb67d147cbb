"""What the gateway keeps in the outbox's file: keys, and what they used. The tables are the outbox's second step."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from postroom.gateway.access.keys import Key, Scope
from postroom.gateway.access.sliding_window import Window

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from postroom.config.gateway import Limit

_COLUMNS = "id, name, digest, scope, created_at, revoked_at, flagged_at, suspended_at"


def add_key(connection: sqlite3.Connection, key: Key) -> None:
    row = (key.id, key.name, key.digest, key.scope.model_dump_json(), key.created_at.timestamp())
    connection.execute(f"INSERT INTO api_keys ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, NULL, NULL, NULL)", row)  # noqa: S608 - our own column names


def key_with_digest(connection: sqlite3.Connection, digest: str) -> Key | None:
    row = connection.execute(f"SELECT {_COLUMNS} FROM api_keys WHERE digest = ?", [digest]).fetchone()  # noqa: S608 - as above
    return None if row is None else _key(row)


def all_keys(connection: sqlite3.Connection) -> list[Key]:
    """Every key, the oldest first, revoked ones included."""
    rows = connection.execute(f"SELECT {_COLUMNS} FROM api_keys ORDER BY created_at, id")  # noqa: S608 - as above
    return [_key(row) for row in rows]


def revoke_key(connection: sqlite3.Connection, key_id: str, now: float) -> bool:
    """Revoke a key for good; False when there is none of that id. Its messages stay."""
    done = connection.execute("UPDATE api_keys SET revoked_at = ifnull(revoked_at, ?) WHERE id = ?", (now, key_id))
    return done.rowcount > 0


def lift_suspension(connection: sqlite3.Connection, key_id: str) -> bool:
    """End flag and suspension of a key and forget what led to them; False when there is none of that id."""
    done = connection.execute("UPDATE api_keys SET flagged_at = NULL, suspended_at = NULL WHERE id = ?", [key_id])
    connection.execute("DELETE FROM api_counts WHERE key_id = ?", [key_id])
    return done.rowcount > 0


def mark_key(connection: sqlite3.Connection, key_id: str, now: float, *, suspend: bool) -> bool:
    """Flag a key, or suspend it; False when it was already."""
    column = "suspended_at" if suspend else "flagged_at"
    done = connection.execute(f"UPDATE api_keys SET {column} = ? WHERE id = ? AND {column} IS NULL", (now, key_id))  # noqa: S608 - one of two constants
    return done.rowcount > 0


def read_window(connection: sqlite3.Connection, key_id: str, name: str, limit: Limit) -> Window:
    """Return what was counted under `name`; nothing when it was counted with other windows of time."""
    query = "SELECT slots FROM api_counts WHERE key_id = ? AND name = ?"
    row = connection.execute(query, (key_id, _label(name, limit))).fetchone()
    slots: dict[int, int] = dict(json.loads(row[0])) if row else {}
    return Window(limit, slots)


def write_windows(connection: sqlite3.Connection, key_id: str, windows: Iterable[tuple[str, Window]]) -> None:
    rows = [
        (key_id, _label(name, window.limit), json.dumps([*window.slots.items()]), window.forgotten_at())
        for name, window in windows
    ]
    connection.executemany("INSERT OR REPLACE INTO api_counts VALUES (?, ?, ?, ?)", rows)


def forget_windows(connection: sqlite3.Connection, now: float) -> None:
    """Remove what does not count any more, such as the windows of numbers that are not written to again."""
    connection.execute("DELETE FROM api_counts WHERE stale_at < ?", [now])


def _label(name: str, limit: Limit) -> str:
    return f"{name}/{limit.window}"


@lru_cache(maxsize=1024)
def _key(row: tuple[Any, ...]) -> Key:
    id_, name, digest, scope, created_at, *marks = row
    revoked_at, flagged_at, suspended_at = (_moment(mark) for mark in marks)
    return Key(
        id=id_,
        name=name,
        digest=digest,
        scope=Scope.model_validate_json(scope),
        created_at=datetime.fromtimestamp(created_at, UTC),
        revoked_at=revoked_at,
        flagged_at=flagged_at,
        suspended_at=suspended_at,
    )


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
