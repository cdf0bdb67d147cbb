"""What an engine of the outbox stores. Everything else about messages is decided above it, once for every engine.

An engine keeps messages, gives each to one worker at a time, and forgets nothing it has said was stored. What to do
with a message, and when to try it again, is the executor's and the policies'; engines only ask `transitions` and
`gcra`, inside their transactions, what a change does to a message and how many may start.

Every method raises OutboxError, with what to do, when the storage cannot be used. Times are seconds since 1970.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from postroom.outbox.records import NOW

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from postroom.errors import PostroomError
    from postroom.events import Event
    from postroom.outbox.copy_mark import CopyMark
    from postroom.outbox.encryption import CredentialCipher
    from postroom.outbox.insertion import Insertion
    from postroom.outbox.records import (
        AccountHealth,
        Addressee,
        ClaimedMessage,
        ClaimLimit,
        EnqueueResult,
        Exchange,
        NewMessage,
        Ownership,
        Settlement,
        Suppression,
        UnreadableMessage,
    )
    from postroom.outbox.states import Transition
    from postroom.outbox.tables import Row, Table
    from postroom.outbox.views import MessageDetails, MessageFilter, MessageSummary, OutboxStats
    from postroom.receipts import Channel, Receipt


class MessageStorage(Protocol):
    """Accepts messages, and changes them at the word of a person or a provider."""

    async def insert(self, messages: Sequence[NewMessage]) -> list[EnqueueResult | PostroomError]:
        """Accept messages, in one transaction; they are on disk when this returns, one answer for each.

        A message with an idempotency key that was used before is answered with the first receipt, or with
        IdempotencyConflict when that was another message; one whose id is taken with OutboxError.
        """

    async def insertion(
        self, messages: Sequence[NewMessage], connection: object
    ) -> Insertion[list[EnqueueResult | PostroomError]]:
        """Make messages ready to be accepted through a caller's connection, in the transaction that it has open.

        They are there if that is committed, and only then; workers hear of them by the commit. Answers as `insert`
        does. Where it fails, it raises OutboxError, or TypeError for a connection that is none of the engine's; it has
        changed nothing then, and the caller's transaction can go on. No setting of the connection is changed.
        """

    async def used_keys(self, keys: Sequence[str], *, tenant: str) -> frozenset[str]:
        """Return those idempotency keys under which `tenant` had a message accepted before."""

    async def transition(
        self, id_: str, transition: Transition, *, tenant: str | None = None, note: str = "", held_until: float = NOW
    ) -> Receipt:
        """Make a transition that is not a worker's; see `reports.decided`.

        Raises MessageNotFound, or StateConflict when it may not be made.
        """

    async def record_event(self, event: Event, suppression: Suppression | None = None) -> Receipt | None:
        """Keep what a provider reported, once; the receipt of its message, None when that is known or not here.

        Which message it is about says `reports.subject`, of those handed over at least once; what becomes of it,
        `reports.after_reports`. Puts `suppression` on the list if `transitions.teaches`. All that with the report, in
        one transaction, so that a report that is repeated does nothing.
        """

    async def purge(self, where: MessageFilter) -> int:
        """Remove settled messages for good; returns how many."""

    async def compact(self) -> tuple[int, int]:
        """Give back to the disk what removed messages took; returns the bytes taken before and now.

        Raises OutboxError when it cannot be done now, and then has changed nothing.
        """


class WorkStorage(Protocol):
    """Gives due messages to workers and takes back what came of them."""

    async def due_queues(self) -> Mapping[str, float]:
        """When the first waiting message of each queue is due: NOW, a time, or NEVER.

        Only reads, and costs little: an idle worker asks often.
        """

    async def exchange(
        self,
        worker: int,
        settlements: Sequence[Settlement],
        health: Sequence[AccountHealth],
        limits: Mapping[str, ClaimLimit],
    ) -> Exchange:
        """Write what came of messages and how accounts do, then claim due ones within `limits`: one transaction.

        A settlement counts while `worker` owns the message and nobody has claimed it since; otherwise only
        `transitions.is_late_news` does; its `suppressions` count in any case, for they are about people. It is written
        as `reports.settled` returns it. The provider's ids are kept with the message (`reports.kind_beside`;
        `reports.disproven` for one that loses an id), and adopt the reports that waited for them (`reports.subject`),
        which then teach as `record_event` does.

        Of each queue the most urgent are claimed first, then those that waited longest; no more than
        `most_under_way` over all workers, nor than `gcra` lets start. A worker that is not registered any more gets
        nothing.
        """

    async def changed(self, since: int = -1) -> int:
        """Return a number for what is written by now, as soon as it is another than `since`.

        Workers wait for it; it may return more often than messages become due.
        """

    async def health(self) -> dict[str, AccountHealth]:
        """How every account does that was used, by queue."""

    async def ownership(self, provider_id: str, message: ClaimedMessage, recipients: Sequence[str]) -> Ownership:
        """Whose an id is that was found for some recipients of `message` at its account; to be asked after that.

        It may be another's as long as another message to one of them is under way there: its id is not known yet.
        """


class WorkerStorage(Protocol):
    """Knows which workers there are, so that one can take over what another died with."""

    async def register(self, name: str) -> int:
        """Enter a worker; returns its number, which is never given again."""

    async def heartbeat(self, worker: int) -> bool:
        """Count one more sign of life; False when the others gave the worker up already."""

    async def sign_off(self, worker: int) -> None:
        """Take a worker off the list; one that still has something in its hands stays, for others to rescue."""

    async def begin(self, worker: int, seq: int, attempts: int) -> bool:
        """Mark a message as begun; False when it is not this worker's any more, and must not be handed over.

        Awaited for every message immediately before its first byte, so it costs little; an engine that must write
        for it writes what is asked for at one time together. The mark outlives the death of the process. Where it may
        be lost, after a crash of the machine, `rescue` says of everything that it was begun.
        """

    async def live_workers(self) -> dict[int, int]:
        """Every worker's number, and how many heartbeats it has shown."""

    async def busy_workers(self) -> set[int]:
        """Those of them that have messages in hand. Only reads, and costs no more than there are such messages."""

    async def rescue(self, dead: int, heartbeats: int, worker: int) -> Sequence[ClaimedMessage | UnreadableMessage]:
        """Give `worker` what a dead one had claimed, counting one crash more for each message.

        `begun` is False only of messages that the other has surely not begun, nor can begin any more, should it be
        alive after all. Of those that `worker` gets it is remembered, in case that one dies too. Nothing if the other
        has shown another heartbeat since, or if `worker` itself is not registered any more.
        """


