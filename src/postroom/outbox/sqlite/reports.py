"""Reports of providers, and the ids by which they name messages."""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from postroom.events import Event
from postroom.outbox.records import IdKind, queue_of
from postroom.outbox.reports import PROOFS, key_of, kind_beside, subject
from postroom.outbox.sqlite import damage

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping, Sequence

    from postroom.outbox.records import ProviderId
    from postroom.receipts import Channel

_log = logging.getLogger("postroom.outbox")

Key = tuple[str, str, str]
"""Channel, account and the provider's id."""


def keep(connection: sqlite3.Connection, event: Event, seq: int | None, now: float) -> bool:
    """Store a report of the message `seq`, or of one that is not known; False when it is stored already."""
    row = (seq, key_of(event), event.fingerprint, now, event.model_dump_json(exclude_none=True))
    return connection.execute(_KEEP, row).rowcount == 1


def subject_of(connection: sqlite3.Connection, event: Event) -> int | None:
    """Find the message a report is about, by our id or by the provider's; an account speaks of its own only."""
    named = None
    if event.message_id:
        queue = queue_of(event.account, event.channel) if event.account else ""
        concerned = {"channel": event.channel, "account": event.account, "queue": queue, "own": f"{queue}/own"}
        concerned["tried"] = f'"account":{json.dumps(event.account, ensure_ascii=False)}'
        found = connection.execute(_BY_ID, {**concerned, "id": event.message_id}).fetchone()
        named = found[0] if found else None
    return subject(event, named, _holders_for(connection, event))


def of_messages(connection: sqlite3.Connection, seqs: Iterable[int]) -> Mapping[int, list[Event]]:
    """The reports that prove anything of messages, by message."""
    found: defaultdict[int, list[Event]] = defaultdict(list)
    for seq, event in _read(connection, _OF_MESSAGES, list(seqs)):
        if event.type in PROOFS:
            found[seq].append(event)
    return found


def of_one(connection: sqlite3.Connection, seq: int) -> list[Event]:
    """All that was reported of a message."""
    return [event for _, event in _read(connection, _OF_MESSAGES, [seq])]


def adopt(connection: sqlite3.Connection, provider_ids: Iterable[str]) -> list[tuple[int, Event]]:
    """Give reports that waited for these ids to the messages they are about; returns which, with what each says."""
    adopted: list[tuple[int, Event]] = []
    for number, event in _read(connection, _ORPHANS, list(provider_ids)):
        seq = subject(event, None, _holders_for(connection, event))
        if seq is not None:
            connection.execute("UPDATE events SET seq = ? WHERE number = ?", (seq, number))
            adopted.append((seq, event))
    return adopted


def forget_orphans(connection: sqlite3.Connection, before: float, limit: int) -> int:
    """Remove reports of unknown messages that came before a time; returns how many."""
    return connection.execute(_FORGET, (before, limit)).rowcount


def contested(connection: sqlite3.Connection, new: Sequence[tuple[int, Channel, ProviderId]]) -> set[int]:
    """Which messages bring an id that another has, or brings too, and that is not shared."""
    by_key: defaultdict[Key, set[int]] = defaultdict(set)
    for seq, channel, each in new:
        by_key[channel, each.account, each.value].add(seq)
    rows = [(channel, account, value, seq) for (channel, account, value), seqs in by_key.items() for seq in seqs]
    held = json.loads(connection.execute(_HELD, (json.dumps(rows),)).fetchone()[0])
    for channel, account, value, seq in held:
        by_key[channel, account, value].add(seq)
    return {
        seq
        for seq, channel, each in new
        if each.kind is not IdKind.SHARED and len(by_key[channel, each.account, each.value]) > 1
    }


def keep_ids(connection: sqlite3.Connection, new: Iterable[tuple[int, Channel, ProviderId]]) -> None:
    """Keep ids that nobody contests."""
    rows: list[tuple[Any, ...]] = [(channel, each.account, each.value, seq, each.kind) for seq, channel, each in new]
    connection.execute(_KEEP_IDS, (json.dumps(rows),))


