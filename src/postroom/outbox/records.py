"""What passes between the outbox's store and those who use it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from pydantic import SerializeAsAny

from postroom.events import Event
from postroom.messages import Message
from postroom.receipts import Channel, Receipt, Record, Status

NEVER = 9e15
"""A time that does not come: what is due then waits for a person."""

NOW = 0.0
"""Due at single_round, whatever the clock says."""


def queue_of(account: str, channel: Channel, *, own_credentials: bool = False) -> str:
    """Return the name of the queue in front of one account: messages with credentials of their own have another."""
    return f"{account}/{channel}{'/own' if own_credentials else ''}"


def account_of(queue: str) -> str:
    """The account a queue leads to."""
    return queue.partition("/")[0]


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message about to be accepted. Times are seconds since 1970; `due_at` NOW means at once.

    `recipients` are the recipients its first hand-over is for (None: all); `single_round` makes one round of attempts.
    """

    message: Message
    queue: str
    route: str
    status: Status
    due_at: float
    expires_at: float
    tenant: str = ""
    single_round: bool = False
    recipients: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class EnqueueResult:
    """What `add` answers: the receipt, and whether it is an earlier one, given again for the same key.

    `accepted_as` is the status the message had when it was accepted.
    """

    receipt: Receipt
    accepted_as: Status
    replayed: bool = False


@dataclass(slots=True)
class Progress:
    """How far a message has come, where its receipt does not say it.

    `pending` are the recipients who may still be tried (None: all); `tried` the accounts that had each of them in
    this round; `recipients` those of the hand-over under way (None: all that are pending).
    """

    pending: tuple[str, ...] | None = None
    tried: dict[str, list[str]] = field(default_factory=dict)
    recipients: tuple[str, ...] | None = None
    rounds: int = 0
    asked: int = 0


@dataclass(slots=True)
class ClaimedMessage:
    """A message in the hands of a worker. `attempts` counts this hand-over; `crashes` the workers that died."""

    seq: int
    id: str
    status: Status
    queue: str
    route: str
    message: Message
    attempts: int
    crashes: int
    expires_at: float
    begun_at: float
    single_round: bool
    size: int
    progress: Progress
    receipt: Receipt | None


@dataclass(frozen=True, slots=True)
class Settlement:
    """What came of a hand-over: where the message is now, and when it is due again.

    `provider_ids` are the provider's own ids, by which its reports will name the message.
    """

    seq: int
    attempts: int
    status: Status
    receipt: Receipt
    queue: str
    route: str
    due_at: float = NEVER
    progress: Progress = field(default_factory=Progress)
    crashes: int = 0
    provider_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ClaimLimit:
    """How many messages of a queue a worker would take now; `rate` is messages a second."""

    limit: int
    most_under_way: int
    rate: float | None = None


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a worker got. `next_due` is the time the first message becomes due that is not yet."""

    entries: tuple[ClaimedMessage, ...] = ()
    next_due: float = NEVER


class QueueBacklog(Record):
    """How many messages a queue holds, and since when the oldest."""

    queue: str
    messages: int


class AccountHealth(Record):
    """How an account does, as all workers see it.

    `trouble` is the share of late hand-overs that failed for the account's sake, 0 to 1, fading with time;
    `latency` the usual seconds of a hand-over. Until `rests_until` nothing is tried, for `reason`; `paused`
    says that this is more than a passing trouble: credentials, or credit.
    """

    queue: str
    failure_rate: float = 0.0
    latency: float = 0.0
    consecutive_failures: int = 0
    observed_at: float = 0.0
    cooldown_until: float = 0.0
    paused: bool = False
    reason: str | None = None


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
