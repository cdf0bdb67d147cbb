"""The loop that takes messages out of the SQLite outbox and hands them to a executor."""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import sqlite3
from contextlib import suppress
from typing import TYPE_CHECKING

from postroom.errors import OutboxError, PostroomError
from postroom.outbox.account_health import fresh, most_at_once
from postroom.outbox.health_samples import observed
from postroom.outbox.maintenance import Maintenance
from postroom.outbox.records import NEVER, ClaimedMessage, ClaimLimit, Settlement, account_of
from postroom.outbox.sqlite import claim, query, settle, update
from postroom.outbox.sqlite.database import connect

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine, Mapping

    from postroom.outbox.executor import MessageExecutor, Refusals
    from postroom.outbox.health_samples import HealthSample
    from postroom.outbox.records import AccountHealth
    from postroom.outbox.sqlite.claim import Row
    from postroom.outbox.sqlite.store import SqliteStore
    from postroom.outbox.storage import StopSignal

_log = logging.getLogger("postroom.outbox")

POLL_INTERVAL = 0.005
"""Seconds between two looks at whether another process wrote (PRAGMA data_version, 3 µs each)."""

IDLE_WAIT = 1.0
AFTER_TROUBLE = 1.0
"""Seconds until the next look at an outbox that could not be used."""

MOST_BYTES_UNDER_WAY = 268_435_456
"""Bodies and attachments in a worker's hands, from which it takes no more."""


