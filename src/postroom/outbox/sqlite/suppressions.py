"""The table of those who must not be written to."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from postroom.outbox.records import Suppression

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

    from postroom.outbox.records import Addressee

_COLUMNS = ("channel", "address", "category", "reason", "detail", "since", "lifted")


def match(connection: sqlite3.Connection, addressees: Iterable[Addressee]) -> dict[int, Suppression]:
    """Return what keeps any of `addressees` from being sent to, by their place."""
    if not connection.execute("SELECT EXISTS (SELECT 1 FROM suppressions)").fetchone()[0]:
        return {}
    wanted = [(place, *addressee) for place, addressee in enumerate(addressees)]
    return {place: _read(row) for place, *row in connection.execute(_MATCH, (json.dumps(wanted),))}


def put(connection: sqlite3.Connection, entry: Suppression) -> bool:
    """Write an entry; False when a later one for the same address, category and reason is there."""
    row = entry.channel, entry.address, entry.category, entry.reason, entry.detail
    return connection.execute(_PUT, (*row, entry.since.timestamp(), int(entry.lifted))).rowcount > 0


def listed(connection: sqlite3.Connection, channel: str | None, after: str, limit: int) -> list[Suppression]:
    """Return entries that hold, by their place in the list; from the one behind `after`."""
    rows = connection.execute(_LISTED, {"channel": channel, "after": after, "limit": limit})
    return [_read(row) for row in rows]


def _read(row: Sequence[Any]) -> Suppression:
    return Suppression.model_validate(dict(zip(_COLUMNS, row, strict=True)))


_HOLDS = (
    "NOT s.lifted AND NOT EXISTS (SELECT 1 FROM suppressions l WHERE l.channel = s.channel AND l.address = s.address "
    "AND l.category = s.category AND l.reason = 'manual' AND l.lifted AND l.since >= s.since)"
)
_MATCH = (
    f"SELECT wanted.value ->> 0, {', '.join(f's.{column}' for column in _COLUMNS)} FROM json_each(?) wanted "
    "CROSS JOIN suppressions s ON s.channel = wanted.value ->> 1 AND s.address = wanted.value ->> 2 "
    f"WHERE s.category IN ('', wanted.value ->> 3) AND {_HOLDS} ORDER BY s.since"
)
_PUT = """
INSERT INTO suppressions VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (channel, address, category, reason) DO UPDATE
SET detail = excluded.detail, since = excluded.since, lifted = excluded.lifted
WHERE excluded.since >= since
"""
_PLACE = "s.address || ' ' || s.channel || ' ' || s.category || ' ' || s.reason"
_LISTED = (
    f"SELECT {', '.join(_COLUMNS)} FROM suppressions s WHERE {_HOLDS} AND (:channel IS NULL OR channel = :channel) "
    f"AND {_PLACE} > :after ORDER BY {_PLACE} LIMIT :limit"
)
