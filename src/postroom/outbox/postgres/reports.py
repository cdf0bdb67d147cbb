"""Reports of providers, and the ids by which they name messages."""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from typing import TYPE_CHECKING

from postroom.events import Event
from postroom.outbox.records import IdKind, queue_of
from postroom.outbox.reports import PROOFS, key_of, kind_beside, subject

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from asyncpg import Connection, Record

    from postroom.outbox.records import ProviderId
    from postroom.receipts import Channel

_log = logging.getLogger("postroom.outbox")

Key = tuple[str, str, str]
"""Channel, account and the provider's id."""


async def lock_names(connection: Connection, provider_ids: Iterable[str]) -> None:
    """Keep others from storing ids, or reports that name them, until this transaction ends.

    Neither a report nor an id need be there yet, so that it is not rows that are locked: otherwise the one that
    learns an id and the one that stores a report by it would each miss what the other writes.
    """
    await connection.execute(_LOCK_NAMES, sorted({*provider_ids}))


async def keep(connection: Connection, event: Event, seq: int | None, now: float) -> bool:
    """Store a report of the message `seq`, or of one that is not known; False when it is stored already."""
    text = event.model_dump_json(exclude_none=True)
    return await connection.fetchval(_KEEP, seq, key_of(event), event.fingerprint, now, text) is not None


async def subject_of(connection: Connection, event: Event) -> int | None:
    """Find the message a report is about, by our id or by the provider's; an account speaks of its own only."""
    named = None
    if event.message_id:
        queue = queue_of(event.account, event.channel) if event.account else ""
        tried = f'"account":{json.dumps(event.account, ensure_ascii=False)}'
        queues = [queue, f"{queue}/own"]
        named = await connection.fetchval(_BY_ID, event.message_id, event.channel, event.account, queues, tried)
    return subject(event, named, await _holders_for(connection, event))


async def of_messages(connection: Connection, seqs: Iterable[int]) -> Mapping[int, list[Event]]:
    """The reports that prove anything of messages, by message."""
    found: defaultdict[int, list[Event]] = defaultdict(list)
    for seq, event in _read(await connection.fetch(_OF_MESSAGES, list(seqs))):
        if event.type in PROOFS:
            found[seq].append(event)
    return found


async def of_one(connection: Connection, seq: int) -> list[Event]:
    """All that was reported of a message."""
    return [event for _, event in _read(await connection.fetch(_OF_MESSAGES, [seq]))]


async def adopt(connection: Connection, provider_ids: Iterable[str]) -> list[tuple[int, Event]]:
    """Give reports that waited for these ids to the messages they are about; returns which, with what each says."""
    adopted: list[tuple[int, Event]] = []
    for number, event in _read(await connection.fetch(_ORPHANS, list(provider_ids))):
        seq = subject(event, None, await _holders_for(connection, event))
        if seq is not None:
            await connection.execute("UPDATE events SET seq = $1 WHERE number = $2", seq, number)
            adopted.append((seq, event))
    return adopted


async def forget_orphans(connection: Connection, before: float, limit: int) -> int:
    """Remove reports of unknown messages that came before a time; returns how many."""
    return len(await connection.fetch(_FORGET, before, limit))


async def contested(connection: Connection, new: Sequence[tuple[int, Channel, ProviderId]]) -> set[int]:
    """Which messages bring an id that another has, or brings too, and that is not shared."""
    by_key: defaultdict[Key, set[int]] = defaultdict(set)
    for seq, channel, each in new:
        by_key[channel, each.account, each.value].add(seq)
    channels, accounts, values = zip(*by_key, strict=True)
    for channel, account, value, seq in await connection.fetch(_HELD, channels, accounts, values):
        by_key[channel, account, value].add(seq)
    return {
        seq
        for seq, channel, each in new
        if each.kind is not IdKind.SHARED and len(by_key[channel, each.account, each.value]) > 1
    }


async def keep_ids(connection: Connection, new: Iterable[tuple[int, Channel, ProviderId]]) -> None:
    """Keep ids that nobody contests."""
    rows = dict.fromkeys((channel, each.account, each.value, seq, each.kind) for seq, channel, each in new)
    if rows:
        await connection.execute(_KEEP_IDS, *zip(*rows, strict=True))


