"""Changes that are not a worker's results: by a person, by a provider's report, by the clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from postroom.outbox.account_health import refreshed, troubled
from postroom.outbox.postgres import reports, suppressions
from postroom.outbox.postgres.schema import WAITING_SQL, quoted
from postroom.outbox.postgres.settle import keep_health
from postroom.outbox.postgres.stored import lock, lock_expired, write
from postroom.outbox.records import NEVER, NOW, AccountHealth
from postroom.outbox.reports import after_reports, decided, key_of
from postroom.outbox.states import SETTLED
from postroom.outbox.transitions import (
    REPLANNED,
    SET_BACK,
    expired,
    replanned,
    teaches,
    unknown_message,
    was_planned_ahead,
)
from postroom.receipts import Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncpg import Connection

    from postroom.events import Event
    from postroom.outbox.records import Suppression
    from postroom.outbox.states import Transition
    from postroom.receipts import Receipt


async def transition(
    connection: Connection,
    id_: str,
    wanted: Transition,
    now: float,
    *,
    tenant: str | None = None,
    note: str = "",
    held_until: float = NOW,
) -> Receipt:
    """Make a transition and return the message's receipt; raises MessageNotFound or StateConflict."""
    seq = await connection.fetchval(_OF_TENANT, id_, tenant)
    message = None if seq is None else await lock(connection, seq)
    if message is None:
        raise unknown_message(id_)
    events = (await reports.of_messages(connection, [message.seq])).get(message.seq, ())
    after = decided(message, wanted, note, events, now=now, by_tenant=tenant is not None, held_until=held_until)
    return await write(connection, message, after, now)


async def record_event(
    connection: Connection, event: Event, now: float, suppression: Suppression | None = None
) -> Receipt | None:
    """Keep what a provider reported, once, and move the message it is about.

    Returns the message's receipt; None for a report that was known already, or of a message that is not here.
    """
    name = key_of(event)
    if name is not None:
        await reports.lock_names(connection, [name])
    seq = await reports.subject_of(connection, event)
    # Locked before the report is stored: whoever writes its message's result meanwhile must see it, or be seen.
    message = None if seq is None else await lock(connection, seq)
    if not await reports.keep(connection, event, seq, now):
        return None
    if suppression and teaches(event, message):
        await suppressions.put(connection, suppression)
    if message is None:
        return None
    after = after_reports(message, (await reports.of_messages(connection, [message.seq])).get(message.seq, ()))
    return message.receipt if after is None else await write(connection, message, after, now)


async def expire(connection: Connection, now: float, limit: int) -> list[Receipt]:
    """End waiting messages whose time is over; returns their receipts."""
    found = await lock_expired(connection, now, limit)
    return [await write(connection, message, expired(message), now) for message in found]


async def replan(connection: Connection, now: float, longest: float, limit: int) -> int:
    """Bring due times back that a clock has planned which was set back since; returns how many."""
    later = await connection.fetch(_LATER, now + SET_BACK, limit)
    ahead = [row for row in later if was_planned_ahead(Status(row["status"]), row["due_at"], row["begun_at"], now)]
    due = [replanned(row["due_at"], row["begun_at"], now, longest) for row in ahead]
    if ahead:
        await connection.execute(_REPLAN, now, [row["seq"] for row in ahead], due)
    return len(ahead)


async def reroute(connection: Connection, queue: str, route: str, other: str, limit: int) -> int:
    """Move messages that nobody has tried in this round from one queue of their route to another."""
    return len(await connection.fetch(_REROUTE, other, queue, route, limit))


async def prune(connection: Connection, seqs: Sequence[int], before: float) -> int:
    """Remove bodies, attachments and idempotency keys of messages settled before a time; receipts stay.

    Returns how many went. What a person has let go again since `seqs` were read keeps all that it needs.
    """
    rows = await connection.fetch(
        "SELECT seq FROM messages WHERE seq = ANY ($1::bigint[]) AND settled_at <= $2 FOR UPDATE SKIP LOCKED",
        seqs,
        before,
    )
    still = [seq for (seq,) in rows]
    files = await _files_of(connection, still)
    for table in ("bodies", "message_files", "idempotency_keys"):
        await connection.execute(f"DELETE FROM {table} WHERE seq = ANY ($1::bigint[])", still)
    await connection.execute(_DROP_FILES, files)
    return len(still)


async def purge(connection: Connection, seqs: Sequence[int]) -> int:
    """Remove settled messages with all that is known of them; returns how many went."""
    files = await _files_of(connection, seqs)
    removed = await connection.fetch(_PURGE, seqs)
    await connection.execute("DELETE FROM begun WHERE seq = ANY ($1::bigint[])", [seq for (seq,) in removed])
    await connection.execute(_DROP_FILES, files)
    return len(removed)


async def resume(connection: Connection, account: str) -> bool:
    """End the rest or pause of an account's queues; False when they had none."""
    rows = await connection.fetch(
        "SELECT health FROM queues WHERE starts_with(queue, $1) AND health IS NOT NULL ORDER BY queue FOR UPDATE",
        f"{account}/",
    )
    ended = [health for (text,) in rows if troubled(health := AccountHealth.model_validate_json(text))]
    if ended:
        await keep_health(connection, [refreshed(health) for health in ended])
    return bool(ended)


async def _files_of(connection: Connection, seqs: Sequence[int]) -> list[bytes]:
    rows = await connection.fetch("SELECT DISTINCT hash FROM message_files WHERE seq = ANY ($1::bigint[])", seqs)
    return sorted(hash_ for (hash_,) in rows)


_OF_TENANT = "SELECT seq FROM messages WHERE id = $1 AND ($2::text IS NULL OR tenant = $2)"
_LATER = (
    f"SELECT seq, status, due_at, begun_at FROM messages WHERE status IN {quoted(REPLANNED)} AND begun_at > $1 "
    f"AND due_at > begun_at AND due_at < {NEVER} LIMIT $2 FOR UPDATE SKIP LOCKED"
)
_REPLAN = (
    "UPDATE messages m SET due_at = p.due_at, begun_at = $1 "
    "FROM unnest($2::bigint[], $3::float8[]) AS p (seq, due_at) WHERE m.seq = p.seq"
)
_REROUTE = (
    "UPDATE messages SET queue = $1 WHERE seq IN (SELECT seq FROM messages WHERE queue = $2 AND route = $3 "
    f"AND status IN {WAITING_SQL} AND (progress IS NULL OR position('\"tried\"' IN progress) = 0) "
    "AND NOT EXISTS (SELECT 1 FROM json_array_elements(coalesce(receipt, '{}')::json -> 'recipients') r "
    "WHERE r.value ->> 'outcome' = 'unknown') LIMIT $4 FOR UPDATE SKIP LOCKED) RETURNING seq"
)
_PURGE = f"DELETE FROM messages WHERE seq = ANY ($1::bigint[]) AND status IN {quoted(SETTLED)} RETURNING seq"
_DROP_FILES = (
    "DELETE FROM files WHERE hash = ANY ($1::bytea[]) "
    "AND NOT EXISTS (SELECT 1 FROM message_files f WHERE f.hash = files.hash)"
)
