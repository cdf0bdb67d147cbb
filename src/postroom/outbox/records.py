"""What passes to and from the outbox's engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Literal, NamedTuple, Self

from postroom.outcomes import SuppressionReason
from postroom.receipts import Channel, Receipt, Record, Status

if TYPE_CHECKING:
    from postroom.errors import PostroomError
    from postroom.events import Event
    from postroom.messages import Message

NEVER = 9e15
"""A time that does not come: what is due then waits for a person."""

MOST_BYTES = 67_108_864
"""Bodies and attachments in a worker's hands; what is being sent takes several times its size in memory."""

NOW = 0.0
"""Due at once, whatever the clock says."""

_OWN = "/own"


def queue_of(account: str, channel: Channel, *, own_credentials: bool = False) -> str:
    """Return the name of the queue in front of one account: messages with credentials of their own have another."""
    return f"{account}/{channel}{_OWN if own_credentials else ''}"


def account_of(queue: str) -> str:
    """The account a queue leads to."""
    return queue.partition("/")[0]


def channel_of(queue: str) -> Channel:
    """The channel of a queue's messages."""
    return Channel(queue.split("/")[1])


def brings_credentials(queue: str) -> bool:
    """Whether a queue is one of messages with credentials of their own."""
    return queue.endswith(_OWN)


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message about to be accepted. Times are seconds since 1970; `due_at` NOW means at once.

    `recipients` are those its first hand-over is for (None: all); `single_round` makes one round of attempts. Before
    `held_until` its tenant must not have it sent.
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
    held_until: float = NOW


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
    this round; `recipients` those of the hand-over under way (None: all that are pending); `rounds` of attempts are
    over; the provider was `asked` that often what became of it. Before `held_until` only a person lets it go, whatever
    its tenant does with it meanwhile.
    """

    pending: tuple[str, ...] | None = None
    tried: dict[str, list[str]] = field(default_factory=dict)
    recipients: tuple[str, ...] | None = None
    rounds: int = 0
    asked: int = 0
    held_until: float = NOW


@dataclass(slots=True)
class ClaimedMessage:
    """A message in the hands of a worker. `attempts` counts this hand-over; `crashes` the workers that died.

    `created_at`: when it was accepted.
    `begun` says of one that was rescued whether its worker may have begun to hand it over.
    """

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
    created_at: datetime
    single_round: bool
    size: int
    progress: Progress
    receipt: Receipt | None
    begun: bool = True


@dataclass(frozen=True, slots=True)
class UnreadableMessage:
    """A claimed message that cannot be read back: its row was changed or damaged, or its credentials need another key.

    `in_doubt`: it may have been handed over before. `locked`: all but its credentials can be read, which `receipt` and
    `progress` then are.
    """

    seq: int
    id: str
    channel: Channel
    queue: str
    route: str
    attempts: int
    error: PostroomError
    in_doubt: bool = False
    locked: bool = False
    receipt: Receipt | None = None
    progress: Progress = field(default_factory=Progress)

    @classmethod
    def without_key(cls, message: ClaimedMessage, error: PostroomError, *, in_doubt: bool) -> Self:
        """Return what can be said of a message without its credentials."""
        return cls(
            message.seq,
            message.id,
            message.message.channel_name,
            message.queue,
            message.route,
            message.attempts,
            error,
            in_doubt=in_doubt,
            locked=True,
            receipt=message.receipt,
            progress=message.progress,
        )


class IdKind(StrEnum):
    """How a message came by a provider's id: in the answer to its hand-over (`own`), or by a search for it (`found`).

    A provider that takes several messages in one call may give all of them one id: it is `shared`, and does not tell
    them apart. Otherwise an id is one message's.
    """

    OWN = "own"
    FOUND = "found"
    SHARED = "shared"


class Ownership(StrEnum):
    """Whose a provider's id is that was found for a message: nobody's yet, `another`'s, or perhaps another's."""

    FREE = "free"
    ANOTHER = "another"
    UNCERTAIN = "uncertain"


class ProviderId(NamedTuple):
    """A provider's id of a message, and the account it is of: by it the provider's reports will name the message."""

    account: str
    value: str
    kind: IdKind = IdKind.OWN


@dataclass(frozen=True, slots=True)
class Settlement:
    """What came of a hand-over: where the message is now, and when it is due again.

    `provider_ids` are what the provider calls the message, `recipients` all that it is for. `otherwise` is written
    in its place when an id that was found belongs to another message already. `suppressions` are what the hand-over
    showed of its recipients. The credentials of a message go when it is settled, unless nobody has read it (`unread`).
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
    provider_ids: tuple[ProviderId, ...] = ()
    recipients: tuple[str, ...] = ()
    otherwise: Settlement | None = None
    suppressions: tuple[Suppression, ...] = ()
    unread: bool = False


@dataclass(frozen=True, slots=True)
class ClaimLimit:
    """How many messages of a queue a worker would take now; `rate` is messages a second.

    `size` is how many bytes of bodies and attachments it has room for; a larger message goes if it is the first.
    """

    limit: int
    most_under_way: int
    rate: float | None = None
    size: int = MOST_BYTES


@dataclass(frozen=True, slots=True)
class Exchange:
    """What a worker got for what it brought.

    `settled` are the settlements as they were written, which reports may have changed; None for one that was not.
    `claimed` are the messages it has now; `free_at` is when a queue that is at its rate may go on. `adopted` are
    reports that came before their message's id was known, with its receipt, to be passed on.
    """

    settled: tuple[Settlement | None, ...] = ()
    claimed: tuple[ClaimedMessage | UnreadableMessage, ...] = ()
    free_at: float = NEVER
    adopted: tuple[tuple[Event, Receipt], ...] = ()

    @property
    def kept(self) -> tuple[bool, ...]:
        """Of each settlement, whether it was written."""
        return tuple(settlement is not None for settlement in self.settled)


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message as it lies in the outbox, for a transition that is not a worker's.

    `recipients` are all that it is for; none where its text is gone, or nothing can be sent of it any more.
    """

    seq: int
    id: str
    queue: str
    receipt: Receipt
    progress: Progress
    has_body: bool = True
    has_credentials: bool = False
    due_at: float = NEVER
    recipients: tuple[str, ...] = ()
    expires_at: float = NEVER


class AccountHealth(Record):
    """How an account does, as all workers see it.

    `failure_rate` is the share of late hand-overs that failed for the account's sake, 0 to 1, fading with time;
    `latency` the usual seconds of a hand-over. Until `cooldown_until` nothing is tried, for `reason`; `paused`
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


SuppressionCategory = Literal["", "marketing", "transactional"]
"""Which messages a suppression is about; empty: every message."""


class Suppression(Record):
    """One address that must not be written to; `category` is `marketing`, or empty for every message.

    `since` is when that was said; `lifted` that it no longer holds since then. There is one for each reason, and each
    says the last of its own: a START after a bounce does not revive a number. Only a person (`manual`) lifts whatever
    reason there was by then.
    """

    channel: Channel
    address: str
    category: SuppressionCategory = ""
    reason: SuppressionReason
    detail: str | None = None
    since: datetime
    lifted: bool = False

    @property
    def place(self) -> str:
        """Where it stands in a list."""
        return f"{self.address} {self.channel} {self.category} {self.reason}"

    def __str__(self) -> str:
        scope = f" for {self.category} messages" if self.category else ""
        return f"{self.address} is on the suppression list{scope} ({self.reason} on {self.since:%Y-%m-%d})"


class Addressee(NamedTuple):
    """Somebody a message is meant for, as the suppression list has addresses; `category` is the message's."""

    channel: Channel
    address: str
    category: str
