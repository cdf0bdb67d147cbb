"""postroom's outbox on PostgreSQL against one written by hand: `python tests/benchmarks/outbox_postgres.py [MESSAGES]`.

The database is of its own, by pip, with fsync on. As in `outbox_throughput.py`, the rounds of both alternate in one
run, and the ratios count. Prints a table; asserts nothing.
"""

from __future__ import annotations

import asyncio
import gc
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
from outbox_throughput import AT_ONCE, ROUNDS, TEXT, accepted

from postroom import Email, Postroom

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.postgres_server import start, stop

TABLE = """
DROP TABLE IF EXISTS jobs;
CREATE TABLE jobs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    state text NOT NULL,
    due float8 NOT NULL,
    attempts int NOT NULL DEFAULT 0,
    owner text,
    leased_until float8,
    body text NOT NULL,
    result text
);
CREATE INDEX due ON jobs (due, id) WHERE state = 'queued';
"""
INSERT = "INSERT INTO jobs (state, due, body) SELECT 'queued', $1, unnest($2::text[])"
CLAIM = """
UPDATE jobs SET state = 'sending', owner = $1, leased_until = $2, attempts = attempts + 1
WHERE id IN (SELECT id FROM jobs WHERE state = 'queued' AND due <= $3 ORDER BY due, id LIMIT $4 FOR UPDATE SKIP LOCKED)
RETURNING id, body
"""
SETTLE = """
UPDATE jobs SET state = 'sent', result = d.result, owner = NULL
FROM unnest($1::bigint[], $2::text[]) AS d (id, result) WHERE jobs.id = d.id AND owner = $3
"""
OWNER = "worker 1"


class HandWrittenOutbox:
    """One table, SKIP LOCKED, group commit: what callers insert meanwhile shares the next transaction."""

    def __init__(self, connection: Any, inserting: Any) -> None:
        self._connection = connection
        self._inserting = inserting
        self._waiting: list[tuple[str, asyncio.Future[None]]] = []
        self._task: asyncio.Task[None] | None = None

    async def enqueue(self, message: dict[str, Any]) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((json.dumps(message), future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._insert())
        await future

    async def _insert(self) -> None:
        while self._waiting:
            together, self._waiting = self._waiting, []
            await self._inserting.execute(INSERT, time.time(), [body for body, _ in together])
            for _, future in together:
                future.set_result(None)

    async def drain(self, deliver: Callable[[dict[str, Any]], Awaitable[str]]) -> None:
        done: list[tuple[int, str]] = []
        while True:
            now = time.time()
            async with self._connection.transaction():
                if done:
                    await self._connection.execute(SETTLE, [id_ for id_, _ in done], [said for _, said in done], OWNER)
                jobs = await self._connection.fetch(CLAIM, OWNER, now + 10, now, AT_ONCE)
            if not jobs:
                return
            answers = await asyncio.gather(*(deliver(json.loads(body)) for _, body in jobs))
            done = [(id_, json.dumps({"id": said})) for (id_, _), said in zip(jobs, answers, strict=True)]


async def ours(url: str, count: int) -> dict[str, float]:
    emails = [Email(to=f"ann{n}@example.org", subject=f"Number {n}", text=TEXT) for n in range(count)]
    account = {"provider": "memory", "from": "post@example.org", "concurrency": AT_ONCE}
    async with Postroom(accounts={"box": account}, outbox={"url": url}) as room:
        await room.enqueue(emails[0])
        await room.work(until_empty=True)
        found = await accepted(emails, room.enqueue)
        begun = time.perf_counter()
        await room.work(until_empty=True)
        found["drained"] = count / (time.perf_counter() - begun)
        assert len(room.memory) == count + 1
    return found


async def by_hand(url: str, count: int) -> dict[str, float]:
    taken: list[dict[str, Any]] = []

    async def deliver(message: dict[str, Any]) -> str:
        taken.append(message)
        return str(len(taken))

    connection, inserting = await asyncpg.connect(url), await asyncpg.connect(url)
    await connection.execute(TABLE)
    outbox = HandWrittenOutbox(connection, inserting)
    messages = [{"to": f"ann{n}@example.org", "subject": f"Number {n}", "text": TEXT} for n in range(count)]
    found = await accepted(messages, outbox.enqueue)
    begun = time.perf_counter()
    await outbox.drain(deliver)
    found["drained"] = count / (time.perf_counter() - begun)
    assert len(taken) == count
    await connection.close()
    await inserting.close()
    return found


def main(count: int) -> None:
    number, folder, url = start(fsync="on")
    try:
        compare(url, count)
    finally:
        stop(number, folder)


def compare(url: str, count: int) -> None:
    rounds: list[tuple[dict[str, float], dict[str, float]]] = []
    for number in range(ROUNDS):
        gc.enable()
        gc.collect()
        gc.disable()
        mine = asyncio.run(ours(f"{url}?schema=round{number}", count))
        rounds.append((mine, asyncio.run(by_hand(url, count))))
    print(f"{'messages a second':<26}{'postroom':>10}{'by hand':>10}{'ratio':>8}   (median of {ROUNDS})")
    for work in rounds[0][0]:
        mine_ = statistics.median(ours_[work] for ours_, _ in rounds)
        reference = statistics.median(hand[work] for _, hand in rounds)
        ratio = statistics.median(ours_[work] / hand[work] for ours_, hand in rounds)
        print(f"{work:<26}{mine_:>10,.0f}{reference:>10,.0f}{ratio:>8.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3000)
