"""The PostgreSQL engine: the outbox's storage in one database that any number of machines share."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from asyncpg import LockNotAvailableError

from postroom.errors import OutboxError, PostroomError
from postroom.outbox.encryption import SharedKeyCipher
from postroom.outbox.postgres import Location, claim, insert, query, reports, settle, space, suppressions, update
from postroom.outbox.postgres.callers import insertion
from postroom.outbox.postgres.clock import WARN_ABOVE, ServerClock
from postroom.outbox.postgres.database import FAILURES, TIMEOUT, Database, fetch
from postroom.outbox.postgres.gathering import Gatherer, RowsLocked
from postroom.outbox.postgres.schema import prepare
from postroom.outbox.records import NOW, Exchange
from postroom.outbox.serialization import serialize_all
from postroom.outbox.statements import run_awaiting
from postroom.outbox.states import SETTLED

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from asyncpg import Connection, Record

    from postroom.config.outbox import OutboxSettings
    from postroom.events import Event
    from postroom.outbox.insertion import Insertion
    from postroom.outbox.postgres.claim import Claim
    from postroom.outbox.postgres.settle import Settled
    from postroom.outbox.records import (
        AccountHealth,
        Addressee,
        ClaimedMessage,
        ClaimLimit,
        EnqueueResult,
        NewMessage,
        Ownership,
        Settlement,
        Suppression,
        UnreadableMessage,
    )
    from postroom.outbox.serialization import SerializedMessage
    from postroom.outbox.states import Transition
    from postroom.outbox.views import MessageDetails, MessageFilter, MessageSummary, OutboxStats
    from postroom.receipts import Channel, Receipt

    Answers = list[EnqueueResult | PostroomError]

T = TypeVar("T")

_log = logging.getLogger("postroom.outbox")
_SERVER_TIME = "SELECT extract(epoch FROM clock_timestamp())::float8"

_LOCK_TIMEOUT = "SET LOCAL lock_timeout = '250ms'"

MOST_AT_ONCE = 500
"""Messages purged in one transaction, so that others get in between."""

INSERTIONS_AT_ONCE = 2
"""Transactions that insert at the same time: while one waits for the disk, the next is filled."""

POLL_INTERVAL = 1.0
"""Seconds between two looks where no notification has ever come: a pooler may be between, or the line is broken."""

NET_INTERVAL = 5.0
"""The same where notifications come: the net below them."""


class PostgresStore:
    """Messages in a PostgreSQL database; see `postroom.outbox.storage.Store`.

    Everything is opened when first needed. `clock` gives seconds since 1970; without one it is the database's, which
    all machines share.
    """

    def __init__(self, settings: OutboxSettings, *, clock: Callable[[], float] | None = None) -> None:
        self._server_clock = ServerClock()
        self.clock = clock or self._server_clock
        self.secret = b""
        self.location = Location(settings.url)
        self._database = Database(self.location)
        self.cipher = SharedKeyCipher()
        self._opening = asyncio.Lock()
        self._is_open = False
        self._announcements = _Announcements(self._database)
        self._insertions = Gatherer(self._insert, at_once=INSERTIONS_AT_ONCE, locked_for=TIMEOUT)
        self._beginnings: dict[int, Gatherer[Claim, bool]] = {}
        self._unheard: dict[int, list[Claim]] = {}
        self._half_rescued: dict[int, tuple[int, list[Claim]]] = {}
        self._warned = False

    async def open(self) -> None:
        """Connect, and make the tables if need be."""
        async with self._opening:
            if self._is_open:
                return
            await self._database.open()
            async with self._database.connection() as connection:
                self.secret = await prepare(connection, self._database.location.schema)
                asked_at = self._server_clock.now
                self._set_clock(await connection.fetchval(_SERVER_TIME), asked_at)
            self._is_open = True

    async def close(self) -> None:
        """End once what was asked for is done."""
        async with self._opening:
            self._is_open = False
            await self._announcements.close()
            await self._database.close()

    async def insert(self, messages: Sequence[NewMessage]) -> Answers:
        """See `MessageStorage.insert`."""
        await self.open()
        serialized = await serialize_all(messages, self.cipher, self.secret)
        answers = await self._insertions.add(serialized, size=sum(message.size for message in serialized))
        self._announcements.announce()
        return list(answers)

    async def insertion(self, messages: Sequence[NewMessage], connection: object) -> Insertion[Answers]:
        """See `MessageStorage.insertion`."""
        await self.open()
        serialized, now = await serialize_all(messages, self.cipher, self.secret), self.clock()
        return insertion(connection, serialized, now, self._database.location, self.secret)

    async def used_keys(self, keys: Sequence[str], *, tenant: str) -> frozenset[str]:
        """See `MessageStorage.used_keys`."""
        return await self.read(lambda c: insert.used_keys(c, keys, tenant))

    async def transition(
        self, id_: str, transition: Transition, *, tenant: str | None = None, note: str = "", held_until: float = NOW
    ) -> Receipt:
        """See `MessageStorage.transition`."""
        change = partial(update.transition, id_=id_, wanted=transition, now=self.clock())
        receipt = await self.write(partial(change, tenant=tenant, note=note, held_until=held_until))
        self._announcements.announce()
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
                return removed
            where = replace(where, before_seq=lines[-1].seq)

    async def compact(self) -> tuple[int, int]:
        """See `MessageStorage.compact`."""
        await self.open()
        return await space.compact(self._database)

    async def due_queues(self) -> Mapping[str, float]:
        """See `WorkStorage.due_queues`."""
        return await self.read(query.due_queues)

    async def exchange(
        self,
        worker: int,
        settlements: Sequence[Settlement],
        health: Sequence[AccountHealth],
        limits: Mapping[str, ClaimLimit],
    ) -> Exchange:
        """See `WorkStorage.exchange`."""
        now = self.clock()
        rows: list[Record] = []

        async def operation(connection: Connection) -> tuple[Settled, float]:
            settled = await settle.settle(connection, worker, settlements, now)
            if health:
                await settle.keep_health(connection, health)
            recovered = await claim.unheard(connection, worker, self._unheard.get(worker, ()))
            claimed, free_at = await claim.claim(connection, worker, limits, now)
            rows[:] = [*recovered, *claimed]
            return settled, free_at

        try:
            (settled, adopted), free_at = await self.write(operation)
            claimed = await self._claimed(rows)
        except BaseException:
            # It may be committed all the same: then these messages are this worker's, and it does not know.
            if rows:
                self._unheard[worker] = [claim.claim_of(row) for row in rows]
            raise
        self._unheard.pop(worker, None)
        return Exchange(tuple(settled), claimed, free_at, tuple(adopted))

    def _set_clock(self, server_time: float, asked_at: float) -> None:
        self._server_clock.set(server_time, asked_at)
        if abs(ahead := self._server_clock.difference) > WARN_ABOVE and not self._warned:
            self._warned = True
            _log.warning(
                "this machine's clock differs from the database's by %.0f s; the database's counts, put yours right",
                ahead,
            )

    async def changed(self, since: int = -1) -> int:
        """See `WorkStorage.changed`."""
        await self.open()
        return await self._announcements.changed(since)

    async def health(self) -> dict[str, AccountHealth]:
        """See `WorkStorage.health`."""
        return await self.read(query.health)

    async def ownership(self, provider_id: str, message: ClaimedMessage, recipients: Sequence[str]) -> Ownership:
        """See `WorkStorage.ownership`."""
        return await self.read(lambda c: query.ownership(c, provider_id, message.queue, message.seq, recipients))

    async def register(self, name: str) -> int:
        """See `WorkerStorage.register`."""
        return await self.write(lambda c: claim.register(c, name))

    async def heartbeat(self, worker: int) -> bool:
        """See `WorkerStorage.heartbeat`."""
        asked_at = self._server_clock.now
        server_time = await self._once(lambda c: claim.heartbeat(c, worker))
        if server_time is not None:
            self._set_clock(server_time, asked_at)
        return server_time is not None

    async def sign_off(self, worker: int) -> None:
        """See `WorkerStorage.sign_off`."""
        await self.write(lambda c: claim.sign_off(c, worker))
        self._beginnings.pop(worker, None)

    async def begin(self, worker: int, seq: int, attempts: int) -> bool:
        """See `WorkerStorage.begin`."""
        if worker not in self._beginnings:
            self._beginnings[worker] = Gatherer(partial(self._begin, worker), at_once=1)
        [begun] = await self._beginnings[worker].add([(seq, attempts)])
        return begun

    async def live_workers(self) -> dict[int, int]:
        """See `WorkerStorage.live_workers`."""
        gone = {dead: heartbeats for dead, (heartbeats, _) in self._half_rescued.items()}
        return {**gone, **await self.read(claim.live_workers)}  # so that `rescue` is asked for them again

    async def busy_workers(self) -> set[int]:
        """See `WorkerStorage.busy_workers`."""
        return await self.read(claim.busy_workers)

    async def rescue(self, dead: int, heartbeats: int, worker: int) -> Sequence[ClaimedMessage | UnreadableMessage]:
        """See `WorkerStorage.rescue`."""
        _, before = self._half_rescued.get(dead, (0, ()))
        rows: list[Record] = []

        async def operation(connection: Connection) -> None:
            recovered = await claim.unheard(connection, worker, before)
            rows[:] = [*recovered, *await claim.rescue(connection, dead, heartbeats, worker)]

        try:
            await self.write(operation)
            claimed = await self._claimed(rows)
        except BaseException:
            # As in `exchange`; but what is rescued is not to be sent as if it were fresh.
            if rows:
                self._half_rescued[dead] = (heartbeats, [claim.claim_of(row) for row in rows])
            raise
        self._half_rescued.pop(dead, None)
        return claimed

    async def claim_in_doubt(self, worker: int, limit: int) -> Sequence[ClaimedMessage | UnreadableMessage]:
        """See `UpkeepStorage.claim_in_doubt`."""
        now = self.clock()
        return await self._claimed(await self._once(lambda c: claim.claim_in_doubt(c, worker, now, limit)))

    async def claim_lost(self, worker: int, limit: int) -> Sequence[ClaimedMessage | UnreadableMessage]:  # noqa: ARG002 - the protocol
        """See `UpkeepStorage.claim_lost`; none, since the types of PostgreSQL's columns hold for whoever writes."""
        return ()

    async def expire(self, limit: int) -> Sequence[Receipt]:
        """See `UpkeepStorage.expire`."""
        now = self.clock()
        return await self.write(lambda c: update.expire(c, now, limit))

    async def replan(self, longest: float, limit: int) -> int:
        """See `UpkeepStorage.replan`."""
        now = self.clock()
        return await self.write(lambda c: update.replan(c, now, longest, limit))

    async def waiting_routes(self, queue: str) -> Sequence[str]:
        """See `UpkeepStorage.waiting_routes`."""
        return await self.read(lambda c: query.waiting_routes(c, queue))

    async def reroute(self, queue: str, route: str, other: str, limit: int) -> int:
        """See `UpkeepStorage.reroute`."""
        return await self.write(lambda c: update.reroute(c, queue, route, other, limit))

    async def prune(self, before: float, limit: int) -> int:
        """See `UpkeepStorage.prune`."""
        seqs = await self.read(lambda c: query.settled_before(c, before, limit))
        return await self.write(lambda c: update.prune(c, seqs, before)) if seqs else 0

    async def forget_orphans(self, before: float, limit: int) -> int:
        """See `UpkeepStorage.forget_orphans`."""
        return await self.write(lambda c: reports.forget_orphans(c, before, limit))

    async def find(self, id_: str, *, tenant: str | None = None, contents: bool = True) -> MessageDetails | None:
        """See `QueryStorage.find`."""
        return await self.read(lambda c: query.find(c, id_, tenant, contents=contents))

    async def receipt(self, id_: str) -> tuple[Receipt, str] | None:
        """See `QueryStorage.receipt`."""
        return await self.read(lambda c: query.receipt(c, id_))

    async def stats(self) -> OutboxStats:
        """See `QueryStorage.stats`."""
        return await self.read(query.stats)

    async def resume(self, account: str) -> bool:
        """See `QueryStorage.resume`."""
        ended = await self.write(lambda c: update.resume(c, account))
        self._announcements.announce()
        return ended

    async def add_suppression(self, suppression: Suppression) -> bool:
        """See `SuppressionStorage.add_suppression`."""
        return await self.write(lambda c: suppressions.put(c, suppression))

    async def list_suppressions(self, channel: Channel | None, after: str, limit: int) -> list[Suppression]:
        """See `SuppressionStorage.list_suppressions`."""
        return await self.read(lambda c: suppressions.listed(c, channel, after, limit))

    async def match_suppressions(self, addressees: Iterable[Addressee]) -> dict[int, Suppression]:
        """See `SuppressionStorage.match_suppressions`."""
        return await self.read(lambda c: suppressions.match(c, addressees))

    async def _begin(self, worker: int, claims: Sequence[Claim]) -> Sequence[bool]:
        begun = await self._once(lambda c: claim.begin(c, worker, claims))
        return [seq in begun for seq, _ in claims]

    async def _insert(self, messages: Sequence[SerializedMessage]) -> Answers:
        now, schema = self.clock(), self._database.location.schema

        async def operation(connection: Connection) -> Answers:
            if any(one.fingerprint or one.files for one in messages):  # which a caller's transaction may have locked
                await connection.execute(_LOCK_TIMEOUT)
            return await run_awaiting(insert.insert(messages, now, schema), partial(fetch, connection))

        try:
            return await self.write(operation)
        except OutboxError as error:
            if isinstance(error.__cause__, LockNotAvailableError):
                raise RowsLocked(error) from error
            raise

    async def _claimed(self, rows: Sequence[Record]) -> tuple[ClaimedMessage | UnreadableMessage, ...]:
        if not rows:
            return ()
        return await self.read(lambda c: claim.claimed_of(c, rows, self.cipher))

    async def write(self, operation: Callable[[Connection], Awaitable[T]]) -> T:
        """Run `operation` in a transaction; see `Database.transact`."""
        await self.open()
        return await self._database.transact(operation)

    async def read(self, operation: Callable[[Connection], Awaitable[T]]) -> T:
        """Run what only looks, on a connection of the pool."""
        return await self._once(operation)

    async def _once(self, operation: Callable[[Connection], Awaitable[T]]) -> T:
        """Run one statement, a transaction by itself; see `Database.run`."""
        await self.open()
        return await self._database.run(operation)

    async def list(self, where: MessageFilter) -> list[MessageSummary]:
        """See `QueryStorage.list`."""
        return await self.read(lambda c: query.listed(c, where))


