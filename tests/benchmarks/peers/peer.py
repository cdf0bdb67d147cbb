"""Job queues on PostgreSQL behind one face, so that the same work can be given to each: `outbox_peer.py` opens them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

CONNECTIONS, AT_ONCE = 10, 50
Job = Callable[[str], Awaitable[None]]


class Peer(Protocol):
    """A queue in a database of its own."""

    async def install(self) -> None:
        """Make its tables."""

    async def accept(self, text: str) -> None:
        """Keep a job durably."""

    async def drain(self, job: Job, count: int) -> None:
        """Do all there is, `AT_ONCE` at a time, by one worker; `count` jobs are there."""

    async def work(self, job: Job, lease: float) -> None:
        """Work until the process ends; rescue what was claimed by a worker of which nothing was heard for so long."""
