"""Procrastinate, over psycopg's pool; the rescue is what its documentation tells its user to write."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from peers.peer import AT_ONCE, CONNECTIONS, Job
from procrastinate import App, PsycopgConnector


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[ProcrastinatePeer]:
    app = App(connector=PsycopgConnector(conninfo=url, min_size=CONNECTIONS, max_size=CONNECTIONS))
    async with app.open_async():
        yield ProcrastinatePeer(app)


class ProcrastinatePeer:
    def __init__(self, app: Any) -> None:
        self._app = app
        self._job: Job | None = None

        async def deliver(text: str) -> None:
            assert self._job
            await self._job(text)

        self._task = app.task(name="deliver")(deliver)

    async def install(self) -> None:
        await self._app.schema_manager.apply_schema_async()

    async def accept(self, text: str) -> None:
        await self._task.defer_async(text=text)

    async def drain(self, job: Job, count: int) -> None:
        self._job = job
        await self._app.run_worker_async(concurrency=AT_ONCE, wait=False, install_signal_handlers=False)

    async def work(self, job: Job, lease: float) -> None:
        self._job = job
        rescue = asyncio.create_task(self._rescue(lease))
        await self._app.run_worker_async(
            concurrency=AT_ONCE, update_heartbeat_interval=lease / 3, stalled_worker_timeout=lease
        )
        rescue.cancel()

    async def _rescue(self, lease: float) -> None:
        """As the how-to on stalled jobs, every second: its own way is a periodic task, of once a minute at best."""
        while True:
            await asyncio.sleep(1)
            for stalled in await self._app.job_manager.get_stalled_jobs(seconds_since_heartbeat=lease):
                await self._app.job_manager.retry_job(stalled)
