"""The worker: claims due messages, has them executed, and settles them, whatever engine keeps them."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from postroom.errors import OutboxError, PostroomError
from postroom.outbox.account_health import fresh, most_at_once, observed
from postroom.outbox.in_flight import InFlight
from postroom.outbox.lease import Lease
from postroom.outbox.maintenance import Maintenance
from postroom.outbox.records import MOST_BYTES, NEVER, ClaimLimit, account_of, brings_credentials
from postroom.plugin.confirmation import Withdrawn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from postroom.outbox.executor import MessageExecutor, SuppressedRecipients
    from postroom.outbox.records import AccountHealth, ClaimedMessage, Exchange, Settlement
    from postroom.outbox.storage import Store
    from postroom.plugin.confirmation import Confirm

_log = logging.getLogger("postroom.outbox")

IDLE_WAIT = 5.0
"""Seconds until the next look at a storage where nothing seems to have changed: who waits for changes hears of them."""

AFTER_TROUBLE = 1.0
"""Seconds until the next look at a storage that could not be used."""

BUSY_WAIT = 0.05
"""Seconds at most until a worker that finds work at every tick looks whether others have written: it looks for due
messages anyway, and only learns later how accounts do elsewhere."""


class StopSignal(Protocol):
    """Says when to stop; an `asyncio.Event` is one."""

    def is_set(self) -> bool:
        """Whether to stop now."""

    async def wait(self) -> object:
        """Return once it is time to stop."""


class Worker:
    """One process's share of the work: claims, executes, settles; one transaction for each tick of its loop."""

    def __init__(self, store: Store, executor: MessageExecutor, *, until_empty: bool = False) -> None:
        self._store = store
        self._executor = executor
        self._until_empty = until_empty
        self._in_flight = InFlight(executor)
        self._lease = Lease(store, executor.settings.lease)
        self._maintenance = Maintenance(store, executor, self._in_flight, self._lease)
        self._stopping = False
        self._resting = asyncio.Event()
        self._health_is_old = True
        self._next_due = 0.0
        self._nothing_due = False
        self._unusable: dict[str, str] = {}

    async def run(self, stop: StopSignal) -> None:
        """Work until `stop`, then let what is under way end; what does not within the grace is given up."""
        await self._lease.register()
        # Beside everything else, and up to the last settlement: whoever shows no life loses what it has in hand.
        keeping = asyncio.create_task(self._lease.keep())
        ended = asyncio.Event()
        maintaining = asyncio.create_task(self._maintenance.run(ended))
        watching = [asyncio.create_task(self._stop_on(stop)), asyncio.create_task(self._listen())]
        try:
            try:
                await self._to_the_end(asyncio.create_task(self._work()))
            finally:
                # Asked, not cancelled: a round that has claimed messages must put them into our hands first.
                ended.set()
                await maintaining
                await self._drain()
                await self._lease.sign_off()
        finally:
            await _cancelled([*watching, maintaining])
            await self._in_flight.cancel()
            await _cancelled([keeping])

    async def _stop_on(self, stop: StopSignal) -> None:
        await stop.wait()
        self._stop()

    def _stop(self) -> None:
        self._stopping = True
        self._in_flight.wake.set()

    async def _listen(self) -> None:
        """Look again whenever somebody wrote: there may be messages, or news of accounts."""
        version = -1
        while True:
            try:
                version = await self._store.changed(version)
            except OutboxError:  # the loop will say so
                await asyncio.sleep(AFTER_TROUBLE)
            self._health_is_old = True
            self._in_flight.wake.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(BUSY_WAIT):
                    await self._resting.wait()

    async def _to_the_end(self, work: asyncio.Task[None]) -> None:
        """Wait for `work`; when this is cancelled, let its tick end, which may have claimed messages."""
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            self._stop()
            await work
            raise

    async def _work(self) -> None:
        while not self._stopping:
            self._in_flight.wake.clear()
            try:
                got_any = await self._tick()
            except OutboxError as error:
                _log.error("the outbox cannot be used now: %s", error)
                await asyncio.sleep(AFTER_TROUBLE)
                continue
            if got_any or self._in_flight.unwritten:
                continue
            if self._until_empty and await self._is_over():
                await self._maintenance.tidy()
                return
            await self._rest()

    async def _is_over(self) -> bool:
        """Whether nothing is left to do; what maintenance takes over while this is asked is."""
        if not self._nothing_due or self._in_flight.under_way or await self._maintenance.anything_in_hand():
            return False
        return not (self._in_flight.under_way or self._in_flight.unwritten)

    async def _tick(self) -> bool:
        """Write what is done, and take what may be started now, in one transaction; False when neither was any."""
        await self._refresh_health()
        due_queues = await self._store.due_queues()
        # From here to the exchange nothing waits: a result is never written, and its slot given away, without what it
        # says of its account.
        health = self._observed()
        limits = self._limits(due_queues)
        done = self._in_flight.take_settlements()
        self._nothing_due = not (limits or done)
        if not (limits or done or health):
            return False
        try:
            got = await self._store.exchange(self._lease.worker, done, health, limits)
        except BaseException:
            self._in_flight.give_back(done)
            raise
        self._next_due = min(self._next_due, got.free_at)
        self._notify(done, got)
        await self._start(self._in_flight.readable(got.claimed))
        drained = any([await self._maintenance.drain_unhealthy(each) for each in health])
        return drained or bool(done or got.claimed)

    def _notify(self, done: list[Settlement], got: Exchange) -> None:
        for settlement, written in zip(done, got.settled, strict=True):
            if written is not None:
                self._executor.notify_settled(written)
            else:
                _log.warning("message %s: another worker has taken it over", settlement.receipt.id)
        for event, receipt in got.adopted:
            self._executor.notify(event, receipt)

    async def _start(self, messages: list[ClaimedMessage]) -> None:
        """Hand messages over; where it is not known who must not be written to, they go back."""
        try:
            suppressed = await self._executor.suppressed(messages)
        except BaseException:
            for message in messages:
                self._in_flight.settle(self._executor.put_back(message))
            raise
        for message, refused in zip(messages, suppressed, strict=True):
            confirm = self._lease.confirmation(message)
            if self._executor.is_repeat(message):
                confirm = self._unless_reported(message, confirm)
            self._in_flight.start(message, self._deliver(message, refused, confirm))

    def _unless_reported(self, message: ClaimedMessage, confirm: Confirm) -> Confirm:
        """Look before a message in doubt goes out again whether a report has come since it was claimed."""

        async def confirm_if_not() -> None:
            try:
                known = await self._store.find(message.id, contents=False)
            except OutboxError as error:
                raise Withdrawn(f"it is not known whether its provider has it: {error}") from error
            if known and self._executor.is_settled_by(message, known.events):
                raise Withdrawn("its provider has reported that it has it")
            await confirm()

        return confirm_if_not

    async def _deliver(self, message: ClaimedMessage, suppressed: SuppressedRecipients, confirm: Confirm) -> None:
        settlement, sample = await self._executor.deliver(message, self._in_flight.health, suppressed, confirm)
        if sample is not None:
            self._in_flight.sample(message.queue, sample)
        self._in_flight.settle(settlement)

    async def _refresh_health(self) -> None:
        """Learn how accounts do from what all workers have written."""
        if self._health_is_old:
            self._health_is_old = False
            self._in_flight.health |= await self._store.health()

    def _observed(self) -> list[AccountHealth]:
        """Add what this worker has seen of accounts; returns those of whom there is news."""
        samples = self._in_flight.take_samples()
        now, rng, health = self._executor.clock(), self._executor.rng, self._in_flight.health
        news = {queue: observed(health.get(queue) or fresh(queue), given, now, rng) for queue, given in samples.items()}
        health |= news
        return list(news.values())

    def _limits(self, due_queues: Mapping[str, float]) -> dict[str, ClaimLimit]:
        """What to claim: only queues where a message is due, so that an idle worker does not write."""
        now = self._executor.clock()
        limits: dict[str, ClaimLimit] = {}
        self._next_due = NEVER
        free_bytes = MOST_BYTES - self._in_flight.size
        if self._stopping or free_bytes <= 0:
            return limits
        for queue, due_at in due_queues.items():
            # Half of what is free, and of the whole: a slow account with large messages leaves room for all others.
            size = min(free_bytes // 2, MOST_BYTES // 2 - self._in_flight.size_of(queue))
            limit = self._limit(queue, now, size)
            if limit is None:
                continue
            if due_at > now:
                self._next_due = min(self._next_due, due_at)
            elif limit.limit > 0:
                limits[queue] = limit
                free_bytes -= size
            elif (health := self._in_flight.health.get(queue)) and health.cooldown_until > now:
                self._next_due = min(self._next_due, health.cooldown_until)
        return limits

    def _limit(self, queue: str, now: float, size: int) -> ClaimLimit | None:
        """How many messages of `queue` may be started; None for an account this process does not know."""
        try:
            at_once, rate = self._executor.limits(queue)
        except PostroomError as error:
            if self._unusable.get(queue) != str(error):
                self._unusable[queue] = str(error)
                _log.warning("messages for %s wait: %s", account_of(queue), error)
            return None
        # Messages with credentials of their own have nothing in common that could do well or badly.
        health = None if brings_credentials(queue) else self._in_flight.health.get(queue)
        # One message finds out whether an account works that has no history.
        most = most_at_once(health, at_once, now) if health else at_once if brings_credentials(queue) else 1
        half = (most + 1) // 2  # while one half is written, the other is handed over
        limit = min(half, most - self._in_flight.count(queue)) if size > 0 else 0
        return ClaimLimit(limit, most, rate, size)

    async def _rest(self) -> None:
        """Sleep until something changes here or in the storage, or a message becomes due."""
        seconds = min(IDLE_WAIT, max(0.0, self._next_due - self._executor.clock()))
        self._resting.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._in_flight.wake.wait()
        self._resting.clear()

    async def _drain(self) -> None:
        """Let what is under way end, and write it."""
        await self._in_flight.end(self._executor.settings.grace)
        self._stopping = True
        while self._in_flight.unwritten:
            await self._tick()


async def _cancelled(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError):
            await task
