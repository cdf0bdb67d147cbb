"""Giving due messages to workers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from postroom.errors import OutboxError, PostroomError
from postroom.large_work import one_at_a_time
from postroom.outbox import gcra
from postroom.outbox.postgres.query import files_of
from postroom.outbox.postgres.schema import WAITING_SQL
from postroom.outbox.records import NEVER, NOW, ClaimedMessage, UnreadableMessage
from postroom.outbox.serialization import LARGE, has_contents, load_message, load_progress, may_be_out
from postroom.outbox.views import moment
from postroom.receipts import Channel, Receipt, Status

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from asyncpg import Connection, Record

    from postroom.outbox.encryption import CredentialCipher
    from postroom.outbox.records import ClaimLimit

Claim = tuple[int, int]
"""A message's number, and that of the attempt."""

MOST_OF_A_QUEUE = 1000
"""Messages of one queue in one claim. The planner must see a number: of a limit that it does not know it expects a
tenth of all rows, and sorts those of a long queue instead of reading the first by the index."""

ASKED_AGAIN_AFTER = 60.0
"""Seconds until another worker asks about a message in doubt whose asker said nothing."""


async def claim(
    connection: Connection, owner: int, limits: Mapping[str, ClaimLimit], now: float
) -> tuple[list[Record], float]:
    """Give `owner` up to as many due messages of each queue as its limit says: the most urgent, then the oldest.

    Returns their rows, and when a queue that is at its rate may go on. A worker that the others gave up gets nothing.
    """
    starts = await _locked(connection, owner, sorted(limits)) if limits else None
    if starts is None:
        return [], NEVER
    free_at = NEVER
    free: dict[str, int] = {}
    for queue, limit in limits.items():
        free[queue] = max(limit.limit, 0)
        if limit.rate and free[queue]:
            allowed = gcra.allowed(starts[queue], limit.rate, now)
            free[queue], free_at = min(free[queue], allowed.messages), min(free_at, allowed.free_at)
    wanted = [queue for queue, count in free.items() if count]
    if not wanted:
        return [], free_at
    rows = await connection.fetch(
        _CLAIM,
        owner,
        now,
        wanted,
        [free[queue] for queue in wanted],
        [limits[queue].most_under_way for queue in wanted],
        [limits[queue].size for queue in wanted],
    )
    rows.sort(key=lambda row: (wanted.index(row["queue"]), row["place"]))
    started: dict[str, float] = {}
    for queue in wanted:
        taken, rate = sum(row["queue"] == queue for row in rows), limits[queue].rate
        if taken and rate:
            started[queue] = gcra.advanced(starts[queue], rate, now, taken)
    if started:
        await connection.execute(_KEEP_STARTS, [*started], [*started.values()])
    return rows, free_at


async def _locked(connection: Connection, owner: int, queues: Sequence[str]) -> Mapping[str, float] | None:
    """Lock queues for a claim, so that their limits hold over all workers; None for a worker that was given up.

    The worker's own row is locked against its end too: who takes over what it claimed must see this claim.
    """
    # In one order for all workers, so that they never wait for each other in a circle.
    rows = await connection.fetch(_LOCK, queues, owner)
    if len(rows) < len(queues):
        if not await connection.fetchval(_IS_REGISTERED, owner):
            return None
        await connection.execute(_ADD_QUEUES, queues)
        rows = await connection.fetch(_LOCK, queues, owner)
    return {row["queue"]: row["theoretical_start"] for row in rows} if rows else None


async def rescue(connection: Connection, dead: int, heartbeats: int, owner: int) -> list[Record]:
    """Give `owner` what a dead worker had claimed; nothing if that one shows life after all, or `owner` is given up."""
    if not await connection.fetchval(_IS_REGISTERED, owner):
        return []
    gone = await connection.fetchval(
        "DELETE FROM workers WHERE number = $1 AND heartbeats = $2 RETURNING 1", dead, heartbeats
    )
    if not gone:
        return []
    rows: list[Record] = await connection.fetch(_RESCUE, owner, dead)
    return rows


async def begin(connection: Connection, worker: int, claims: Sequence[Claim]) -> set[int]:
    """Mark messages as begun, in a transaction of its own; returns the numbers of those that `worker` may hand over.

    The worker's row is locked against whoever takes over its messages, who sees these marks, or is seen here.
    """
    rows = await connection.fetch(_BEGIN, worker, [seq for seq, _ in claims], [attempts for _, attempts in claims])
    return {seq for (seq,) in rows}


def claim_of(row: Record) -> Claim:
    """A claimed row's number and attempt."""
    return row["seq"], row["attempts"]


async def claim_in_doubt(connection: Connection, owner: int, now: float, limit: int) -> list[Record]:
    """Give `owner` messages in doubt whose provider may be asked now. They stay in doubt meanwhile."""
    rows: list[Record] = await connection.fetch(_TAKE_IN_DOUBT, owner, now + ASKED_AGAIN_AFTER, now, limit)
    return rows