class UpkeepStorage(Protocol):
    """What must happen to messages that nobody sends now. `limit` bounds one transaction, so that others get in."""

    async def claim_in_doubt(self, worker: int, limit: int) -> Sequence[ClaimedMessage | UnreadableMessage]:
        """Give `worker` messages in doubt whose provider may be asked now. They stay in doubt meanwhile."""

    async def claim_lost(self, worker: int, limit: int) -> Sequence[ClaimedMessage | UnreadableMessage]:
        """Give `worker` messages that damage keeps from being claimed or rescued by anybody."""

    async def expire(self, limit: int) -> Sequence[Receipt]:
        """End waiting messages whose time is over (`transitions.expired`); returns the receipts of those it ended."""

    async def replan(self, longest: float, limit: int) -> int:
        """Bring messages that `transitions.was_planned_ahead` back to `transitions.replanned`; returns how many.

        Their claim counts as made now, so that it happens to each once.
        """

    async def waiting_routes(self, queue: str) -> Sequence[str]:
        """The routes by which messages came that wait in a queue."""

    async def reroute(self, queue: str, route: str, other: str, limit: int) -> int:
        """Move messages to another queue of their route; returns how many.

        Only those that nobody has tried in this round, and of which no attempt may have reached a provider: a message
        in doubt stays with the account that may have sent it.
        """

    async def prune(self, before: float, limit: int) -> int:
        """Remove bodies, attachments and keys of messages settled before a time; receipts stay. Returns how many."""

    async def forget_orphans(self, before: float, limit: int) -> int:
        """Remove reports received before a time of messages that are not here; what came in stays. Returns how many."""


