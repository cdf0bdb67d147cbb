"""Looking things up; none of this writes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from postroom.errors import PostroomError
from postroom.events import Event
from postroom.outbox.records import (
    NEVER,
    NOW,
    AccountHealth,
    MessageDetails,
    MessageSummary,
    OutboxStats,
    QueueBacklog,
    account_of,
)
from postroom.outbox.serialization import load_message
from postroom.outbox.sqlite.schema import WAITING_SQL
from postroom.receipts import Channel, Receipt, Status

if TYPE_CHECKING:
    import sqlite3

    from postroom.messages import Message
    from postroom.outbox.records import MessageFilter

_EXCERPT = 60


def receipt_of(id_: str, channel: str, status: str, receipt: str | None, queue: str) -> Receipt:
    """Return the receipt as it is now."""
    if receipt is None:
        return Receipt.model_construct(
            id=id_, channel=Channel(channel), status=Status(status), account=account_of(queue)
        )
    return Receipt.model_validate_json(receipt).model_copy(update={"status": Status(status)})


def find(connection: sqlite3.Connection, id_: str, tenant: str | None) -> MessageDetails | None:
    """Return all that is known of one message; None when there is none, or it is another tenant's."""
    row = connection.execute(_SHOWN, {"id": id_, "tenant": tenant}).fetchone()
    if row is None:
        return None
    (seq, channel, status, queue, route, priority, due_at, expires_at, attempts, crashes, begun_at, receipt,
     created_at, settled_at, body) = row  # fmt: skip
    return MessageDetails(
        receipt=receipt_of(id_, channel, status, receipt, queue),
        account=account_of(queue),
        route=route,
        priority=("high", "normal", "low")[priority],
        attempts=attempts,
        crashes=crashes,
        created_at=moment(created_at),
        due_at=_due(status, due_at),
        expires_at=moment(expires_at),
        begun_at=moment(begun_at) if begun_at else None,
        settled_at=moment(settled_at) if settled_at else None,
        events=events(connection, seq),
        message=None if body is None else _message(connection, seq, id_, Channel(channel), body),
    )


def listed(connection: sqlite3.Connection, where: MessageFilter) -> list[MessageSummary]:
    """Return the chosen messages, the newest first."""
    conditions, values = _conditions(where)
    condition = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    query = f"{_LISTED} {condition} ORDER BY m.seq DESC LIMIT ?"
    found: list[MessageSummary] = []
    for row in connection.execute(query, (*values, -1 if where.to else where.limit)):
        line = _line(row)
        if where.to is None or any(where.to in address for address in line.to):
            found.append(line)
        if len(found) == where.limit:
            break
    return found


def over(connection: sqlite3.Connection, now: float, most: int) -> list[int]:
    """Waiting messages that have expired."""
    return [seq for (seq,) in connection.execute(_OVER, (now, most))]


def settled_before(connection: sqlite3.Connection, time: float, most: int) -> list[int]:
    """Messages settled before `time` that still have their bodies."""
    return [seq for (seq,) in connection.execute(_SETTLED_BEFORE, (time, most))]


def waiting_routes(connection: sqlite3.Connection, queue: str) -> list[str]:
    """The routes, accounts and providers by which messages came into a queue."""
    return [route for (route,) in connection.execute(_ROUTES, (queue,))]


def stats(connection: sqlite3.Connection) -> OutboxStats:
    """Count messages by state and queue."""
    states = {Status(status): count for status, count in connection.execute(_STATES)}
    waiting = tuple(QueueBacklog(queue=queue, messages=count) for queue, count in connection.execute(_QUEUE_SIZES))
    oldest = connection.execute(_OLDEST).fetchone()[0]
    return OutboxStats(
        states=states,
        waiting=waiting,
        accounts=tuple(health(connection).values()),
        workers=connection.execute("SELECT count(*) FROM workers").fetchone()[0],
        oldest_waiting=moment(oldest) if oldest else None,
    )


def health(connection: sqlite3.Connection) -> dict[str, AccountHealth]:
    """The health of every queue that was used, by queue."""
    rows = connection.execute("SELECT queue, health FROM queues WHERE health IS NOT NULL")
    return {queue: AccountHealth.model_validate_json(text) for queue, text in rows}


def events(connection: sqlite3.Connection, seq: int) -> tuple[Event, ...]:
    """What providers reported of a message, in the order it happened."""
    rows = connection.execute("SELECT event FROM events WHERE seq = ?", (seq,))
    return tuple(sorted((Event.model_validate_json(text) for (text,) in rows), key=lambda event: event.occurred_at))


