"""What one worker has in hand: messages under way, results that are not written yet, and what is known of accounts."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from postroom.outbox.records import ClaimedMessage

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from postroom.outbox.account_health import HealthSample
    from postroom.outbox.executor import MessageExecutor
    from postroom.outbox.records import AccountHealth, Settlement, UnreadableMessage

_log = logging.getLogger("postroom.outbox")


class InFlight:
    """The bookkeeping that a worker's loop and its maintenance share.

    `health` is what is known of accounts, by queue; `wake` is set when there is something to do.
    """

    def __init__(self, executor: MessageExecutor) -> None:
        self.health: dict[str, AccountHealth] = {}
        self.wake = asyncio.Event()
        self.size = 0
        self._executor = executor
        self._tasks: dict[asyncio.Task[None], ClaimedMessage] = {}
        self._by_queue: dict[str, int] = {}
        self._size_by_queue: dict[str, int] = {}
        self._settlements: list[Settlement] = []
        self._samples: dict[str, list[HealthSample]] = {}
        self._overdue: dict[asyncio.Task[None], float] = {}

    @property
    def under_way(self) -> int:
        """How many messages are being handed over or asked about."""
        return len(self._tasks)

    @property
    def unwritten(self) -> bool:
        """Whether there are results that the storage does not have yet."""
        return bool(self._settlements or self._samples)

    def count(self, queue: str) -> int:
        """How many messages of a queue are under way."""
        return self._by_queue.get(queue, 0)

    def size_of(self, queue: str) -> int:
        """How many bytes of a queue's bodies and attachments are in hand."""
        return self._size_by_queue.get(queue, 0)

    def start(self, message: ClaimedMessage, work: Coroutine[None, None, None]) -> None:
        """Have `work` done for a message; it ends with a call of `settle`."""
        task = asyncio.create_task(work)
        self._tasks[task] = message
        self._count(message, 1)
        task.add_done_callback(self._ended)

    def settle(self, settlement: Settlement) -> None:
        """Have a result written at the worker's next tick."""
        self._settlements.append(settlement)
        self.wake.set()

    def sample(self, queue: str, sample: HealthSample) -> None:
        """Have what a hand-over says of its account counted at the worker's next tick."""
        self._samples.setdefault(queue, []).append(sample)

    def sample_overdue(self, now: float) -> None:
        """Count hand-overs against their account that take longer than an answer should, again and again.

        Some may go on for much longer, SMTP's last reply for ten minutes: what waits behind them need not.
        """
        for task, message in self._tasks.items():
            if sample := self._executor.overdue(message, self._overdue.get(task, message.begun_at), now):
                self._overdue[task] = now
                self.sample(message.queue, sample)
                self.wake.set()

    def readable(self, claimed: Sequence[ClaimedMessage | UnreadableMessage]) -> list[ClaimedMessage]:
        """Return the messages of a claim that can be read; the others are set aside for a person."""
        found = []
        for message in claimed:
            if isinstance(message, ClaimedMessage):
                found.append(message)
            else:
                _log.error("%s", message.error)
                self.settle(self._executor.unreadable(message))
        return found

    def take_settlements(self) -> list[Settlement]:
        """Return the results to be written now."""
        taken, self._settlements = self._settlements, []
        return taken

    def give_back(self, settlements: list[Settlement]) -> None:
        """Keep results that could not be written, for the next tick."""
        self._settlements = settlements + self._settlements

    def take_samples(self) -> dict[str, list[HealthSample]]:
        """Return what hand-overs said of accounts since the last tick, by queue."""
        taken, self._samples = self._samples, {}
        return taken

    async def end(self, grace: float) -> None:
        """Let what is under way end; after `grace` seconds it is cancelled, and settled as what it then is."""
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=grace)
        await self.cancel()

    async def cancel(self) -> None:
        """End what is under way now."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks))

    def _count(self, message: ClaimedMessage, times: int) -> None:
        queue, size = message.queue, times * message.size
        self._by_queue[queue] = self._by_queue.get(queue, 0) + times
        self._size_by_queue[queue] = self._size_by_queue.get(queue, 0) + size
        self.size += size

    def _ended(self, task: asyncio.Task[None]) -> None:
        message = self._tasks.pop(task)
        self._overdue.pop(task, None)
        self._count(message, -1)
        if not task.cancelled() and task.exception() is not None:
            _log.error("message %s: delivering it failed", message.id, exc_info=task.exception())
            self.settle(self._executor.crashed(message, self.health))
        self.wake.set()