async def unheard(connection: Connection, owner: int, claims: Sequence[Claim]) -> list[Record]:
    """What `owner` has of these: it never heard of them, since the connection broke as they were committed."""
    if not claims:
        return []
    seqs, attempts = [seq for seq, _ in claims], [attempts for _, attempts in claims]
    rows: list[Record] = await connection.fetch(_UNHEARD, owner, seqs, attempts)
    return rows


async def claimed_of(
    connection: Connection, rows: Sequence[Record], cipher: CredentialCipher
) -> tuple[ClaimedMessage | UnreadableMessage, ...]:
    """Read claimed rows back."""
    with_files = [row["seq"] for row in rows if row["body"] and has_contents(row["body"])]
    files = await files_of(connection, with_files) if with_files else {}

    def claimed() -> tuple[ClaimedMessage | UnreadableMessage, ...]:
        return tuple(_claimed(row, files.get(row["seq"], {}), cipher) for row in rows)

    return await asyncio.to_thread(one_at_a_time, claimed) if sum(row["size"] for row in rows) > LARGE else claimed()


def _claimed(row: Record, files: Mapping[int, bytes], cipher: CredentialCipher) -> ClaimedMessage | UnreadableMessage:
    id_ = row["id"]
    doubted = row["status"] == Status.IN_DOUBT or may_be_out(row["receipt"])
    try:
        options, locked = cipher.opened(row["options"], id_)
        message = ClaimedMessage(
            begun=row["begun"],
            seq=row["seq"],
            id=id_,
            status=Status(row["status"]),
            queue=row["queue"],
            route=row["route"],
            message=load_message(Channel(row["channel"]), row["body"], files.__getitem__, options, id_),
            attempts=row["attempts"],
            crashes=row["crashes"],
            expires_at=row["expires_at"],
            begun_at=row["begun_at"],
            created_at=moment(row["created_at"]),
            single_round=row["single_round"],
            size=row["size"],
            progress=load_progress(row["progress"]),
            receipt=Receipt.model_validate_json(row["receipt"]) if row["receipt"] else None,
        )
        return message if locked is None else UnreadableMessage.without_key(message, locked, in_doubt=doubted)
    except PostroomError as error:
        unreadable = error
    except (ValueError, OverflowError, TypeError, KeyError) as error:
        unreadable = OutboxError(f"message {id_} cannot be read back from the outbox ({type(error).__name__})")
    known = Channel(row["channel"]) if row["channel"] in set(Channel) else Channel.EMAIL
    return UnreadableMessage(
        row["seq"], id_, known, row["queue"], row["route"], row["attempts"], unreadable, in_doubt=doubted
    )


async def register(connection: Connection, name: str) -> int:
    """Enter a worker; returns its number, which is never given again."""
    number: int = await connection.fetchval("INSERT INTO workers (name) VALUES ($1) RETURNING number", name)
    return number


async def sign_off(connection: Connection, number: int) -> None:
    """Take a worker off the list; one that still has something in its hands stays, for others to rescue."""
    await connection.execute(_SIGN_OFF, number)


async def heartbeat(connection: Connection, number: int) -> float | None:
    """Show that the worker lives, and return the server's time; None when the others gave it up already."""
    server_time: float | None = await connection.fetchval(_BEAT, number)
    return server_time


async def live_workers(connection: Connection) -> dict[int, int]:
    """Every worker's number, and how many heartbeats it has shown."""
    rows = await connection.fetch("SELECT number, heartbeats FROM workers")
    return {row["number"]: row["heartbeats"] for row in rows}


async def busy_workers(connection: Connection) -> set[int]:
    """The workers that have messages in hand."""
    return {number for (number,) in await connection.fetch(_BUSY_WORKERS)}


