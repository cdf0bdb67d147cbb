"""The SQLite engine: the outbox's storage in one file."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from postroom.errors import OutboxError, PostroomError
from postroom.large_work import one_at_a_time
from postroom.outbox.encryption import CredentialCipher
from postroom.outbox.records import NOW, ClaimedMessage, Exchange
from postroom.outbox.serialization import serialize_all
from postroom.outbox.sqlite import claim, damage, early, path_of, query, reports, settle, space, suppressions, update
from postroom.outbox.sqlite.begun import BegunMarks, marked_workers, path_of_worker, revoke
from postroom.outbox.sqlite.callers import insertion
from postroom.outbox.sqlite.changes import Changes
from postroom.outbox.sqlite.database import BUSY_TIMEOUT, Readers, Writer, connect, create, explained, not_ready
from postroom.outbox.sqlite.insert import salt
from postroom.outbox.sqlite.schema import prepare
from postroom.outbox.states import SETTLED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from postroom.config.outbox import OutboxSettings
    from postroom.events import Event
    from postroom.outbox.insertion import Insertion
    from postroom.outbox.records import (
        AccountHealth,
        Addressee,
        ClaimLimit,
        EnqueueResult,
        NewMessage,
        Ownership,
        Settlement,
        Suppression,
        UnreadableMessage,
    )
    from postroom.outbox.sqlite.begun import Claim
    from postroom.outbox.sqlite.claim import Row
    from postroom.outbox.sqlite.settle import Settled
    from postroom.outbox.states import Transition
    from postroom.outbox.views import MessageDetails, MessageFilter, MessageSummary, OutboxStats
    from postroom.receipts import Channel, Receipt

    Answers = list[EnqueueResult | PostroomError]

T = TypeVar("T")

_log = logging.getLogger("postroom.outbox")

MOST_AT_ONCE = 500
"""Messages purged in one transaction, so that others get in between."""

_STEPS_BACK = 32
"""How often in a round of upkeep the file is made shorter, so that the rest of the round does not wait for long."""


class SqliteStore:
    """Messages in one SQLite file; see `postroom.outbox.storage.Store`.

    Everything is opened when first needed. `clock` gives seconds since 1970; `busy_timeout` is how many seconds to
    wait for another process that keeps the file locked.
    """

    # Five connections, since SQLite gives each connection one transaction at a time. The writer's belongs to its
    # thread, where transactions queue up and share an fsync. Three read, each on its own thread (`Readers`). The fifth
    # stays on the loop's thread for looks that take microseconds, where a change of threads would cost more than the
    # look. In WAL mode no reader waits for the writer, nor it for them.
    # The lock around opening keeps two first callers from making two writers.

    def __init__(
        self, settings: OutboxSettings, *, clock: Callable[[], float] = time.time, busy_timeout: float = BUSY_TIMEOUT
    ) -> None:
        self.path = path_of(settings.url)
        self.clock = clock
        self.secret = b""
        self._busy_timeout = busy_timeout
        self.cipher = CredentialCipher(self.path.with_name(self.path.name + ".key"))
        self._opening = asyncio.Lock()
        self._readers: Readers | None = None
        self._quick_reader: sqlite3.Connection | None = None
        self._writer: Writer | None = None
        self._changes = Changes(self.path.with_name(self.path.name + "-wal"))
        self._probe: asyncio.Task[int] | None = None
        self._begun: dict[int, BegunMarks] = {}

    @property
    def transactions(self) -> int:
        """How many transactions were written since it was opened."""
        return self._writer.transactions if self._writer else 0

    async def open(self) -> None:
        """Make the file and its tables if need be."""
        async with self._opening:
            if self._writer is None:
                await asyncio.to_thread(self._open)

    async def close(self) -> None:
        """Write what was asked for, and close the file."""
        async with self._opening:
            self._changes.close()
            writer, self._writer = self._writer, None
            if writer is not None:
                await asyncio.to_thread(writer.close)
            readers, self._readers = self._readers, None
            if readers is not None:
                await asyncio.to_thread(readers.close)
            if self._quick_reader is not None:
                self._quick_reader.close()
                self._quick_reader = None

    async def write(self, operation: Callable[[sqlite3.Connection], T], *, synced: bool = True) -> T:
        """Run `operation` in a transaction of the writer; see `Writer.run`."""
        if self._writer is None:
            await self.open()
        assert self._writer
        answer: T = await self._writer.run(operation, synced=synced)
        return answer

    async def _claim(
        self, operation: Callable[[sqlite3.Connection], T], claimed: Callable[[T], Sequence[int]]
    ) -> tuple[T, list[Row]]:
        """Run `operation` in a transaction, and after it read the rows of the messages that it `claimed`."""
        if self._writer is None:
            await self.open()
        assert self._writer
        answer: tuple[T, list[Row]] = await self._writer.run(operation, lambda c, a: (a, claim.rows(c, claimed(a))))
        return answer

    async def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Run a query that takes milliseconds, in a thread."""
        if self._writer is None:
            await self.open()
        assert self._writer
        assert self._readers
        self._writer.check_file()
        return await self._readers.quick.run(query)

    async def search(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Run a query that may look at every message, in a thread that nothing else waits for."""
        if self._writer is None:
            await self.open()
        assert self._writer
        assert self._readers
        self._writer.check_file()
        return await self._readers.searching.run(query)

    async def check(self) -> None:
        """Raise OutboxError when nothing can be stored, as far as is known without keeping a writer waiting."""
        if self._writer is None:
            await self.open()
        assert self._writer
        self._writer.check_file()
        if notice := await self._look(query.notice):
            raise OutboxError(f"{self.path}: {notice}")
        if trouble := self._writer.trouble:
            if self._probe is None or self._probe.done():  # it may be over, and nobody writes that is not let in
                self._probe = asyncio.create_task(self.write(query.version))
                self._probe.add_done_callback(_seen)
            raise OutboxError(trouble)

    async def insert(self, messages: Sequence[NewMessage]) -> Answers:
        """See `MessageStorage.insert`."""
        if self._writer is None:
            await self.open()
        serialized = await serialize_all(messages, self.cipher, self.secret)
        answers = await early.insert_all(self.write, serialized, self.clock())
        self._changes.wake()
        return answers

    async def insertion(self, messages: Sequence[NewMessage], connection: object) -> Insertion[Answers]:
        """See `MessageStorage.insertion`."""
        await self.open()
        assert self._writer
        self._writer.check_file()
        serialized, now = await serialize_all(messages, self.cipher, self.secret), self.clock()
        return insertion(connection, serialized, now, self.path, self.secret)

    async def used_keys(self, keys: Sequence[str], *, tenant: str) -> frozenset[str]:
        """See `MessageStorage.used_keys`."""
        return await self._look(lambda c: query.used_keys(c, keys, tenant))

    async def transition(
        self, id_: str, transition: Transition, *, tenant: str | None = None, note: str = "", held_until: float = NOW
    ) -> Receipt:
        """See `MessageStorage.transition`."""
        change = partial(update.transition, id_=id_, wanted=transition, now=self.clock())
        receipt = await self.write(partial(change, tenant=tenant, note=note, held_until=held_until))
        self._changes.wake()
        return receipt

    async def record_event(self, event: Event, suppression: Suppression | None = None) -> Receipt | None:
        """See `MessageStorage.record_event`."""
        now = self.clock()
        return await self.write(lambda c: update.record_event(c, event, now, suppression))

    async def purge(self, where: MessageFilter) -> int:
        """See `MessageStorage.purge`."""
        removed = 0
        while True:
            page = replace(where, limit=MOST_AT_ONCE)
            lines = await self.list(page)
            seqs = [line.seq for line in lines if line.status in SETTLED]
            if seqs:
                removed += await self.write(partial(update.purge, seqs=seqs))
            if len(lines) < MOST_AT_ONCE:
                break
            where = replace(where, before_seq=lines[-1].seq)
        while await self._give_back():
            pass
        return removed

    async def compact(self) -> tuple[int, int]:
        """See `MessageStorage.compact`."""
        await self.open()
        return await asyncio.to_thread(space.compact, self.path, self._busy_timeout)

    async def _give_back(self) -> bool:
        """Make the file a little shorter, in a transaction of its own; False when there is nothing to give back."""
        if not await self.read(space.to_give_back):
            return False
        await self.write(space.give_back)
        return True

    async def due_queues(self) -> Mapping[str, float]:
        """See `WorkStorage.due_queues`."""
        return await self._look(claim.due_queues)

    async def exchange(
        self,
        worker: int,
        settlements: Sequence[Settlement],
        health: Sequence[AccountHealth],
        limits: Mapping[str, ClaimLimit],
    ) -> Exchange:
        """See `WorkStorage.exchange`."""
        now = self.clock()

        # One transaction for all three, and so one fsync a tick: the fsync is what a tick costs. Slots that settled
        # messages free are there for the claim, which also must not go by the health that this tick has overtaken.
        def operation(connection: sqlite3.Connection) -> tuple[Settled, list[int], float]:
            settled = settle.settle(connection, worker, settlements, now)
            for each in health:
                settle.keep_health(connection, each)
            return settled, *claim.claim(connection, worker, limits, now)

        ((settled, adopted), _, free_at), rows = await self._claim(operation, lambda answer: answer[1])
        if marks := self._begun.get(worker):
            marks.drop(settlement.seq for settlement in settlements)
            marks.claimed(map(claim.claim_of, rows))
        return Exchange(tuple(settled), await self._claimed(rows), free_at, tuple(adopted))

    async def changed(self, since: int = -1) -> int:
        """See `WorkStorage.changed`."""
        while (version := await self._look(query.version)) == since:
            await self._changes.wait()
        self._changes.note()
        return version

    async def health(self) -> dict[str, AccountHealth]:
        """See `WorkStorage.health`."""
        return await self._look(query.health)

    async def ownership(self, provider_id: str, message: ClaimedMessage, recipients: Sequence[str]) -> Ownership:
        """See `WorkStorage.ownership`."""
        return await self.read(lambda c: query.ownership(c, provider_id, message.queue, message.seq, recipients))

    async def register(self, name: str) -> int:
        """See `WorkerStorage.register`."""
        number = await self.write(lambda c: claim.register(c, name))
        self._begun[number] = BegunMarks(path_of_worker(self.path, number))
        await self._remove_old_marks()
        return number

    async def heartbeat(self, worker: int) -> bool:
        """See `WorkerStorage.heartbeat`."""
        return await self.write(lambda c: claim.heartbeat(c, worker))

    async def _remove_old_marks(self) -> None:
        """Remove the marks of workers that are gone: given up in this process, or killed in the middle of a rescue."""
        # In this order: a worker is listed before it has a file, and may come to be between the two looks.
        marked = [*marked_workers(self.path), *self._begun]
        workers = await self.live_workers()
        for gone in set(marked) - workers.keys():
            if marks := self._begun.pop(gone, None):
                marks.remove()
            path_of_worker(self.path, gone).unlink(missing_ok=True)

    async def sign_off(self, worker: int) -> None:
        """See `WorkerStorage.sign_off`."""
        if await self.write(lambda c: claim.sign_off(c, worker)) and worker in self._begun:
            self._begun.pop(worker).remove()

    async def begin(self, worker: int, seq: int, attempts: int) -> bool:
        """See `WorkerStorage.begin`."""
        marks = self._begun.get(worker)
        return marks is not None and marks.add([(seq, attempts)])

    async def live_workers(self) -> dict[int, int]:
        """See `WorkerStorage.live_workers`."""
        return await self._look(claim.live_workers)

    async def busy_workers(self) -> set[int]:
        """See `WorkerStorage.busy_workers`."""
        return await self._look(claim.busy_workers)

    async def rescue(self, dead: int, heartbeats: int, worker: int) -> Sequence[ClaimedMessage | UnreadableMessage]:
        """See `WorkerStorage.rescue`."""
        marks = path_of_worker(self.path, dead)

        # Inside the transaction: the other can show no life any more, and its messages have no other owner yet.
        def operation(connection: sqlite3.Connection) -> tuple[list[Claim], set[Claim] | None] | None:
            if not claim.give_up(connection, dead, heartbeats, worker):
                return None
            begun, claims = revoke(marks), claim.take_over(connection, dead, worker)
            heir = self._begun[worker]
            heir.claimed(claims)
            if not heir.add([each for each in claims if begun is None or each in begun]):
                raise OutboxError(f"{self.path}: worker {worker} is given up itself, and takes nothing over")
            return claims, begun

        taken_over, rows = await self._claim(operation, lambda answer: [seq for seq, _ in answer[0]] if answer else [])
        if taken_over is None:
            return ()
        _, begun = taken_over
        marks.unlink(missing_ok=True)
        claimed = await self._claimed(rows)
        return [claim.marked(each, begun=begun is None or (each.seq, each.attempts) in begun) for each in claimed]

    async def claim_in_doubt(self, worker: int, limit: int) -> Sequence[ClaimedMessage | UnreadableMessage]:
        """See `UpkeepStorage.claim_in_doubt`."""
        now = self.clock()
        if not await self._look(lambda c: claim.any_in_doubt(c, now)):
            return ()
        _, rows = await self._claim(lambda c: claim.claim_in_doubt(c, worker, now, limit), lambda seqs: seqs)
        return await self._claimed(rows)

    async def claim_lost(self, worker: int, limit: int) -> Sequence[ClaimedMessage | UnreadableMessage]:
        """See `UpkeepStorage.claim_lost`."""
        now = self.clock()
        reasons = dict(await self.read(lambda c: claim.lost(c, limit)))
        if not reasons:
            return ()

        # Marked as begun: it may have been, and should this worker die, who rescues it must not send it.
        def operation(connection: sqlite3.Connection) -> list[Claim]:
            claims = claim.claim_lost(connection, worker, list(reasons), now)
            self._begun[worker].claimed(claims)
            if not self._begun[worker].add(claims):
                raise OutboxError(f"{self.path}: worker {worker} is given up itself, and takes nothing over")
            return claims

        _, rows = await self._claim(operation, lambda claims: [seq for seq, _ in claims])
        return [claim.set_aside(each, reasons[each.seq]) for each in await self._claimed(rows)]

    async def expire(self, limit: int) -> Sequence[Receipt]:
        """See `UpkeepStorage.expire`."""
        now = self.clock()
        seqs = await self.read(lambda c: query.expired(c, now, limit))
        return await self._expire(seqs, now) if seqs else []

    async def _expire(self, seqs: Sequence[int], now: float) -> Sequence[Receipt]:
        try:
            return await self.write(lambda c: update.expire(c, seqs, now))
        except OutboxError as error:
            if not damage.is_damage(error.__cause__):
                raise
            if len(seqs) == 1:
                _log.error("message %s cannot expire: %s", seqs[0], error)
                return []
            return [receipt for seq in seqs for receipt in await self._expire([seq], now)]

    async def replan(self, longest: float, limit: int) -> int:
        """See `UpkeepStorage.replan`."""
        now = self.clock()
        ahead = await self.read(lambda c: query.planned_ahead(c, now, limit))
        return await self.write(lambda c: update.replan(c, ahead, now, longest)) if ahead else 0

    async def waiting_routes(self, queue: str) -> Sequence[str]:
        """See `UpkeepStorage.waiting_routes`."""
        return await self.read(lambda c: query.waiting_routes(c, queue))

    async def reroute(self, queue: str, route: str, other: str, limit: int) -> int:
        """See `UpkeepStorage.reroute`."""
        return await self.write(lambda c: update.reroute(c, queue, route, other, limit))

    async def prune(self, before: float, limit: int) -> int:
        """See `UpkeepStorage.prune`."""
        seqs = await self.read(lambda c: query.settled_before(c, before, limit))
        if seqs:
            return await self._prune(seqs, before)
        now = self.clock()
        while hashes := await self.read(lambda c: early.stranded(c, now)):
            await self.write(partial(early.remove, hashes=hashes))
        for _ in range(_STEPS_BACK):
            if not await self._give_back():
                break
        return 0

    async def _prune(self, seqs: Sequence[int], before: float) -> int:
        try:
            return await self.write(lambda c: update.prune(c, seqs, before))
        except OutboxError as error:
            if not damage.is_damage(error.__cause__):
                raise
            if len(seqs) == 1:
                _log.error("what message %s needs no more cannot be removed: %s", seqs[0], error)
                return 0
            return sum([await self._prune([seq], before) for seq in seqs])  # all but the one with the damaged page

    async def forget_orphans(self, before: float, limit: int) -> int:
        """See `UpkeepStorage.forget_orphans`."""
        if not await self.read(lambda c: query.any_orphan(c, before)):
            return 0
        return await self.write(lambda c: reports.forget_orphans(c, before, limit))

    async def find(self, id_: str, *, tenant: str | None = None, contents: bool = True) -> MessageDetails | None:
        """See `QueryStorage.find`."""
        return await self.read(lambda c: query.find(c, id_, tenant, contents=contents))

    async def receipt(self, id_: str) -> tuple[Receipt, str] | None:
        """See `QueryStorage.receipt`."""
        return await self._look(lambda c: query.receipt(c, id_))

    async def stats(self) -> OutboxStats:
        """See `QueryStorage.stats`."""
        return await self.read(query.stats)

    async def resume(self, account: str) -> bool:
        """See `QueryStorage.resume`."""
        ended = await self.write(lambda c: update.resume(c, account))
        self._changes.wake()
        return ended

    async def add_suppression(self, suppression: Suppression) -> bool:
        """See `SuppressionStorage.add_suppression`."""
        return await self.write(lambda c: suppressions.put(c, suppression))

    async def list_suppressions(self, channel: Channel | None, after: str, limit: int) -> list[Suppression]:
        """See `SuppressionStorage.list_suppressions`."""
        return await self.search(lambda c: suppressions.listed(c, channel, after, limit))

    async def match_suppressions(self, addressees: Iterable[Addressee]) -> dict[int, Suppression]:
        """See `SuppressionStorage.match_suppressions`."""
        return await self._look(lambda c: suppressions.match(c, addressees))

    async def list(self, where: MessageFilter) -> list[MessageSummary]:
        """See `QueryStorage.list`."""
        return await self.search(lambda c: query.listed(c, where))

    async def _claimed(self, rows: Sequence[Row]) -> tuple[ClaimedMessage | UnreadableMessage, ...]:
        # Out of the writer's thread: to read messages back takes longer than to claim them, and others want to write.
        # Large ones are also read out of the loop's.
        def claimed(connection: sqlite3.Connection) -> tuple[ClaimedMessage | UnreadableMessage, ...]:
            return tuple(claim.claimed_of(connection, row, self.cipher) for row in rows)

        if not claim.take_long(rows):
            return await self._look(claimed)
        assert self._readers
        return await self._readers.large.run(lambda c: one_at_a_time(claimed, c))

    async def _look(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Run a query that takes microseconds, here and now."""
        if self._writer is None:
            await self.open()
        try:
            if self._quick_reader is None:
                self._quick_reader = connect(self.path)
            return query(self._quick_reader)
        except sqlite3.Error as error:
            raise explained(error, self.path) from error

    def _open(self) -> None:
        if not self.path.parent.is_dir():
            raise OutboxError(f"{self.path}: its folder does not exist; make it, or name another in [outbox] url")
        create(self.path)
        connection = connect(self.path, any_thread=True, busy_timeout=self._busy_timeout, writes=True)
        try:
            prepare(connection, self.path)
            self.secret = salt(connection)
        except sqlite3.Error as error:
            connection.close()
            raise not_ready(error, self.path) from error
        except BaseException:
            connection.close()
            raise
        self._readers = Readers(self.path)
        self._writer = Writer(connection, self.path, self._busy_timeout)


def _seen(probe: asyncio.Task[int]) -> None:
    """Take note of how a probe ended; what it found, the writer knows."""
    if not probe.cancelled():
        probe.exception()
