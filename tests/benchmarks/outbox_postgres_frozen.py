"""What queues on PostgreSQL do when a worker freezes and wakes: `python tests/benchmarks/outbox_postgres_frozen.py [QUEUE ...]`.

One worker takes a job that lasts, and is frozen (SIGSTOP) beyond its lease. Another takes the job over, by what its
library documents for that. While it is at work the first wakes (SIGCONT) and comes to its end. Prints what then was in
the database while the second still worked and after it, how often the job's work was done, and what the woken worker
said. Queues and environments are those of `outbox_postgres_peers.py`; asserts nothing, and keeps the logs.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg
from outbox_postgres_peers import DRIVER, python_of, version_of

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.postgres_server import start, stop

LEASE, WORK, PATIENCE = 3, 8, 120
ROWS = {
    "ours": "SELECT status, attempts, owner, due_at - extract(epoch FROM now()) AS due_in FROM postroom.messages",
    "pgqueuer": "SELECT status, attempts, queue_manager_id IS NOT NULL AS owned FROM pgqueuer",
    "procrastinate": "SELECT status, attempts, worker_id FROM procrastinate_jobs",
    "oban": "SELECT state, attempt, meta FROM oban_jobs",
}
"""Where each keeps its jobs."""
LOG = "SELECT string_agg(status::text, ', ' ORDER BY id) AS log FROM pgqueuer_log"
"""What PgQueuer keeps of a job whose row is gone."""
SILENCE = {"oban": LEASE + WORK + 1}
"""Oban looks at how long ago the attempt began, so that it may not be less than the longest job takes."""


class Trial:
    """One job, and two workers that have it."""

    def __init__(self, queue: str, url: str, folder: Path, environment: dict[str, str]) -> None:
        self._queue = queue
        self._url = url
        self._folder = folder
        self._environment = os.environ | environment
        self._notes = folder / "notes"
        self._notes.touch()
        self._workers: list[Any] = []

    async def run(self) -> AsyncIterator[str]:
        """Say what was seen, one thing after another."""
        await (await self._started("accept")).wait()
        first = await self._worker("first")
        await self._until(lambda: self.noted(first.pid, "begins"))
        first.send_signal(signal.SIGSTOP)
        frozen_at = time.monotonic()
        await asyncio.sleep(LEASE + 1)
        second = await self._worker("second")
        taken_over = await self._until(lambda: self._is_taken_over(second.pid), PATIENCE)
        yield f"{'taken' if taken_over else 'not taken'} over {time.monotonic() - frozen_at:.0f} s after it froze"
        yield f"before the first wakes: {await self.rows()}"
        first.send_signal(signal.SIGCONT)
        await self._until(lambda: self.noted(first.pid, "ends"), WORK)
        await asyncio.sleep(1)
        at_work = self.noted(second.pid, "begins") and not self.noted(second.pid, "ends")
        yield f"the first has ended, the second is{'' if at_work else ' not'} at work: {await self.rows()}"
        await self._until(lambda: not at_work or self.noted(second.pid, "ends"), 2 * WORK)
        await asyncio.sleep(2)
        yield f"at the end: {await self.rows()}"
        notes = self._notes.read_text()
        yield f"begun {notes.count('begins')} times, done {notes.count('ends')} times"
        if self._queue == "pgqueuer":
            yield f"its log: {await self.rows(LOG)}"

    async def end(self) -> None:
        for worker in self._workers:
            with suppress(ProcessLookupError):
                worker.kill()
            await worker.wait()

    def noted(self, pid: int, what: str) -> bool:
        return f"{pid} {what}\n" in self._notes.read_text()

    def said(self, worker: str) -> list[str]:
        """What a worker logged of trouble, and of how the job ended."""
        lines = (self._folder / worker).read_text().splitlines()
        return [
            line for line in lines if line.startswith(("WARNING", "ERROR")) or "Error" in line or "ended with" in line
        ]

    async def rows(self, query: str = "") -> str:
        connection = await asyncpg.connect(self._url)
        found = await connection.fetch(query or ROWS[self._queue])
        await connection.close()
        return "; ".join(str(dict(row)) for row in found) or "no row"

    async def _is_taken_over(self, pid: int) -> bool:
        """Whether the job is begun again, or set aside for a person."""
        return self.noted(pid, "begins") or (self._queue == "ours" and "in_doubt" in await self.rows())

    async def _worker(self, name: str) -> Any:
        silence = SILENCE.get(self._queue, LEASE)
        worker = await self._started("work", str(silence), str(WORK), str(self._notes), log=self._folder / name)
        self._workers.append(worker)
        return worker

    async def _started(self, command: str, *more: str, log: Path | None = None) -> Any:
        arguments = [python_of(self._queue), str(DRIVER), command, self._queue, self._url, *more]
        with (log or self._folder / "log").open("w") as file:
            return await asyncio.create_subprocess_exec(*arguments, stdout=file, stderr=file, env=self._environment)

    async def _until(self, truth: Callable[[], Any], seconds: float = 60) -> bool:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            answer = truth()
            if answer if isinstance(answer, bool) else await answer:
                return True
            await asyncio.sleep(0.05)
        return False


async def tried(queue: str, url: str, number: int, environment: dict[str, str]) -> None:
    admin = await asyncpg.connect(url)
    await admin.execute(f"CREATE DATABASE trial{number}")
    await admin.close()
    folder = Path(tempfile.mkdtemp(prefix=f"postroom-frozen-{queue}-"))
    trial = Trial(queue, url.rpartition("/")[0] + f"/trial{number}", folder, environment)
    print(f"\n{version_of(queue)} {' '.join(environment.values())}   (logs: {folder})")
    try:
        async for line in trial.run():
            print(f"  {line}", flush=True)
    finally:
        await trial.end()
    for line in trial.said("first"):
        print(f"  the first said: {line}")


def main(queues: list[str]) -> None:
    server, folder, url = start(fsync="on")
    trials: list[tuple[str, dict[str, str]]] = [(queue, {}) for queue in queues if queue != "ours"]
    trials += [("ours", {"ON_UNKNOWN": on_unknown}) for on_unknown in ("hold", "retry") if "ours" in queues]
    try:
        for number, (queue, environment) in enumerate(trials):
            asyncio.run(tried(queue, url, number, environment))
    finally:
        stop(server, folder)


if __name__ == "__main__":
    main(sys.argv[1:] or list(ROWS))
