"""One message as it lies in the database, for changes that are not a worker's results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from postroom.outbox.postgres.query import receipt_of
from postroom.outbox.postgres.schema import WAITING_SQL, quoted
from postroom.outbox.records import StoredMessage
from postroom.outbox.serialization import dump_progress, load_progress, recipients_of
from postroom.receipts import Channel, Status

if TYPE_CHECKING:
    from asyncpg import Connection, Record

    from postroom.outbox.transitions import Transitioned
    from postroom.receipts import Receipt


async def write(connection: Connection, message: StoredMessage, after: Transitioned, now: float) -> Receipt:
    """Write a message down as a transition left it; whoever asks about it now keeps it while its state is the same."""
    await connection.execute(
        _TRANSITION,
        message.seq,
        after.status,
        after.due_at,
        after.receipt.model_dump_json(exclude_none=True),
        dump_progress(after.progress),
        now if after.settled else None,
    )
    if after.settled:
        await connection.execute("UPDATE bodies SET options = NULL WHERE seq = $1 AND options IS NOT NULL", message.seq)
    return after.receipt


async def lock(connection: Connection, seq: int) -> StoredMessage | None:
    """Lock a message's row, and read the message as it then is: whoever had it locked may have changed all of it."""
    await connection.execute("SELECT 1 FROM messages WHERE seq = $1 FOR UPDATE", seq)
    row = await connection.fetchrow(f"{_STORED} WHERE m.seq = $1", seq)
    return _stored(row) if row else None


async def lock_expired(connection: Connection, now: float, limit: int) -> list[StoredMessage]:
    """Lock waiting messages whose time is over, and return them; not those that somebody is changing now."""
    return [_stored(row) for row in await connection.fetch(_EXPIRED, now, limit)]


def _stored(row: Record) -> StoredMessage:
    channel, body = Channel(row["channel"]), row["body"]
    return StoredMessage(
        seq=row["seq"],
        id=row["id"],
        queue=row["queue"],
        receipt=receipt_of(row["id"], channel, row["status"], row["receipt"], row["queue"]),
        progress=load_progress(row["progress"]),
        has_body=row["has_body"],
        has_credentials=row["has_credentials"],
        due_at=row["due_at"],
        expires_at=row["expires_at"],
        recipients=recipients_of(channel, body) if body else (),
    )


_STORED = (
    "SELECT m.seq, m.id, m.channel, m.status, m.receipt, m.queue, m.progress, m.due_at, m.expires_at, "
    f"CASE WHEN m.status NOT IN {quoted(frozenset({Status.SENT, Status.DELIVERED, Status.BOUNCED}))} THEN b.body END "
    "AS body, b.seq IS NOT NULL AS has_body, b.options IS NOT NULL AS has_credentials "
    "FROM messages m LEFT JOIN bodies b USING (seq)"
)
_EXPIRED = (
    f"{_STORED} WHERE m.status IN {WAITING_SQL} AND m.expires_at <= $1 ORDER BY m.expires_at LIMIT $2 "
    "FOR UPDATE OF m SKIP LOCKED"
)
_TRANSITION = (
    "UPDATE messages SET status = $2, due_at = $3, receipt = $4, progress = $5, settled_at = $6, "
    "owner = CASE WHEN status = $2 THEN owner END WHERE seq = $1"
)
