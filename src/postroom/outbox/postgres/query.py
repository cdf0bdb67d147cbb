"""Looking things up; none of this writes."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from typing import TYPE_CHECKING

from pydantic_core import to_json

from postroom.errors import PostroomError, SearchTooBroad
from postroom.large_work import one_at_a_time
from postroom.outbox.postgres import reports
from postroom.outbox.postgres.schema import WAITING_SQL
from postroom.outbox.records import NEVER, AccountHealth, Ownership, account_of, channel_of, queue_of
from postroom.outbox.serialization import LARGE, left_out, load_message
from postroom.outbox.views import MessageRow, OutboxStats, QueueBacklog, details_of, moment, summary_of
from postroom.receipts import Channel, Receipt, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from asyncpg import Connection, Record

    from postroom.messages import Message
    from postroom.outbox.views import MessageDetails, MessageFilter, MessageSummary

_log = logging.getLogger("postroom.outbox")

MOST_BYTES_PRUNED = 16_777_216
"""Bodies and attachments removed in one transaction, so that others wait for milliseconds."""

MOST_LOOKED_AT = 300_000
"""Messages looked at in one search of a tenant."""

_PAGE = 1000
"""Rows read at a time for a listing that is filtered by recipients."""


def receipt_of(id_: str, channel: str, status: str, receipt: str | None, queue: str) -> Receipt:
    """Return the receipt as it is now; of one that is damaged only what stands beside it."""
    if receipt is not None:
        try:
            return Receipt.model_validate_json(receipt).model_copy(update={"status": Status(status)})
        except ValueError:
            _log.error("the receipt of message %s cannot be read back from the outbox", id_)
    return Receipt.of(id=id_, channel=Channel(channel), status=Status(status), account=account_of(queue))


async def find(connection: Connection, id_: str, tenant: str | None, *, contents: bool) -> MessageDetails | None:
    """Return all that is known of one message; None when there is none, or it is another tenant's."""
    found = await connection.fetchrow(_FOUND, id_, tenant)
    if found is None:
        return None
    files = await files_of(connection, [found["seq"]]) if contents else {}
    row = _row(found, files.get(found["seq"], {}).__getitem__ if contents else left_out)
    return details_of(row, await reports.of_one(connection, found["seq"]))


async def files_of(connection: Connection, seqs: list[int]) -> dict[int, dict[int, bytes]]:
    """The attachments of messages, by message and by number, without those that are not what was stored."""
    rows = await connection.fetch(_FILES, seqs)
    if sum(len(content) for *_, content in rows) > LARGE:
        return await asyncio.to_thread(one_at_a_time, _intact, rows)
    return _intact(rows)


def _intact(rows: Iterable[Record]) -> dict[int, dict[int, bytes]]:
    found: dict[int, dict[int, bytes]] = {}
    for seq, number, hash_, content in rows:
        if hashlib.sha256(content).digest() == hash_:
            found.setdefault(seq, {})[number] = content
    return found


async def receipt(connection: Connection, id_: str) -> tuple[Receipt, str] | None:
    """Return how a message stands, and its queue."""
    row = await connection.fetchrow("SELECT id, channel, status, receipt, queue FROM messages WHERE id = $1", id_)
    return (receipt_of(*row), row["queue"]) if row else None


async def listed(connection: Connection, where: MessageFilter) -> list[MessageSummary]:
    """Return the messages meant, the newest first.

    Raises SearchTooBroad for a tenant whose search would look at more than MOST_LOOKED_AT of them.
    """
    found: list[MessageSummary] = []
    before = where.before_seq
    most = None if where.tenant is None else await connection.fetchrow(_BOUND, where.tenant, before, MOST_LOOKED_AT)
    too_broad = most is not None and (where.since is None or most["created_at"] >= where.since)
    page = where.limit if where.to is None else _PAGE
    while True:
        rows = await connection.fetch(
            _LISTED,
            list(where.status) or None,
            where.channel,
            where.account,
            where.tenant,
            where.since,
            where.until,
            before,
            page,
            most["seq"] if most else None,
        )
        for row in rows:
            line = summary_of(_row(row, left_out))
            if where.to is None or any(where.to in address for address in line.to):
                found.append(line)
            if len(found) == where.limit:
                return found
        if len(rows) < page:
            if too_broad:
                raise SearchTooBroad(
                    "too many messages would have to be looked at; narrow it with since and until, or go on from a "
                    "cursor"
                )
            return found
        before = rows[-1]["seq"]