def keep_contested(connection: sqlite3.Connection, seq: int, channel: Channel, new: ProviderId) -> list[int] | None:
    """Keep an id that others may have; returns the messages that lose it, or None when it is not `seq`'s."""
    key = (channel, new.account, new.value)
    holders = [(holder, kind) for holder, kind in _holders(connection, key) if holder != seq]
    kind = kind_beside(new, [kind for _, kind in holders])
    if kind is None:
        return None
    losers = [holder for holder, _ in holders] if kind is IdKind.OWN else []
    connection.executemany(
        "DELETE FROM provider_ids WHERE provider_id = ? AND seq = ?", [(new.value, s) for s in losers]
    )
    if kind is IdKind.SHARED:
        connection.execute(_SHARE, key)
    connection.execute(_KEEP_IDS, (json.dumps([(*key, seq, kind)]),))
    connection.executemany(
        "UPDATE events SET seq = ? WHERE seq = ? AND provider_id = ?", [(seq, loser, new.value) for loser in losers]
    )
    return losers


def has_another(connection: sqlite3.Connection, key: Key, seq: int) -> bool:
    """Whether a provider's id is another message's than `seq`."""
    return any(holder != seq and kind is not IdKind.SHARED for holder, kind in _holders(connection, key))


def _read(connection: sqlite3.Connection, query: str, names: Sequence[int | str]) -> list[tuple[int, Event]]:
    """Numbers and reports; one that is damaged proves nothing."""
    with damage.tolerated(connection):
        rows = connection.execute(query, (json.dumps(names),)).fetchall()
    found: list[tuple[int, Event]] = []
    for number, text in rows:
        try:
            found.append((number, Event.model_validate_json(text)))
        except ValueError:
            _log.error("a report of message %s cannot be read back from the outbox", number)
    return found


def _holders(connection: sqlite3.Connection, key: Key) -> list[tuple[int, IdKind]]:
    return [(seq, IdKind(kind)) for seq, kind in connection.execute(_HOLDERS, key)]


def _holders_for(connection: sqlite3.Connection, event: Event) -> list[tuple[int, IdKind]]:
    name = key_of(event)
    if name is None:
        return []
    if event.account is not None:
        return _holders(connection, (event.channel, event.account, name))
    rows = connection.execute(_HOLDERS_ANYWHERE, (event.channel, name))
    return [(seq, IdKind(kind)) for seq, kind in rows]


_KEEP = "INSERT OR IGNORE INTO events (seq, provider_id, fingerprint, received_at, event) VALUES (?, ?, ?, ?, ?)"
_BY_ID = (
    "SELECT seq FROM messages WHERE id = :id AND channel = :channel AND attempts > 0 AND "
    "(:account IS NULL OR queue IN (:queue, :own) OR instr(coalesce(receipt, ''), :tried))"
)
_OF_MESSAGES = "SELECT seq, event FROM events WHERE seq IN (SELECT value FROM json_each(?))"
_ORPHANS = (
    "SELECT number, event FROM events "
    "WHERE seq IS NULL AND provider_id IS NOT NULL AND provider_id IN (SELECT value FROM json_each(?))"
)
_FORGET = (
    "DELETE FROM events WHERE number IN (SELECT number FROM events INDEXED BY orphans_by_age "
    "WHERE seq IS NULL AND provider_id IS NOT NULL AND received_at <= ? LIMIT ?)"
)
_HELD = (
    "SELECT json_group_array(json_array(p.channel, p.account, p.provider_id, p.seq)) FROM json_each(?) new "
    "CROSS JOIN provider_ids p ON p.provider_id = new.value ->> 2 AND p.channel = new.value ->> 0 "
    "AND p.account = new.value ->> 1"
)
_HOLDERS = "SELECT seq, kind FROM provider_ids WHERE channel = ? AND account = ? AND provider_id = ? ORDER BY seq"
_HOLDERS_ANYWHERE = "SELECT seq, kind FROM provider_ids WHERE channel = ? AND provider_id = ? ORDER BY seq"
_KEEP_IDS = (
    "INSERT INTO provider_ids (channel, account, provider_id, seq, kind) "
    "SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4 FROM json_each(?) WHERE true "
    "ON CONFLICT (provider_id, channel, account, seq) DO UPDATE SET kind = excluded.kind"
)
_SHARE = "UPDATE provider_ids SET kind = 'shared' WHERE channel = ? AND account = ? AND provider_id = ?"
