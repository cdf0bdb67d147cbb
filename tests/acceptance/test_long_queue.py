"""What a long queue costs: a claim as much as with a short one, and a worker's memory nothing.

`tests/benchmarks/outbox_backlog.py` measures both with 200,000 messages. Here the steps of SQLite's machine stand for
the time of a claim, because they are the same on every run.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from ordeal.configuration import sink, written
from ordeal.processes import Crew

from postroom import Email, Postroom
from postroom.outbox.records import ClaimLimit
from postroom.outbox.sqlite import claim

FEW = 500
MANY = int(os.environ.get("POSTROOM_BACKLOG", "12000"))
TOGETHER = 1000
MIB = 2**20


async def filled(config: Path, many: int) -> Path:
    async with Postroom.from_config(config) as room:
        for first in range(0, many, TOGETHER):
            numbers = range(first, min(first + TOGETHER, many))
            await room.enqueue_many([Email(to=f"n{n}@example.org", subject=f"{n}", text="x" * 1000) for n in numbers])
    return config


def steps_of_a_claim(outbox: Path) -> int:
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    with closing(sqlite3.connect(outbox, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        worker = claim.register(connection, "w")
        connection.set_progress_handler(count, 1)
        rows, _ = claim.claim(connection, worker, {"post/email": ClaimLimit(25, 25)}, time.time())
        connection.set_progress_handler(None, 1)
        connection.execute("ROLLBACK")
    assert len(rows) == 25
    return steps


async def test_a_claim_costs_the_same_with_a_long_queue(tmp_path: Path) -> None:
    found = {}
    for many in (FEW, MANY):
        folder = tmp_path / str(many)
        folder.mkdir()
        await filled(written(folder, {"post": sink()}), many)
        found[many] = steps_of_a_claim(folder / "outbox.db")
    assert found[MANY] <= 1.3 * found[FEW], found


async def test_a_workers_memory_stays_level_while_it_drains(tmp_path: Path) -> None:
    config = await filled(written(tmp_path, {"post": sink()}), MANY)
    halfway, most = 0, 0
    async with Crew(config) as crew:
        worker = await crew.worker("until-empty")
        while (done := sent(tmp_path / "outbox.db")) < MANY:
            most = max(most, worker.memory())
            halfway = most if done <= MANY / 2 else halfway
            await asyncio.sleep(0.1)
        assert await worker.ended() == 0, crew.log("worker")
    assert halfway
    # The cache of the connection that writes, 32 MiB, may still be filling; a long queue shows smaller leaks.
    assert most - halfway <= 32 * MIB


def sent(outbox: Path) -> int:
    with closing(sqlite3.connect(outbox, timeout=60)) as connection:
        [count] = connection.execute("SELECT count(*) FROM messages WHERE status = 'sent'").fetchone()
    return int(count)
