"""What a worker does beside sending: rescues, reconciles, expires, drains, prunes."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from postroom.errors import OutboxError, PluginError
from postroom.outbox.account_health import failure_rate_now, should_drain
from postroom.outbox.records import account_of, brings_credentials, channel_of, queue_of
from postroom.outbox.retry_policy import QUESTIONS

if TYPE_CHECKING:
    from postroom.outbox.executor import MessageExecutor
    from postroom.outbox.in_flight import InFlight
    from postroom.outbox.lease import Lease
    from postroom.outbox.records import AccountHealth, ClaimedMessage, Ownership
    from postroom.outbox.storage import Store

_log = logging.getLogger("postroom.outbox")

ROUND = 2.5
"""Seconds between two rounds, or a quarter of the lease where that is less."""

EXPIRE_EVERY = 4
"""Rounds between two looks for what has expired, or waits for a time that the clock was set back from."""

PRUNE_SECONDS = 1800.0
"""Seconds between two looks for what need not be kept, or a tenth of the retention where that is less."""

MOST_IN_DOUBT = 100
MOST_AT_ONCE = 1000
MOST_PRUNED = 100
"""Messages changed, and pruned, in one transaction, so that others get their turn."""


class Maintenance:
    """Runs beside a worker's loop, on the same messages in flight."""

    def __init__(self, store: Store, executor: MessageExecutor, in_flight: InFlight, lease: Lease) -> None:
        self._store = store
        self._executor = executor
        self._in_flight = in_flight
        self._lease = lease
        self._settings = executor.settings
        self._seen: dict[int, tuple[int, float]] = {}
        self._alive: set[int] = set()
        self._looked_at = lease.clock()
        self._rounds = 0
        self._prune_at = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Go on until `stop`, and end the round that is under way: what it claimed is in flight then."""
        pause = min(ROUND, self._settings.lease / 4)
        while not stop.is_set():
            try:
                await self._round()
            except OutboxError as error:
                _log.error("maintenance: %s", error)
            except Exception:  # noqa: BLE001 - the next round may go better
                _log.exception("maintenance failed")
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await stop.wait()

    async def anything_in_hand(self) -> bool:
        """Whether this worker has messages in hand, or one that has not shown since this one began that it lives.

        Its own count: of those that it is taking over right now, it alone knows that they are not done.
        """
        return bool(await self._store.busy_workers() - self._alive)

    async def tidy(self) -> None:
        """Bring back what was planned ahead, end what has expired, and remove what need not be kept any more."""
        await self._replan()
        await self._expire()
        await self._set_aside()
        await self._prune()

    async def drain_unhealthy(self, health: AccountHealth) -> bool:
        """Let messages go another way that wait for an account in trouble; True when some did."""
        now, queue = self._executor.clock(), health.queue
        if not should_drain(health, now) or brings_credentials(queue):
            return False
        return any([await self._reroute(queue, route, now) for route in await self._store.waiting_routes(queue)])

    async def _round(self) -> None:
        await self._rescue()
        await self._reconcile()
        self._in_flight.sample_overdue(self._executor.clock())
        for health in list(self._in_flight.health.values()):
            await self.drain_unhealthy(health)
        if self._rounds % EXPIRE_EVERY == 0:
            await self._replan()
            await self._expire()
        if self._lease.clock() >= self._prune_at:
            await self._set_aside()
            await self._prune()
            self._prune_at = self._lease.clock() + min(PRUNE_SECONDS, self._settings.retention / 10)
        self._rounds += 1

    async def _rescue(self) -> None:
        """Take over what workers had claimed that have shown no heartbeat for a lease.

        The heartbeats are compared with those seen before, and the time between is measured here: were times of
        heartbeats compared, a clock that differs between two machines, or is set back, would make the living dead.
        Time in which nobody could have written one, or nobody here could look, does not count.
        """
        now, before = self._lease.clock(), self._seen
        could_not_look = now - self._looked_at > self._settings.lease / 2
        self._looked_at = now
        self._seen = {
            number: seen if (seen := self._seen.get(number)) and seen[0] == heartbeats else (heartbeats, now)
            for number, heartbeats in (await self._store.live_workers()).items()
            if number != self._lease.worker
        }
        self._alive |= {n for n, (beats, _) in self._seen.items() if n in before and before[n][0] != beats}
        if could_not_look:
            self._seen = {number: (heartbeats, now) for number, (heartbeats, _) in self._seen.items()}
        if not self._lease.is_fresh:
            return
        for number, (heartbeats, since) in self._seen.items():
            if now - max(since, self._lease.unblocked_at) > self._settings.lease:
                await self._rescue_from(number, heartbeats)

    async def _rescue_from(self, number: int, heartbeats: int) -> None:
        claimed = await self._store.rescue(number, heartbeats, self._lease.worker)
        if claimed:
            _log.warning("worker %s is dead; %s messages were in its hands", number, len(claimed))
        for message in self._in_flight.readable(claimed):
            self._in_flight.settle(self._executor.rescued(message, self._in_flight.health))

    async def _reconcile(self) -> None:
        """Ask providers about messages in doubt whose time has come."""
        claimed = await self._store.claim_in_doubt(self._lease.worker, MOST_IN_DOUBT)
        for message in self._in_flight.readable(claimed):
            self._in_flight.start(message, self._ask(message))

    async def _ask(self, message: ClaimedMessage) -> None:
        async def owner_of(provider_id: str, recipients: tuple[str, ...]) -> Ownership:
            return await self._store.ownership(provider_id, message, recipients)

        settlement = await self._executor.reconcile(message, self._in_flight.health, owner_of)
        self._in_flight.settle(settlement)

    async def _reroute(self, queue: str, route: str, now: float) -> bool:
        channel = channel_of(queue)
        try:
            targets = self._executor.router.targets(route, channel)
        except PluginError:
            return False
        others = [queue_of(target.name, channel) for target in targets if target.name != account_of(queue)]
        usable = [other for other in others if not self._drains(other, now)]
        if not usable:
            return False
        best = min(usable, key=lambda other: self._failure_rate(other, now))
        total, moved = 0, MOST_AT_ONCE
        while moved == MOST_AT_ONCE:
            moved = await self._store.reroute(queue, route, best, MOST_AT_ONCE)
            total += moved
        return total > 0

    def _drains(self, queue: str, now: float) -> bool:
        health = self._in_flight.health.get(queue)
        return health is not None and should_drain(health, now)

    def _failure_rate(self, queue: str, now: float) -> float:
        health = self._in_flight.health.get(queue)
        return failure_rate_now(health, now) if health else 0.0

    async def _replan(self) -> None:
        """Bring messages back that wait for times which a clock has planned that was ahead, and was set back since."""
        longest, total = max(self._settings.retry_most, *QUESTIONS), 0
        while brought := await self._store.replan(longest, MOST_AT_ONCE):
            total += brought
        if total:
            _log.warning("the clock was set back; %s messages are due as long from now as they were to wait", total)
            self._in_flight.wake.set()

    async def _expire(self) -> None:
        while ended := await self._store.expire(MOST_AT_ONCE):
            for receipt in ended:
                self._executor.report(receipt)

    async def _set_aside(self) -> None:
        """Have a person see to what nobody would ever find: a row that is damaged where claims look for it."""
        for message in self._in_flight.readable(await self._store.claim_lost(self._lease.worker, MOST_AT_ONCE)):
            self._in_flight.settle(self._executor.rescued(message, self._in_flight.health))

    async def _prune(self) -> None:
        before = self._executor.clock() - self._settings.retention
        while await self._store.prune(before, MOST_PRUNED):
            pass
        while await self._store.forget_orphans(before, MOST_AT_ONCE) == MOST_AT_ONCE:
            pass