def another_has(connection: sqlite3.Connection, provider_id: str, seq: int) -> bool:
    """Whether a provider's id belongs to a message other than `seq`."""
    return (
        connection.execute(
            "SELECT 1 FROM provider_ids WHERE provider_id = ? AND seq != ?", (provider_id, seq)
        ).fetchone()
        is not None
    )


def moment(seconds: float) -> datetime:
    """Return a stored time as one with a zone."""
    return datetime.fromtimestamp(min(seconds, _LAST_MOMENT), UTC)


_LAST_MOMENT = datetime(9999, 12, 31, tzinfo=UTC).timestamp()


def _message(connection: sqlite3.Connection, seq: int, id_: str, channel: Channel, body: str) -> Message | None:
    files = dict(
        connection.execute("SELECT number, content FROM message_files JOIN files USING (hash) WHERE seq = ?", [seq])
    )
    try:
        return load_message(channel, body, files.__getitem__, {}, id_)
    except PostroomError:
        return None


def _conditions(where: MessageFilter) -> tuple[list[str], list[Any]]:
    conditions: list[str] = []
    values: list[Any] = []
    if where.status:
        conditions.append(f"m.status IN ({', '.join('?' * len(where.status))})")
        values += list(where.status)
    for condition, value in (
        ("m.channel = ?", where.channel),
        ("m.queue GLOB ? || '/*'", where.account),
        ("m.tenant = ?", where.tenant),
        ("m.created_at >= ?", where.since),
        ("m.created_at < ?", where.until),
        ("m.seq < ?", where.before_seq),
    ):
        if value is not None:
            conditions.append(condition)
            values.append(value)
    return conditions, values


def _line(row: tuple[Any, ...]) -> MessageSummary:
    seq, id_, channel, status, queue, attempts, due_at, created_at, settled_at, receipt, body = row
    known = Receipt.model_validate_json(receipt) if receipt else None
    message = None
    if body is not None:
        try:
            message = load_message(Channel(channel), body, lambda _: b"", {}, id_)
        except PostroomError:
            message = None
    to = message.recipients if message else tuple(result.address for result in known.recipients) if known else ()
    text = (getattr(message, "subject", None) or getattr(message, "body", "") or "") if message else ""
    return MessageSummary(
        seq=seq,
        id=id_,
        channel=Channel(channel),
        status=Status(status),
        account=account_of(queue),
        to=to,
        subject=text[:_EXCERPT],
        attempts=attempts,
        created_at=moment(created_at),
        due_at=_due(status, due_at),
        settled_at=moment(settled_at) if settled_at else None,
        error=_error(known),
    )


def _error(receipt: Receipt | None) -> str | None:
    if receipt is None:
        return None
    last = receipt.attempts[-1] if receipt.attempts else None
    if last:
        return last.error
    return next((result.code for result in receipt.recipients if result.code), None)


def _due(status: str, due_at: float) -> datetime | None:
    waits = status in {Status.SCHEDULED, Status.RETRYING, Status.HELD}
    return moment(due_at) if waits and NOW < due_at < NEVER else None


_SHOWN = (
    "SELECT m.seq, channel, status, queue, route, priority, due_at, expires_at, attempts, crashes, begun_at, receipt, "
    "created_at, settled_at, body FROM messages m LEFT JOIN bodies USING (seq) "
    "WHERE id = :id AND (:tenant IS NULL OR tenant = :tenant)"
)
_LISTED = (
    "SELECT m.seq, id, channel, status, queue, attempts, due_at, created_at, settled_at, receipt, body "
    "FROM messages m LEFT JOIN bodies USING (seq)"
)
_OVER = f"SELECT seq FROM messages INDEXED BY ready WHERE status IN {WAITING_SQL} AND expires_at <= ? LIMIT ?"
_SETTLED_BEFORE = "SELECT b.seq FROM bodies b JOIN messages m USING (seq) WHERE m.settled_at <= ? LIMIT ?"
_ROUTES = (
    f"SELECT DISTINCT route FROM (SELECT route FROM messages INDEXED BY ready WHERE queue = ? "
    f"AND status IN {WAITING_SQL} LIMIT 10000)"
)
_STATES = "SELECT status, count(*) FROM messages GROUP BY status"
_QUEUE_SIZES = (
    f"SELECT queue, count(*) FROM messages INDEXED BY ready WHERE status IN {WAITING_SQL} GROUP BY queue ORDER BY queue"
)
_OLDEST = f"SELECT min(created_at) FROM messages INDEXED BY ready WHERE status IN {WAITING_SQL} AND due_at < {NEVER}"