async def keep_contested(connection: Connection, seq: int, channel: Channel, new: ProviderId) -> list[int] | None:
    """Keep an id that others may have; returns the messages that lose it, or None when it is not `seq`'s."""
    key = (channel, new.account, new.value)
    holders = [(holder, kind) for holder, kind in await _holders(connection, key) if holder != seq]
    kind = kind_beside(new, [kind for _, kind in holders])
    if kind is None:
        return None
    losers = [holder for holder, _ in holders] if kind is IdKind.OWN else []
    await connection.execute("DELETE FROM provider_ids WHERE provider_id = $1 AND seq = ANY ($2)", new.value, losers)
    if kind is IdKind.SHARED:
        await connection.execute(_SHARE, *key)
    await connection.execute(_KEEP_IDS, *([value] for value in (*key, seq, kind)))
    await connection.execute(
        "UPDATE events SET seq = $1 WHERE seq = ANY ($2) AND provider_id = $3", seq, losers, new.value
    )
    return losers


async def has_another(connection: Connection, key: Key, seq: int) -> bool:
    """Whether a provider's id is another message's than `seq`."""
    return any(holder != seq and kind is not IdKind.SHARED for holder, kind in await _holders(connection, key))


def _read(rows: Iterable[Record]) -> list[tuple[int, Event]]:
    """Numbers and reports; one that is damaged proves nothing."""
    found: list[tuple[int, Event]] = []
    for number, text in rows:
        try:
            found.append((number, Event.model_validate_json(text)))
        except ValueError:
            _log.error("a report of message %s cannot be read back from the outbox", number)
    return found


async def _holders(connection: Connection, key: Key) -> list[tuple[int, IdKind]]:
    return [(seq, IdKind(kind)) for seq, kind in await connection.fetch(_HOLDERS, *key)]


async def _holders_for(connection: Connection, event: Event) -> list[tuple[int, IdKind]]:
    name = key_of(event)
    if name is None:
        return []
    if event.account is not None:
        return await _holders(connection, (event.channel, event.account, name))
    rows = await connection.fetch(_HOLDERS_ANYWHERE, event.channel, name)
    return [(seq, IdKind(kind)) for seq, kind in rows]


_LOCK_NAMES = (
    "SELECT pg_advisory_xact_lock(hashtextextended('provider_id ' || name, 0)) "
    "FROM unnest($1::text[]) WITH ORDINALITY AS named (name, place) ORDER BY place"
)
_KEEP = (
    "INSERT INTO events (seq, provider_id, fingerprint, received_at, event) VALUES ($1, $2, $3, $4, $5) "
    "ON CONFLICT DO NOTHING RETURNING 1"
)
_BY_ID = (
    "SELECT seq FROM messages WHERE id = $1 AND channel = $2 AND attempts > 0 AND "
    "($3::text IS NULL OR queue = ANY ($4::text[]) OR position($5 IN coalesce(receipt, '')) > 0)"
)
_OF_MESSAGES = "SELECT seq, event FROM events WHERE seq = ANY ($1::bigint[])"
_ORPHANS = (
    "SELECT number, event FROM events WHERE seq IS NULL AND provider_id IS NOT NULL AND provider_id = ANY ($1::text[])"
)
_FORGET = (
    "DELETE FROM events WHERE number IN (SELECT number FROM events "
    "WHERE seq IS NULL AND provider_id IS NOT NULL AND received_at <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING 1"
)
_HELD = (
    "SELECT p.channel, p.account, p.provider_id, p.seq FROM provider_ids p "
    "JOIN unnest($1::text[], $2::text[], $3::text[]) AS new (channel, account, name) "
    "ON p.provider_id = new.name AND p.channel = new.channel AND p.account = new.account"
)
_HOLDERS = "SELECT seq, kind FROM provider_ids WHERE channel = $1 AND account = $2 AND provider_id = $3 ORDER BY seq"
_HOLDERS_ANYWHERE = "SELECT seq, kind FROM provider_ids WHERE channel = $1 AND provider_id = $2 ORDER BY seq"
_KEEP_IDS = (
    "INSERT INTO provider_ids (channel, account, provider_id, seq, kind) "
    "SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[]) "
    "ON CONFLICT (provider_id, channel, account, seq) DO UPDATE SET kind = excluded.kind"
)
_SHARE = "UPDATE provider_ids SET kind = 'shared' WHERE channel = $1 AND account = $2 AND provider_id = $3"
