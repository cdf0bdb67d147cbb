"""The SQLite outbox one would write by hand: one table, durable, group commit, leases. What postroom's is measured by.

It does what a careful program needs and nothing that postroom is for: no routes, no limits, no receipts per
recipient, no outcomes, no idempotency keys, no validation of what it reads back.
"""

from __future__ import annotations

import asyncio
import json
import queue
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

TABLE = """
CREATE TABLE IF NOT EXISTS jobs (
    id INTEGER PRIMARY KEY,
    state TEXT NOT NULL,
    due REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    owner TEXT,
    leased_until REAL,
    body TEXT NOT NULL,
    result TEXT
);
CREATE INDEX IF NOT EXISTS due ON jobs (due, id) WHERE state = 'queued';
"""
CLAIM = """
UPDATE jobs SET state = 'sending', owner = ?, leased_until = ?, attempts = attempts + 1
WHERE id IN (SELECT id FROM jobs WHERE state = 'queued' AND due <= ? ORDER BY due, id LIMIT ?)
RETURNING id, body
"""
SETTLE = "UPDATE jobs SET state = 'sent', result = ?, owner = NULL WHERE id = ? AND owner = ?"
LEASE = 10.0
OWNER = "worker 1"

Operation = Callable[[sqlite3.Connection], Any]


class HandWrittenOutbox:
    """WAL, synchronous=FULL, one thread that writes; what is asked for meanwhile shares the next transaction."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.executescript(TABLE)
        self._requests: queue.SimpleQueue[tuple[Operation, asyncio.Future[Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    async def enqueue(self, message: dict[str, Any]) -> int:
        body, now = json.dumps(message), time.time()
        insert = "INSERT INTO jobs (state, due, body) VALUES ('queued', ?, ?)"
        return int(await self._write(lambda connection: connection.execute(insert, (now, body)).lastrowid))

    async def drain(self, deliver: Callable[[dict[str, Any]], Awaitable[str]], at_once: int) -> None:
        """Deliver all there is, `at_once` at a time; each turn settles one batch and claims the next."""
        results: list[tuple[str, int, str]] = []
        while True:
            done, now = results, time.time()
            jobs = await self._write(lambda connection: _turn(connection, done, now, at_once))  # noqa: B023
            if not jobs:
                return
            results = await asyncio.gather(*(_delivered(deliver, *job) for job in jobs))

    def close(self) -> None:
        self._requests.put(None)
        self._thread.join()
        self._connection.close()

    async def _write(self, operation: Operation) -> Any:
        future = asyncio.get_running_loop().create_future()
        self._requests.put((operation, future))
        return await future

    def _serve(self) -> None:
        while (first := self._requests.get()) is not None:
            together = [first]
            while len(together) < 1000 and not self._requests.empty():
                request = self._requests.get()
                if request is None:
                    self._requests.put(None)
                    break
                together.append(request)
            self._connection.execute("BEGIN IMMEDIATE")
            answers = [operation(self._connection) for operation, _ in together]
            self._connection.execute("COMMIT")
            futures = [future for _, future in together]
            futures[0].get_loop().call_soon_threadsafe(_resolve, futures, answers)


def _turn(
    connection: sqlite3.Connection, done: list[tuple[str, int, str]], now: float, at_once: int
) -> list[tuple[int, str]]:
    connection.executemany(SETTLE, done)
    return connection.execute(CLAIM, (OWNER, now + LEASE, now, at_once)).fetchall()


async def _delivered(deliver: Callable[[dict[str, Any]], Awaitable[str]], id_: int, body: str) -> tuple[str, int, str]:
    begun = time.time()
    provider_id = await deliver(json.loads(body))
    result = {"provider_message_id": provider_id, "started_at": begun, "duration": time.time() - begun}
    return json.dumps(result), id_, OWNER


def _resolve(futures: list[asyncio.Future[Any]], answers: list[Any]) -> None:
    for future, answer in zip(futures, answers, strict=True):
        future.set_result(answer)
