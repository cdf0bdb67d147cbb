"""PgQueuer, over a pool of asyncpg; a job whose heartbeat is old is claimed again by its own statement."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import asyncpg
from peers.peer import AT_ONCE, CONNECTIONS, Job
from pgqueuer import PgQueuer
from pgqueuer.types import QueueExecutionMode


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[PgQueuerPeer]:
    async with asyncpg.create_pool(url, min_size=CONNECTIONS, max_size=CONNECTIONS) as pool:
        yield PgQueuerPeer(pool)


class PgQueuerPeer:
    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._client = PgQueuer.from_asyncpg_pool(pool)

    async def install(self) -> None:
        await self._client.queries.install()

    async def accept(self, text: str) -> None:
        await self._client.queries.enqueue("deliver", text.encode())

    async def drain(self, job: Job, count: int) -> None:
        await self._worker(job).run(batch_size=AT_ONCE, mode=QueueExecutionMode.drain)

    async def work(self, job: Job, lease: float) -> None:
        often = timedelta(seconds=1)
        await self._worker(job).run(dequeue_timeout=often, heartbeat_timeout=timedelta(seconds=lease))

    def _worker(self, job: Job) -> Any:
        async def deliver(found: Any) -> None:
            await job(found.payload.decode())

        worker = PgQueuer.from_asyncpg_pool(self._pool)
        worker.entrypoint("deliver")(deliver)
        return worker
