"""Oban for Python, over psycopg's pool; its lifeline rescues by the age of an attempt, alive or not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from oban import Oban, worker
from oban.schema import install
from peers.peer import AT_ONCE, CONNECTIONS, Job


class Deliver:
    job: ClassVar[Job]

    async def process(self, found: Any) -> None:
        await type(self).job(found.args["text"])


DELIVER: Any = worker(queue="default")(Deliver)


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[ObanPeer]:
    pool = await Oban.create_pool(url, min_size=CONNECTIONS, max_size=CONNECTIONS)
    try:
        yield ObanPeer(pool)
    finally:
        await pool.close()


class ObanPeer:
    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._client = Oban(pool=pool)

    async def install(self) -> None:
        await install(self._pool)

    async def accept(self, text: str) -> None:
        await self._client.enqueue(DELIVER.new({"text": text}))

    async def drain(self, job: Job, count: int) -> None:
        left, done = count, asyncio.Event()

        async def counted(text: str) -> None:
            nonlocal left
            await job(text)
            left -= 1
            if not left:
                done.set()

        DELIVER.job = staticmethod(counted)
        async with Oban(pool=self._pool, name="worker", queues={"default": AT_ONCE}):
            await done.wait()

    async def work(self, job: Job, lease: float) -> None:
        DELIVER.job = staticmethod(job)
        lifeline = {"interval": 1, "rescue_after": lease}
        async with Oban(pool=self._pool, name="worker", queues={"default": AT_ONCE}, lifeline=lifeline):
            await asyncio.Event().wait()