async def settled_before(connection: Connection, time: float, most: int) -> list[int]:
    """Messages settled before `time` that still have their bodies: `most`, or fewer that hold much together."""
    found: list[int] = []
    size = 0
    for seq, bytes_ in await connection.fetch(_SETTLED_BEFORE, time, most):
        found.append(seq)
        size += bytes_
        if size > MOST_BYTES_PRUNED:
            break
    return found


async def due_queues(connection: Connection) -> dict[str, float]:
    """When the first message of each queue is due; the cost grows with the queues, not with the messages."""
    return {row["queue"]: row["due_at"] for row in await connection.fetch(_DUE_QUEUES)}


async def waiting_routes(connection: Connection, queue: str) -> list[str]:
    """The routes, accounts and providers by which messages came into a queue."""
    return [route for (route,) in await connection.fetch(_ROUTES, queue)]


async def stats(connection: Connection) -> OutboxStats:
    """Count messages by state and queue."""
    states = {Status(status): count for status, count in await connection.fetch(_STATES)}
    waiting = [QueueBacklog(queue=queue, messages=count) for queue, count in await connection.fetch(_QUEUE_SIZES)]
    oldest = await connection.fetchval(_OLDEST)
    return OutboxStats(
        states=states,
        waiting=tuple(waiting),
        accounts=tuple((await health(connection)).values()),
        workers=await connection.fetchval("SELECT count(*) FROM workers"),
        oldest_waiting=moment(oldest) if oldest else None,
    )


async def health(connection: Connection) -> dict[str, AccountHealth]:
    """The health of every queue that was used, by queue; one that is damaged counts as none."""
    rows = await connection.fetch("SELECT queue, health FROM queues WHERE health IS NOT NULL")
    found: dict[str, AccountHealth] = {}
    for queue, text in rows:
        try:
            found[queue] = AccountHealth.model_validate_json(text)
        except ValueError:
            _log.error("the outbox cannot read how %s does, and begins anew", queue)
    return found


async def ownership(
    connection: Connection, provider_id: str, queue: str, seq: int, recipients: Sequence[str]
) -> Ownership:
    """Whose an id is that was found for recipients of a message in `queue`."""
    account, channel = account_of(queue), channel_of(queue)
    if await reports.has_another(connection, (channel, account, provider_id), seq):
        return Ownership.ANOTHER
    queues = [queue_of(account, channel, own_credentials=own) for own in (False, True)]
    # An address as the stored text has it, quotes and all, is found without reading thousands of texts back.
    written = [to_json(recipient).decode() for recipient in recipients]
    under_way = await connection.fetchval(_UNDER_WAY_TO, queues, seq, written)
    return Ownership.UNCERTAIN if under_way else Ownership.FREE


def _row(row: Record, files: Callable[[int], bytes]) -> MessageRow:
    channel, id_, body = Channel(row["channel"]), row["id"], row["body"]
    return MessageRow(
        seq=row["seq"],
        id=id_,
        channel=channel,
        status=Status(row["status"]),
        queue=row["queue"],
        route=row["route"],
        priority=row["priority"],
        due_at=row["due_at"],
        expires_at=row["expires_at"],
        attempts=row["attempts"],
        crashes=row["crashes"],
        begun_at=row["begun_at"],
        created_at=row["created_at"],
        settled_at=row["settled_at"],
        receipt=receipt_of(id_, channel, row["status"], row["receipt"], row["queue"]),
        message=None if body is None else _message(channel, body, files, id_),
    )