class Worker:
    """One process's share of the work: claims, hands over, settles; one transaction for each turn of its loop."""

    def __init__(self, store: SqliteStore, executor: MessageExecutor, *, until_empty: bool = False) -> None:
        self._store = store
        self._executor = executor
        self._until_empty = until_empty
        self._reader: sqlite3.Connection | None = None
        self._seen = -1
        self._changed = store.added
        self._stopping = False
        self._under_way: dict[asyncio.Task[None], ClaimedMessage] = {}
        self._by_queue: dict[str, int] = {}
        self._done: list[Settlement] = []
        self._samples: dict[str, list[HealthSample]] = {}
        self._next_due = 0.0
        self._bytes = 0
        self._unusable: dict[str, str] = {}
        self._nothing_due = False
        self._housekeeping = Maintenance(self, store, executor)
        self.health: dict[str, AccountHealth] = {}
        self.number = 0

    async def run(self, stop: StopSignal) -> None:
        """Work until `stop`, then let what is under way end; what does not within the grace is given up."""
        self._reader = connect(self._store.path)
        try:
            await self._register()
            watching = [asyncio.create_task(self._stop_on(stop)), asyncio.create_task(self._housekeeping.run())]
            try:
                await self._to_the_end(asyncio.create_task(self._work()))
            finally:
                await _end(watching)
                await self._drain()
                await self._sign_off()
        finally:
            await _end(list(self._under_way))
            self._reader.close()

    def start(self, entry: ClaimedMessage, work: Coroutine[None, None, None]) -> None:
        """Have `work` done for an entry, whose settlement it appends."""
        task = asyncio.create_task(work)
        self._under_way[task] = entry
        self._by_queue[entry.queue] = self._by_queue.get(entry.queue, 0) + 1
        self._bytes += entry.size
        task.add_done_callback(self._ended)

    def settle(self, settlement: Settlement) -> None:
        """Have a result written with the next hop."""
        self._done.append(settlement)
        self._changed.set()

    async def ask(self, entry: ClaimedMessage) -> None:
        """Find out about a message in doubt."""

        def belongs_to_another(provider_id: str) -> Awaitable[bool]:
            return self._store.read(lambda connection: query.another_has(connection, provider_id, entry.seq))

        self.settle(await self._executor.ask(entry, self.health, belongs_to_another))

    async def renew(self) -> None:
        """Become a new worker: the others took this one for dead, and its messages over."""
        _log.warning("this worker was silent for too long; others have taken its messages over")
        await self._register()

    def entries(self, rows: list[Row]) -> list[ClaimedMessage]:
        """Read rows back; a message that cannot be read is set aside."""
        assert self._reader
        found = []
        for row in rows:
            entry = claim.entry_of(row, self._store.seal, claim.files_of(self._reader, row))
            if isinstance(entry, ClaimedMessage):
                found.append(entry)
            else:
                _log.error("%s", entry)
                self.settle(claim.unreadable(row, entry))
        return found

    async def _register(self) -> None:
        name = f"{platform.node()} {os.getpid()}"
        self.number = await self._store.write(lambda c: claim.register(c, name))

    async def _sign_off(self) -> None:
        number = self.number
        await self._store.write(lambda c: claim.sign_off(c, number))

    async def _stop_on(self, stop: StopSignal) -> None:
        await stop.wait()
        self._stopping = True
        self._changed.set()

    async def _to_the_end(self, work: asyncio.Task[None]) -> None:
        """Wait for `work`; when this is cancelled, let its turn end, which may have claimed messages."""
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            self._stopping = True
            self._changed.set()
            await work
            raise

    async def _work(self) -> None:
        while not self._stopping:
            self._changed.clear()
            try:
                got_any = await self._next_hop()
            except (OutboxError, sqlite3.Error) as error:
                _log.error("the outbox cannot be used now: %s", error)
                await asyncio.sleep(AFTER_TROUBLE)
                continue
            if got_any or self._done:
                continue
            if self._until_empty and self._nothing_due and not self._under_way:
                await self._housekeeping.tidy()
                return
            await self._rest()

    async def _next_hop(self) -> bool:
        """Write what is done, and take what may be started now, in one transaction."""
        healths = self._observed()
        wants = self._wants()
        done, self._done = self._done, []
        self._nothing_due = not (wants or done)
        if not (wants or done or healths):
            return False
        now, number = self._store.clock(), self.number

        def operation(connection: sqlite3.Connection) -> tuple[list[bool], list[Row], float]:
            kept = settle.settle(connection, number, done, now)
            for health in healths:
                update.keep_health(connection, health)
            rows, free_again = claim.claim(connection, number, wants, now)
            return kept, rows, free_again

        try:
            kept, rows, free_again = await self._store.write(operation)
        except BaseException:
            self._done = done + self._done
            raise
        self._next_due = min(self._next_due, free_again)
        for settlement, was_kept in zip(done, kept, strict=True):
            if was_kept:
                self._executor.tell(settlement)
            else:
                _log.warning("message %s: another worker has taken it over", settlement.receipt.id)
        entries = self.entries(rows)
        for entry, refusals in zip(entries, self._executor.suppressed(entries), strict=True):
            self.start(entry, self._deliver(entry, refusals))
        left = any([await self._housekeeping.leave(health) for health in healths])
        return left or bool(rows)

    async def _deliver(self, entry: ClaimedMessage, refusals: Refusals) -> None:
        settlement, sample = await self._executor.deliver(entry, self.health, refusals)
        if sample is not None:
            self._samples.setdefault(entry.queue, []).append(sample)
        self.settle(settlement)

    def _observed(self) -> list[AccountHealth]:
        """Bring what is known of accounts up to date; returns those of whom there is news."""
        samples, self._samples = self._samples, {}
        if samples:
            self._refresh()
        now, rng = self._store.clock(), self._executor.rng
        news = {
            queue: observed(self.health.get(queue) or fresh(queue), given, now, rng) for queue, given in samples.items()
        }
        self.health |= news
        return list(news.values())

    def _wants(self) -> Mapping[str, ClaimLimit]:
        """What to claim: only queues where a message is due, so that an idle worker does not write."""
        assert self._reader
        now = self._store.clock()
        self._refresh()
        wants: dict[str, ClaimLimit] = {}
        self._next_due = NEVER
        if self._stopping or self._bytes > MOST_BYTES_UNDER_WAY:
            return wants
        for queue in claim.queues(self._reader):
            want = self._want(queue, now)
            if want is None:
                continue
            if want.limit > 0 and claim.anything_due(self._reader, queue, now):
                wants[queue] = want
            self._next_due = min(self._next_due, self._due_again(queue, want, now))
        return wants

    def _due_again(self, queue: str, want: ClaimLimit, now: float) -> float:
        assert self._reader
        health = self.health.get(queue)
        if want.limit == 0 and health and health.cooldown_until > now:
            return health.cooldown_until
        return claim.next_due(self._reader, queue, now)

    def _want(self, queue: str, now: float) -> ClaimLimit | None:
        """How many messages of `queue` may be started; None for an account this process does not know."""
        try:
            at_once, rate = self._executor.limits(queue)
        except PostroomError as error:
            if self._unusable.get(queue) != str(error):
                self._unusable[queue] = str(error)
                _log.warning("messages for %s wait: %s", account_of(queue), error)
            return None
        health = self.health.get(queue)
        # One message finds out whether an account works that nothing is known of.
        most = most_at_once(health, at_once, now) if health else at_once if queue.endswith("/own") else 1
        half = (most + 1) // 2  # while one half is written, the other is handed over
        return ClaimLimit(min(half, most - self._by_queue.get(queue, 0)), most, rate)

    def _refresh(self) -> None:
        """Read what other workers wrote of accounts, if anybody wrote."""
        assert self._reader
        version = self._version()
        if version != self._seen:
            self._seen = version
            self.health |= query.health(self._reader)

    def _version(self) -> int:
        assert self._reader
        found: int = self._reader.execute("PRAGMA data_version").fetchone()[0]
        return found

    async def _rest(self) -> None:
        """Sleep until something changes here, another process writes, or a message becomes due."""
        loop = asyncio.get_running_loop()
        end = loop.time() + min(IDLE_WAIT, max(0.0, self._next_due - self._store.clock()))
        while not self._changed.is_set() and self._version() == self._seen:
            left = end - loop.time()
            if left <= 0:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(min(POLL_INTERVAL, left)):
                    await self._changed.wait()

    async def _drain(self) -> None:
        """Let what is under way end, and write it."""
        if self._under_way:
            await asyncio.wait(list(self._under_way), timeout=self._executor.settings.grace)
        for task in list(self._under_way):
            task.cancel()
        if self._under_way:
            await asyncio.wait(list(self._under_way))
        self._stopping = True
        while self._done or self._samples:
            await self._next_hop()

    def _ended(self, task: asyncio.Task[None]) -> None:
        entry = self._under_way.pop(task)
        self._by_queue[entry.queue] -= 1
        self._bytes -= entry.size
        if not task.cancelled() and task.exception() is not None:
            _log.error("message %s: delivering it failed", entry.id, exc_info=task.exception())
            self.settle(self._executor.crashed(entry, self.health))
        self._changed.set()


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError):
            await task
