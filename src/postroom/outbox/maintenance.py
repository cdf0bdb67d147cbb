"""What a worker does beside sending: shows life, takes over from the dead, expires, asks, tidies up."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from functools import partial
from typing import TYPE_CHECKING

from postroom.errors import OutboxError, PluginError
from postroom.outbox.account_health import failure_rate_now, should_drain
from postroom.outbox.records import account_of, queue_of
from postroom.outbox.sqlite import claim, query, update
from postroom.receipts import Channel

if TYPE_CHECKING:
    from postroom.outbox.executor import MessageExecutor
    from postroom.outbox.records import AccountHealth
    from postroom.outbox.sqlite.store import SqliteStore
    from postroom.outbox.worker import Worker

_log = logging.getLogger("postroom.outbox")

ROUND = 0.5
"""Seconds between two rounds, or less when the lease is short."""

SWEEP = 10
"""Rounds between two looks for expired messages, 3,600 between two for old ones."""

MOST_DOUBTS = 100
MOST_AT_ONCE = 1000


class Maintenance:
    """Runs beside a worker's loop.

    A worker is taken for dead when it has shown no life for a lease, by the clock of the one who watches: no
    two processes need to agree on the time.
    """

    def __init__(self, worker: Worker, store: SqliteStore, executor: MessageExecutor) -> None:
        self._worker = worker
        self._store = store
        self._executor = executor
        self._settings = store.settings
        self._seen: dict[int, tuple[int, float]] = {}
        self._shown = 0.0
        self._rounds = 0

    async def run(self) -> None:
        """Go on until cancelled."""
        pause = min(ROUND, self._settings.lease / 10)
        while True:
            try:
                await self._round()
            except (OutboxError, sqlite3.Error) as error:
                _log.error("housekeeping: %s", error)
            except Exception:  # noqa: BLE001 - a worker that shows no life loses its messages
                _log.exception("housekeeping failed")
            await asyncio.sleep(pause)

    async def _round(self) -> None:
        await self._show_life()
        await self._take_over()
        await self._ask()
        for health in list(self._worker.health.values()):
            await self.leave(health)
        if self._rounds % SWEEP == 0:
            await self._expire()
        if self._rounds % (SWEEP * 360) == 0:
            await self._forget()
        self._rounds += 1

    async def tidy(self) -> None:
        """End what has expired, and remove what need not be kept any more."""
        await self._expire()
        await self._forget()

    async def _show_life(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._shown < self._settings.lease / 4:
            return
        number = self._worker.number
        if not await self._store.write(lambda c: claim.beat(c, number)):
            await self._worker.renew()
        self._shown = now

    async def _take_over(self) -> None:
        """Take over what workers had claimed that have not shown life for a lease."""
        now = asyncio.get_running_loop().time()
        alive = await self._store.read(claim.workers)
        self._seen = {
            number: seen if (seen := self._seen.get(number)) and seen[0] == beats else (beats, now)
            for number, beats in alive.items()
            if number != self._worker.number
        }
        for number, (beats, since) in self._seen.items():
            if now - since > self._settings.lease:
                await self._take_from(number, beats)

    async def _take_from(self, number: int, beats: int) -> None:
        mine = self._worker.number
        rows = await self._store.write(lambda c: claim.take_over(c, number, beats, mine))
        if rows:
            _log.warning("worker %s is dead; %s messages were in its hands", number, len(rows))
        for entry in self._worker.entries(rows):
            self._worker.settle(self._executor.crashed(entry, self._worker.health))

    async def _ask(self) -> None:
        """Ask providers about messages in doubt whose time has come."""
        now, number = self._store.clock(), self._worker.number
        if not await self._store.read(lambda c: claim.any_doubted(c, now)):
            return
        rows = await self._store.write(lambda c: claim.claim_doubted(c, number, now, MOST_DOUBTS))
        for entry in self._worker.entries(rows):
            self._worker.start(entry, self._worker.ask(entry))

    async def leave(self, health: AccountHealth) -> bool:
        """Let messages go another way that wait for an account in trouble; True when some did."""
        now, queue = self._store.clock(), health.queue
        if not should_drain(health, now) or queue.endswith("/own"):
            return False
        routes = await self._store.read(partial(query.waiting_routes, queue=queue))
        return any([await self._reroute(queue, route, now) for route in routes])

    async def _reroute(self, queue: str, route: str, now: float) -> bool:
        channel = Channel(queue.partition("/")[2])
        try:
            targets = self._executor.router.targets(route, channel)
        except PluginError:
            return False
        names = [t.name for t in targets if t.name != account_of(queue)]
        record_success = [name for name in names if not self._is_unwell(queue_of(name, channel), now)]
        if not record_success:
            return False
        other = queue_of(min(record_success, key=lambda name: self._trouble(queue_of(name, channel), now)), channel)
        total, apply = 0, MOST_AT_ONCE
        while apply == MOST_AT_ONCE:
            apply = await self._store.write(lambda c: update.reroute(c, queue, route, other, MOST_AT_ONCE))
            total += apply
        return total > 0

    def _is_unwell(self, queue: str, now: float) -> bool:
        health = self._known(queue)
        return health is not None and should_drain(health, now)

    def _trouble(self, queue: str, now: float) -> float:
        health = self._known(queue)
        return failure_rate_now(health, now) if health else 0.0

    def _known(self, queue: str) -> AccountHealth | None:
        return self._worker.health.get(queue)

    async def _expire(self) -> None:
        now = self._store.clock()
        while seqs := await self._store.read(lambda c: query.over(c, now, MOST_AT_ONCE)):
            for receipt in await self._store.write(partial(update.expire, seqs=seqs, now=now)):
                self._executor.report(receipt)

    async def _forget(self) -> None:
        before = self._store.clock() - self._settings.retention
        while seqs := await self._store.read(lambda c: query.settled_before(c, before, MOST_AT_ONCE)):
            await self._store.write(partial(update.forget, seqs=seqs))
