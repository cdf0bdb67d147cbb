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
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM suppressions"


def match(connection: sqlite3.Connection, addressees: Iterable[Addressee]) -> dict[int, Suppression]:
    """Return what keeps any of `addressees` from being sent to, by their place."""
    if not connection.execute("SELECT EXISTS (SELECT 1 FROM suppressions)").fetchone()[0]:
        return {}
    wanted = [(place, *addressee) for place, addressee in enumerate(addressees)]
    return {place: _read(row) for place, *row in connection.execute(_MATCH, (json.dumps(wanted),))}


def put(connection: sqlite3.Connection, entry: Suppression) -> bool:
    """Write an entry; False when a later one for the same address and category is there."""
    row = entry.channel, entry.address, entry.category, entry.reason, entry.detail
    return connection.execute(_PUT, (*row, entry.since.timestamp(), int(entry.lifted))).rowcount > 0


def listed(connection: sqlite3.Connection, channel: str | None, after: str, limit: int) -> list[Suppression]:
    """Return entries that hold, by their place in the list; from the one behind `after`."""
    rows = connection.execute(_LISTED, {"channel": channel, "after": after, "limit": limit})
    return [_read(row) for row in rows]


def _read(row: Sequence[Any]) -> Suppression:
    return Suppression.model_validate(dict(zip(_COLUMNS, row, strict=True)))


_MATCH = (
    f"SELECT wanted.value ->> 0, {', '.join(f's.{column}' for column in _COLUMNS)} FROM json_each(?) wanted "
    "CROSS JOIN suppressions s ON s.channel = wanted.value ->> 1 AND s.address = wanted.value ->> 2 "
    "WHERE s.category IN ('', wanted.value ->> 3) AND NOT s.lifted"
)
_PUT = """
INSERT INTO suppressions VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (channel, address, category) DO UPDATE
SET reason = excluded.reason, detail = excluded.detail, since = excluded.since, lifted = excluded.lifted
WHERE excluded.since >= since
"""
_LISTED = (
    f"{_SELECT} WHERE NOT lifted AND (:channel IS NULL OR channel = :channel) "
    "AND address || ' ' || channel || ' ' || category > :after "
    "ORDER BY address || ' ' || channel || ' ' || category LIMIT :limit"
)