def _message(channel: Channel, body: str, files: Callable[[int], bytes], id_: str) -> Message | None:
    """The message without its credentials; None when it cannot be read back, which a worker will report."""
    try:
        return load_message(channel, body, files, {}, id_)
    except (PostroomError, ValueError, TypeError, KeyError):
        return None


_ROWS = (
    "SELECT m.seq, id, channel, status, queue, route, priority, due_at, expires_at, attempts, crashes, begun_at, "
    "created_at, settled_at, receipt, body FROM messages m LEFT JOIN bodies USING (seq)"
)
_FOUND = f"{_ROWS} WHERE id = $1 AND ($2::text IS NULL OR tenant = $2)"
_LISTED = (
    f"{_ROWS} WHERE ($1::text[] IS NULL OR status = ANY ($1)) AND ($2::text IS NULL OR channel = $2) "
    "AND ($3::text IS NULL OR starts_with(queue, $3 || '/')) AND ($4::text IS NULL OR tenant = $4) "
    "AND ($5::float8 IS NULL OR created_at >= $5) AND ($6::float8 IS NULL OR created_at < $6) "
    "AND ($7::bigint IS NULL OR m.seq < $7) AND ($9::bigint IS NULL OR m.seq > $9) ORDER BY m.seq DESC LIMIT $8"
)
_BOUND = (
    "SELECT seq, created_at FROM messages WHERE tenant = $1 AND tenant <> '' AND ($2::bigint IS NULL OR seq < $2) "
    "ORDER BY seq DESC OFFSET $3 LIMIT 1"
)
_FILES = "SELECT seq, number, hash, content FROM message_files JOIN files USING (hash) WHERE seq = ANY ($1::bigint[])"
_SETTLED_BEFORE = (
    "SELECT m.seq, m.size FROM messages m WHERE m.settled_at <= $1 "
    "AND EXISTS (SELECT 1 FROM bodies b WHERE b.seq = m.seq) ORDER BY m.settled_at LIMIT $2"
)
_FIRST_DUE = (
    "coalesce((SELECT m.due_at FROM messages m WHERE m.queue = found.queue AND m.priority = {} "
    f"AND m.status IN {WAITING_SQL} ORDER BY m.due_at LIMIT 1), {NEVER})"
)
_DUE_QUEUES = f"""
    WITH RECURSIVE found (queue) AS (
        (SELECT queue FROM messages WHERE status IN {WAITING_SQL} ORDER BY queue LIMIT 1)
        UNION ALL
        SELECT (SELECT m.queue FROM messages m WHERE m.status IN {WAITING_SQL} AND m.queue > found.queue
                ORDER BY m.queue LIMIT 1)
        FROM found WHERE found.queue IS NOT NULL
    )
    SELECT queue, least({", ".join(_FIRST_DUE.format(priority) for priority in range(3))}) AS due_at
    FROM found WHERE queue IS NOT NULL"""
_ROUTES = (
    "SELECT DISTINCT route FROM (SELECT route FROM messages WHERE queue = $1 "
    f"AND status IN {WAITING_SQL} LIMIT 10000) found"
)
_UNDER_WAY_TO = (
    "SELECT 1 FROM messages m JOIN bodies b USING (seq) WHERE m.queue = ANY ($1::text[]) "
    f"AND m.status = '{Status.SENDING}' AND m.seq <> $2 "
    "AND EXISTS (SELECT 1 FROM unnest($3::text[]) AS address WHERE position(address IN b.body) > 0) LIMIT 1"
)
_STATES = "SELECT status, count(*) FROM messages GROUP BY status"
_QUEUE_SIZES = f"SELECT queue, count(*) FROM messages WHERE status IN {WAITING_SQL} GROUP BY queue ORDER BY queue"
_OLDEST = f"SELECT min(created_at) FROM messages WHERE status IN {WAITING_SQL} AND due_at < {NEVER}"
