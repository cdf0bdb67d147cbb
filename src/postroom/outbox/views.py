"""What people are shown of the outbox, and what they ask for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import SerializeAsAny

from postroom.events import Event
from postroom.messages import Message
from postroom.outbox.records import NEVER, NOW, AccountHealth, account_of
from postroom.receipts import Channel, Receipt, Record, Status

PRIORITIES = ("high", "normal", "low")
"""The words for the numbers that engines sort by."""

_EXCERPT = 60
_LAST_MOMENT = datetime(9999, 12, 31, tzinfo=UTC).timestamp()


class QueueBacklog(Record):
    """How many messages a queue holds."""

    queue: str
    messages: int


class OutboxStats(Record):
    """Messages by state, waiting messages by queue, and the health of every account that was used."""

    states: Mapping[Status, int]
    waiting: tuple[QueueBacklog, ...] = ()
    accounts: tuple[AccountHealth, ...] = ()
    workers: int = 0
    oldest_waiting: datetime | None = None


class MessageSummary(Record):
    """One line of a listing. `subject` is the start of the subject or text, gone with the body."""

    seq: int
    id: str
    channel: Channel
    status: Status
    account: str
    to: tuple[str, ...] = ()
    subject: str = ""
    attempts: int = 0
    created_at: datetime
    due_at: datetime | None = None
    settled_at: datetime | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class MessageFilter:
    """Which messages a listing is about; everything given must hold. Times are seconds since 1970."""

    status: tuple[Status, ...] = ()
    channel: Channel | None = None
    account: str | None = None
    tenant: str | None = None
    to: str | None = None
    since: float | None = None
    until: float | None = None
    before_seq: int | None = None
    limit: int = 100


class MessageDetails(Record):
    """All that is known of one message. `message` is gone once its retention has passed; it never shows secrets."""

    receipt: Receipt
    account: str
    route: str
    priority: str
    attempts: int
    crashes: int
    created_at: datetime
    due_at: datetime | None
    expires_at: datetime
    begun_at: datetime | None
    settled_at: datetime | None
    events: tuple[Event, ...] = ()
    message: SerializeAsAny[Message] | None = None


@dataclass(frozen=True, slots=True)
class MessageRow:
    """What an engine knows of one message, as it is written down: times in seconds since 1970, 0 or None for never."""

    seq: int
    id: str
    channel: Channel
    status: Status
    queue: str
    route: str
    priority: int
    due_at: float
    expires_at: float
    attempts: int
    crashes: int
    begun_at: float
    created_at: float
    settled_at: float | None
    receipt: Receipt
    message: Message | None


def summary_of(row: MessageRow) -> MessageSummary:
    """Return the line of a listing."""
    message, receipt = row.message, row.receipt
    text = (getattr(message, "subject", None) or getattr(message, "body", "") or "") if message else ""
    return MessageSummary(
        seq=row.seq,
        id=row.id,
        channel=row.channel,
        status=row.status,
        account=account_of(row.queue),
        to=message.recipients if message else tuple(result.address for result in receipt.recipients),
        subject=text[:_EXCERPT],
        attempts=row.attempts,
        created_at=moment(row.created_at),
        due_at=_due(row),
        settled_at=moment(row.settled_at) if row.settled_at else None,
        error=_error(receipt),
    )


def details_of(row: MessageRow, events: Iterable[Event]) -> MessageDetails:
    """Return all that is known of a message; `events` are what providers reported, in any order."""
    return MessageDetails(
        receipt=row.receipt,
        account=account_of(row.queue),
        route=row.route,
        priority=PRIORITIES[row.priority],
        attempts=row.attempts,
        crashes=row.crashes,
        created_at=moment(row.created_at),
        due_at=_due(row),
        expires_at=moment(row.expires_at),
        begun_at=moment(row.begun_at) if row.begun_at else None,
        settled_at=moment(row.settled_at) if row.settled_at else None,
        events=tuple(sorted(events, key=lambda event: event.occurred_at)),
        message=row.message,
    )


def moment(seconds: float) -> datetime:
    """Return a stored time as one with a zone."""
    return datetime.fromtimestamp(min(seconds, _LAST_MOMENT), UTC)


def _due(row: MessageRow) -> datetime | None:
    waits = row.status in {Status.SCHEDULED, Status.RETRYING, Status.HELD}
    return moment(row.due_at) if waits and NOW < row.due_at < NEVER else None


def _error(receipt: Receipt) -> str | None:
    if receipt.attempts:
        return receipt.attempts[-1].error
    return next((result.code for result in receipt.recipients if result.code), None)
