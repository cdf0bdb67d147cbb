"""The table of those who must not be written to.

An entry that is damaged holds: whose reason, time or state cannot be read, its address is not written to, and of a
category or channel that there is none of, every message is meant. A person lifts it like any other.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from postroom.outbox.records import Suppression
from postroom.outbox.sqlite import damage
from postroom.outcomes import SuppressionReason
from postroom.receipts import Channel

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

    from postroom.outbox.records import Addressee

_COLUMNS = ("channel", "address", "category", "reason", "detail", "since")

_log = logging.getLogger("postroom.outbox")


def match(connection: sqlite3.Connection, addressees: Iterable[Addressee]) -> dict[int, Suppression]:
    """Return what keeps any of `addressees` from being sent to, by their place."""
    if not connection.execute("SELECT EXISTS (SELECT 1 FROM suppressions)").fetchone()[0]:
        return {}
    wanted = [(place, *addressee) for place, addressee in enumerate(addressees)]
    with damage.tolerated(connection):
        found = {place: _read(row) for place, *row in connection.execute(_MATCH, (json.dumps(wanted),))}
        for row in connection.execute(_ADRIFT):
            held = _read(row)
            _log.error("an entry of the suppression list is damaged, and may be about another address: %s", held)
            found |= {place: held for place, _, address, _ in wanted if address == held.address}
    return found


def put(connection: sqlite3.Connection, entry: Suppression) -> bool:
    """Write an entry; False when a later one for the same address, category and reason is there."""
    row = entry.channel, entry.address, entry.category, entry.reason, entry.detail
    if entry.lifted and entry.reason is SuppressionReason.MANUAL:
        for mend in _MEND:
            connection.execute(mend, {"address": entry.address, "category": entry.category})
    return connection.execute(_PUT, (*row, entry.since.timestamp(), int(entry.lifted))).rowcount > 0


def listed(connection: sqlite3.Connection, channel: str | None, after: str, limit: int) -> list[Suppression]:
    """Return entries that hold, by their place in the list; from the one behind `after`."""
    with damage.tolerated(connection):
        rows = connection.execute(_LISTED, {"channel": channel, "after": after, "limit": limit})
        return [_read(row) for row in rows]


def _read(row: Sequence[Any]) -> Suppression:
    shown = (value.decode(errors="replace") if isinstance(value, bytes) else value for value in row)
    return Suppression.model_validate(dict(zip(_COLUMNS, shown, strict=True)))


def _known(column: str, values: Sequence[str], otherwise: str) -> str:
    """A column of an entry, or what it counts as when it is damaged."""
    return f"CASE WHEN s.{column} IN ({', '.join(map(repr, map(str, values)))}) THEN s.{column} ELSE '{otherwise}' END"


_CATEGORIES = ("marketing", "transactional")
_READABLE = {
    "channel": _known("channel", tuple(Channel), Channel.EMAIL),
    "address": "CAST(s.address AS TEXT)",
    "category": _known("category", _CATEGORIES, ""),
    "reason": _known("reason", tuple(SuppressionReason), SuppressionReason.MANUAL),
    "detail": "CAST(s.detail AS TEXT)",
    "since": "CASE WHEN typeof(s.since) = 'real' AND abs(s.since) < 253402300800 THEN s.since ELSE 0 END",
}
_SELECTED = ", ".join(_READABLE[column] for column in _COLUMNS)
_HOLDS = (
    "s.lifted IS NOT 1 AND NOT EXISTS (SELECT 1 FROM suppressions l WHERE l.channel = s.channel "
    f"AND l.address = s.address AND l.category = {_READABLE['category']} AND l.reason = 'manual' AND l.lifted IS 1 "
    "AND typeof(l.since) = 'real' AND l.since >= s.since)"
)
_MATCH = (
    f"SELECT wanted.value ->> 0, {_SELECTED} FROM json_each(?) wanted "
    "CROSS JOIN suppressions s ON s.channel = wanted.value ->> 1 AND s.address = wanted.value ->> 2 "
    f"WHERE (s.category NOT IN {_CATEGORIES} OR s.category = wanted.value ->> 3) AND {_HOLDS} ORDER BY s.since"
)
_EMAIL, _SMS = sorted(Channel)
_OUT_OF_PLACE = (
    f"(s.channel < '{_EMAIL}' OR s.channel > '{_SMS}' OR (s.channel > '{_EMAIL}' AND s.channel < '{_SMS}') "
    f"OR (s.channel = '{_EMAIL}' AND s.address >= x'') OR (s.channel = '{_SMS}' AND s.address >= x''))"
)
_ADRIFT = f"SELECT {_SELECTED} FROM suppressions s WHERE {_OUT_OF_PLACE} AND {_HOLDS}"
_DELETE = f"DELETE FROM suppressions AS s WHERE {_READABLE['category']} = :category AND "
_MEND = (
    f"{_DELETE} s.channel IN ('{_EMAIL}', '{_SMS}') AND s.address = :address AND typeof(s.since) != 'real'",
    f"{_DELETE} {_OUT_OF_PLACE} AND CAST(s.address AS TEXT) = :address",
)
_PUT = """
INSERT INTO suppressions VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (channel, address, category, reason) DO UPDATE
SET detail = excluded.detail, since = excluded.since, lifted = excluded.lifted
WHERE excluded.since >= since OR typeof(since) != 'real'
"""
_PLACE = " || ' ' || ".join(_READABLE[column] for column in ("address", "channel", "category", "reason"))
_LISTED = (
    f"SELECT {_SELECTED} FROM suppressions s WHERE {_HOLDS} "
    f"AND (:channel IS NULL OR {_READABLE['channel']} = :channel) "
    f"AND {_PLACE} > :after ORDER BY {_PLACE} LIMIT :limit"
)
