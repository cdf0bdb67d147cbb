"""The queue by hand of `outbox_postgres.py`: one table, SKIP LOCKED, asyncpg; it rescues nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from outbox_postgres import TABLE, HandWrittenOutbox
from peers.peer import Job


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[HandPeer]:
    connections = [await asyncpg.connect(url), await asyncpg.connect(url)]
    yield HandPeer(connections)
    for connection in connections:
        await connection.close()


class HandPeer:
    def __init__(self, connections: list[Any]) -> None:
        self._outbox = HandWrittenOutbox(*connections)
        self._connection = connections[0]

    async def install(self) -> None:
        await self._connection.execute(TABLE)

    async def accept(self, text: str) -> None:
        await self._outbox.enqueue({"text": text})

    async def drain(self, job: Job, count: int) -> None:
        async def deliver(message: dict[str, Any]) -> str:
            await job(message["text"])
            return ""

        await self._outbox.drain(deliver)

    async def work(self, job: Job, lease: float) -> None:
        raise NotImplementedError