class QueryStorage(Protocol):
    """Looks things up for people."""

    async def find(self, id_: str, *, tenant: str | None = None, contents: bool = True) -> MessageDetails | None:
        """Look one message up; without `contents` its attachments and large texts are left empty."""

    async def receipt(self, id_: str) -> tuple[Receipt, str] | None:
        """How a message stands and the queue it is in, without its text: for those who wait for it."""

    async def list(self, where: MessageFilter) -> list[MessageSummary]:
        """List messages, the newest first."""

    async def stats(self) -> OutboxStats:
        """Count messages, and say how accounts do."""

    async def resume(self, account: str) -> bool:
        """End the rest or pause of an account; False when it had none."""


class SuppressionStorage(Protocol):
    """Keeps who must not be written to: for each address, category and reason what was said last.

    An entry holds unless it is lifted, or an entry `manual` of the same address and category is lifted that was said
    no earlier. So what was said later counts, whatever order it arrives in.
    """

    async def add_suppression(self, suppression: Suppression) -> bool:
        """Put an address on the list, or lift it; False when something later was said for that reason already."""

    async def list_suppressions(self, channel: Channel | None, after: str, limit: int) -> list[Suppression]:
        """List entries that hold, by `Suppression.place`, from the one behind `after`."""

    async def match_suppressions(self, addressees: Iterable[Addressee]) -> dict[int, Suppression]:
        """Which of `addressees` must not be written to, by their place, and why; they are looked at once, if at all."""


class Store(MessageStorage, WorkStorage, WorkerStorage, UpkeepStorage, QueryStorage, SuppressionStorage, Protocol):
    """All that an engine stores. It opens itself when it is first used."""

    @property
    def clock(self) -> Callable[[], float]:
        """Gives seconds since 1970, the same for all workers."""

    async def open(self) -> None:
        """Make ready."""

    async def close(self) -> None:
        """End once everything asked for is written."""


class CopyStorage(Protocol):
    """Reads and writes an outbox's rows as they are, for a copy of all of it to another place.

    What changes anything is one transaction that first looks whether the mark is still `before`, and raises OutboxError
    when it is not: two that copy at once do not mix, and one that was interrupted goes on where it was.
    A place whose mark `is_fenced` refuses every write but those of a copy, whoever asks, with the mark's notice.
    """

    @property
    def place(self) -> str:
        """Where it is, in words without a password."""

    @property
    def cipher(self) -> CredentialCipher:
        """Decrypts what messages bring with the key that a worker at this place would have."""

    async def mark(self) -> CopyMark | None:
        """The mark of this place; looking does not make the outbox."""

    async def open(self) -> None:
        """Make ready. Raises OutboxError when another process has this place open."""

    async def close(self) -> None:
        """End once everything asked for is written."""

    async def salt(self) -> bytes:
        """The outbox's own random bytes, which go with its messages."""

    async def workers(self) -> Mapping[int, tuple[str, int]]:
        """The workers that have not signed off: their names, and how many heartbeats each has shown."""

    async def counts(self) -> Mapping[str, int]:
        """How many rows each table has."""

    async def numbers(self) -> Mapping[str, int]:
        """The last number that was given in each table of `tables.NUMBERED`."""

    async def credentials(self, limit: int) -> Sequence[tuple[str, bytes]]:
        """Encrypted credentials of messages, with their ids."""

    async def rows(self, table: Table, after: Sequence[Any], limit: int) -> Sequence[Row]:
        """Read rows behind a key, in the order of their keys: up to `limit`, or fewer large ones; none at the end."""

    async def fill(self, before: CopyMark | None, mark: CopyMark, salt: bytes) -> None:
        """Put a mark on a place that is to be filled, after removing all that a fenced one holds.

        Raises OutboxError for a place that is not fenced and holds anything.
        """

    async def add(self, before: CopyMark, mark: CopyMark, table: Table, rows: Sequence[Row]) -> None:
        """Write rows, and how far the copy has come."""

    async def complete(self, before: CopyMark, mark: CopyMark, numbers: Mapping[str, int]) -> None:
        """Give numbers out from behind those, and let the place be worked."""

    async def leave(self, before: CopyMark | None, mark: CopyMark, workers: Mapping[int, tuple[str, int]]) -> None:
        """Fence the place that is left, unless a worker has come, or shown life, since `workers` were read."""

    async def put_mark(self, before: CopyMark, mark: CopyMark) -> None:
        """Put another mark, and fence the place or not, as it says."""