class _Announcements:
    """Says to every process that something was written: one notification for a burst, and polling below it.

    A commit that notifies takes a lock that all such commits share, so that what was written is announced apart from
    its transaction, and once for all that came meanwhile. One that is lost delays a message by POLL_INTERVAL.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._channel = database.location.channel
        self._version = 0
        self._changed = asyncio.Event()
        self._listening: asyncio.Task[None] | None = None
        self._announcing: asyncio.Task[None] | None = None
        self._more = False
        self._hears = False

    def announce(self) -> None:
        """Wake this process's workers at once, and those of the others soon."""
        self._wake()
        self._notify_others()

    async def changed(self, since: int) -> int:
        """Return a number that grows with every announcement, as soon as it is another than `since`."""
        if self._listening is None or self._listening.done():
            self._listening = asyncio.create_task(self._listen())
        if self._version == since:
            with suppress(TimeoutError):
                async with asyncio.timeout(NET_INTERVAL if self._hears else POLL_INTERVAL):
                    await self._changed.wait()
            if self._version == since:
                self._wake()
        return self._version

    async def close(self) -> None:
        if self._announcing is not None:
            await asyncio.wait([self._announcing])
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait([self._listening])

    def _wake(self) -> None:
        self._version += 1
        self._changed.set()
        self._changed = asyncio.Event()

    def _notify_others(self) -> None:
        self._more = True
        if self._announcing is None or self._announcing.done():
            self._announcing = asyncio.create_task(self._announce())

    def _on_notification(self, *_: object) -> None:
        self._hears = True
        self._wake()

    async def _announce(self) -> None:
        while self._more:
            self._more = False
            with suppress(OutboxError):
                async with self._database.connection() as connection:
                    await connection.execute("SELECT pg_notify($1, '')", self._channel)

    async def _listen(self) -> None:
        while True:
            with suppress(OutboxError, *FAILURES):
                await self._listen_once()
            await asyncio.sleep(POLL_INTERVAL)

    async def _listen_once(self) -> None:
        connection = await self._database.connect()
        ended = asyncio.Event()
        try:
            connection.add_termination_listener(lambda _: ended.set())
            await connection.add_listener(self._channel, self._on_notification)
            self._wake()  # for what was written before
            self._notify_others()  # and oneself: whether it comes shows whether a pooler swallows it
            await ended.wait()
        finally:
            self._hears = False
            with suppress(*FAILURES):
                await connection.close(timeout=1.0)
