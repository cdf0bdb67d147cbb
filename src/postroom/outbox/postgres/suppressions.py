"""The table of those who must not be written to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from postroom.outbox.records import Suppression

if TYPE_CHECKING:
    from collections.abc import Iterable

    from asyncpg import Connection, Record

    from postroom.outbox.records import Addressee

_COLUMNS = "channel, address, category, reason, detail, since, lifted"


async def match(connection: Connection, addressees: Iterable[Addressee]) -> dict[int, Suppression]:
    """Return what keeps any of `addressees` from being sent to, by their place."""
    wanted = list(addressees)
    if not wanted:
        return {}
    channels, addresses, categories = zip(*wanted, strict=True)
    rows = await connection.fetch(_MATCH, channels, addresses, categories)
    return {place - 1: _read(row) for place, *row in rows}


async def put(connection: Connection, entry: Suppression) -> bool:
    """Write an entry; False when a later one for the same address, category and reason is there."""
    detail = entry.detail.replace("\0", "") if entry.detail else entry.detail
    row = entry.channel, entry.address, entry.category, entry.reason, detail, entry.since.timestamp(), entry.lifted
    return await connection.fetchval(_PUT, *row) is not None


async def listed(connection: Connection, channel: str | None, after: str, limit: int) -> list[Suppression]:
    """Return entries that hold, by their place in the list; from the one behind `after`."""
    return [_read(row) for row in await connection.fetch(_LISTED, channel, after, limit)]


def _read(row: Record | list[object]) -> Suppression:
    return Suppression.model_validate(dict(zip(_COLUMNS.split(", "), row, strict=True)))


_HOLDS = (
    "NOT s.lifted AND NOT EXISTS (SELECT 1 FROM suppressions l WHERE l.channel = s.channel AND l.address = s.address "
    "AND l.category = s.category AND l.reason = 'manual' AND l.lifted AND l.since >= s.since)"
)
_MATCH = (
    f"SELECT wanted.place, {', '.join(f's.{column}' for column in _COLUMNS.split(', '))} "
    "FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS wanted (channel, address, category, place) "
    "JOIN suppressions s ON s.channel = wanted.channel AND s.address = wanted.address "
    f"WHERE s.category IN ('', wanted.category) AND {_HOLDS} ORDER BY s.since"
)
_PUT = (
    f"INSERT INTO suppressions ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7) "
    "ON CONFLICT (channel, address, category, reason) DO UPDATE SET detail = excluded.detail, since = excluded.since, "
    "lifted = excluded.lifted WHERE excluded.since >= suppressions.since RETURNING 1"
)
_PLACE = "(s.address || ' ' || s.channel || ' ' || s.category || ' ' || s.reason)"
_LISTED = (
    f"SELECT {_COLUMNS} FROM suppressions s WHERE {_HOLDS} AND ($1::text IS NULL OR channel = $1) "
    f"AND {_PLACE} > $2 ORDER BY {_PLACE} LIMIT $3"
)