_BUSY_WORKERS = (
    f"SELECT DISTINCT owner FROM messages WHERE status = '{Status.SENDING}' AND owner IN (SELECT number FROM workers)"
)
_BEAT = (
    "UPDATE workers SET heartbeats = heartbeats + 1 WHERE number = $1 "
    "RETURNING extract(epoch FROM clock_timestamp())::float8"
)
_COLUMNS = (
    "m.seq, m.id, m.channel, m.status, m.queue, m.route, m.attempts, m.crashes, m.expires_at, m.begun_at, "
    "m.created_at, m.single_round, m.size, m.progress, m.receipt"
)
_IS_REGISTERED = "SELECT 1 FROM workers WHERE number = $1 FOR KEY SHARE"
_LOCK = (
    "WITH me AS (SELECT 1 FROM workers WHERE number = $2 FOR KEY SHARE) SELECT queue, theoretical_start FROM queues "
    "WHERE queue = ANY ($1::text[]) AND EXISTS (SELECT 1 FROM me) ORDER BY queue FOR UPDATE OF queues"
)
_ADD_QUEUES = "INSERT INTO queues (queue) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING"
_DUE = (
    "(SELECT seq, size, {priority} AS priority, {kind} AS kind, due_at FROM messages WHERE queue = l.queue "
    f"AND priority = {{priority}} AND status IN {WAITING_SQL} AND {{due}} ORDER BY due_at, seq LIMIT {MOST_OF_A_QUEUE})"
)
_BY_URGENCY = " UNION ALL ".join(
    _DUE.format(priority=priority, kind=kind, due=due)
    for priority in range(3)
    for kind, due in enumerate((f"due_at > {NOW} AND due_at <= $2", f"due_at = {NOW}"))
)
_CLAIM = f"""
WITH limits AS MATERIALIZED (  -- else the planner counts once more for each row that it looks at
    SELECT l.queue, l.size, least(l.free, l.most_under_way - (
        SELECT count(*) FROM messages m WHERE m.queue = l.queue AND m.status = '{Status.SENDING}'
    )) AS most
    FROM unnest($3::text[], $4::integer[], $5::integer[], $6::bigint[]) AS l (queue, free, most_under_way, size)
), picked AS (
    SELECT p.seq, p.place FROM limits l CROSS JOIN LATERAL (
        SELECT seq, row_number() OVER urgency AS place, coalesce(sum(size) OVER before, 0) AS before
        FROM ({_BY_URGENCY}) due
        WINDOW urgency AS (ORDER BY priority, kind, due_at, seq),
               before AS (urgency ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
    ) p WHERE l.most > 0 AND p.place <= l.most AND p.before < l.size
), free AS (
    SELECT m.seq, picked.place FROM messages m JOIN picked USING (seq)
    WHERE m.status IN {WAITING_SQL} FOR UPDATE OF m SKIP LOCKED
), taken AS (
    UPDATE messages m SET status = '{Status.SENDING}', owner = $1, attempts = m.attempts + 1, begun_at = $2
    FROM free WHERE m.seq = free.seq
    RETURNING {_COLUMNS}, free.place
)
SELECT taken.*, b.body, b.options, false AS begun FROM taken LEFT JOIN bodies b USING (seq)
"""
_KEEP_STARTS = (
    "UPDATE queues q SET theoretical_start = s.start "
    "FROM unnest($1::text[], $2::float8[]) AS s (queue, start) WHERE q.queue = s.queue"
)
_RESCUE = f"""
WITH taken AS (
    UPDATE messages m SET owner = $1, crashes = m.crashes + 1 WHERE m.status = '{Status.SENDING}' AND m.owner = $2
    RETURNING {_COLUMNS}
)
SELECT taken.*, b.body, b.options, EXISTS (
    SELECT 1 FROM begun WHERE begun.seq = taken.seq AND begun.attempts = taken.attempts
) AS begun FROM taken LEFT JOIN bodies b USING (seq) ORDER BY seq
"""
_TAKE_IN_DOUBT = f"""
WITH due AS (
    SELECT seq FROM messages WHERE status = '{Status.IN_DOUBT}' AND due_at <= $3 ORDER BY due_at LIMIT $4
    FOR UPDATE SKIP LOCKED
), taken AS (
    UPDATE messages m SET owner = $1, due_at = $2 FROM due WHERE m.seq = due.seq RETURNING {_COLUMNS}
)
SELECT taken.*, b.body, b.options, true AS begun FROM taken LEFT JOIN bodies b USING (seq) ORDER BY seq
"""
_UNHEARD = f"""
SELECT {_COLUMNS}, b.body, b.options, EXISTS (
    SELECT 1 FROM begun WHERE begun.seq = m.seq AND begun.attempts = m.attempts
) AS begun
FROM messages m JOIN unnest($2::bigint[], $3::integer[]) AS mine (seq, attempts) USING (seq)
LEFT JOIN bodies b USING (seq)
WHERE m.status = '{Status.SENDING}' AND m.owner = $1 AND m.attempts = mine.attempts ORDER BY m.seq
"""
_BEGIN = (
    "WITH me AS MATERIALIZED (SELECT 1 FROM workers WHERE number = $1 FOR KEY SHARE) "
    "INSERT INTO begun SELECT m.seq, m.attempts FROM messages m "
    "JOIN unnest($2::bigint[], $3::integer[]) AS mine (seq, attempts) ON mine.seq = m.seq "
    f"WHERE m.attempts = mine.attempts AND m.owner = $1 AND m.status = '{Status.SENDING}' "
    "AND EXISTS (SELECT 1 FROM me) ON CONFLICT (seq) DO UPDATE SET attempts = excluded.attempts RETURNING seq"
)
_SIGN_OFF = (
    "DELETE FROM workers WHERE number = $1 AND NOT EXISTS "
    f"(SELECT 1 FROM messages WHERE status = '{Status.SENDING}' AND owner = $1)"
)
