"""The table of those who must not be written to."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

Row = tuple[str, str, str, str, str | None, float, int]

COLUMNS = ("channel", "address", "category", "reason", "detail", "since", "lifted")
_SELECT = f"SELECT {', '.join(COLUMNS)} FROM suppressions"


Wanted = tuple[int, str, str, str]
"""A number of the caller's own, the channel, an address, and the category of what is for it."""


def is_empty(connection: sqlite3.Connection) -> bool:
    return not connection.execute("SELECT EXISTS (SELECT 1 FROM suppressions)").fetchone()[0]


def among(connection: sqlite3.Connection, wanted: Sequence[Wanted]) -> list[tuple[int, Row]]:
    """Return what keeps any of `wanted` from being sent, with its number."""
    found = connection.execute(_AMONG, (json.dumps(wanted),))
    return [(number, tuple(row)) for number, *row in found]


def put(connection: sqlite3.Connection, row: Row) -> bool:
    """Write an entry; False when a later one for the same address and category is there."""
    return connection.execute(_PUT, row).rowcount > 0


def listed(connection: sqlite3.Connection, channel: str | None, after: str, limit: int) -> list[Row]:
    """Return entries that hold, by address; from the one behind `after`, an address, channel and category."""
    return connection.execute(_LISTED, {"channel": channel, "after": after, "limit": limit}).fetchall()


_AMONG = (
    f"SELECT wanted.value ->> 0, {', '.join(f's.{column}' for column in COLUMNS)} FROM json_each(?) wanted "
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
