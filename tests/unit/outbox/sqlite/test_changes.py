"""Whoever waits for a change hears of it, and while nothing changes hardly anybody looks."""

from __future__ import annotations

import asyncio
import resource
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from engines.process import Clock, MakeOutbox, Process

from postroom import Email
from postroom.outbox.sqlite.changes import LONGEST, MOST_BEFORE_IT_SHOWS, SAFETY, SHORTEST, SOON, Changes

pytestmark = pytest.mark.slow

linux = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")
WRITER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("REPLACE INTO meta VALUES ('test', random())")
"""


class Looks:
    """Counts how often a storage looks whether the file has changed."""

    def __init__(self, post: Process) -> None:
        self.count = 0
        post.store._quick_reader.set_trace_callback(self._count)

    def _count(self, statement: str) -> None:
        self.count += "data_version" in statement


@pytest.fixture
async def post(make_outbox: MakeOutbox) -> AsyncIterator[Process]:
    async with make_outbox() as post:
        await post.add(Email(to="ann@example.org", text="x"))
        await post.store.changed()
        yield post


def written_elsewhere(post: Process) -> None:
    """Write in another process, which opens and closes the file."""
    subprocess.run([sys.executable, "-c", WRITER, str(post.store.path)], check=True)


async def polled(times: int, folder: Path) -> None:
    """Let as much time pass as this many looks take where the kernel says nothing."""
    polling = Changes(folder / "there is no such file")
    for _ in range(times):
        await polling.wait()
    assert not polling.watching


async def waiting(post: Process) -> asyncio.Task[int]:
    """Somebody who waits for the next change and has looked in vain."""
    version = await post.store.changed()
    task: asyncio.Task[int] = asyncio.create_task(post.store.changed(version))
    await asyncio.sleep(0)
    return task


@linux
async def test_while_nothing_changes_there_are_few_looks(post: Process, tmp_path: Path) -> None:
    looks, task = Looks(post), await waiting(post)
    await polled(200, tmp_path)
    assert not task.done()
    assert looks.count <= 40
    task.cancel()


@linux
async def test_a_process_that_waits_sleeps_where_one_that_polls_wakes(post: Process, tmp_path: Path) -> None:
    """Both at the same time, each in a thread of its own, so that a busy machine takes from both."""

    def sleeps() -> int:
        return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw

    def sleeps_of_polling() -> int:
        before = sleeps()
        asyncio.run(polled(200, tmp_path))
        return sleeps() - before

    version = await post.store.changed()
    await polled(50, tmp_path)  # the looks that follow a write are over
    waits = asyncio.create_task(post.store.changed(version))
    before = sleeps()
    polling = await asyncio.to_thread(sleeps_of_polling)
    quiet = sleeps() - before
    waits.cancel()
    assert quiet * 4 < polling


@pytest.mark.parametrize("how", ["heard of", "polled"])
async def test_a_write_of_another_process_is_seen(post: Process, how: str) -> None:
    if how == "polled":
        post.store._changes = Changes(post.store.path.with_name("none"))
    task = await waiting(post)
    await asyncio.to_thread(written_elsewhere, post)
    async with asyncio.timeout(60):
        await task


@linux
async def test_many_writes_of_many_connections_are_seen_whatever_becomes_of_the_wal(post: Process) -> None:
    looks = Looks(post)
    for round_ in range(20):
        task = await waiting(post)
        with closing(sqlite3.connect(post.store.path, isolation_level=None)) as other:
            other.execute("REPLACE INTO meta VALUES ('test', random())")
            if round_ % 3 == 0:
                other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        async with asyncio.timeout(60):
            await task
        assert post.store._changes.watching
    assert looks.count <= 20 * 30


@linux
async def test_a_wal_that_was_made_anew_is_listened_to(tmp_path: Path) -> None:
    wal, clock = tmp_path / "o.db-wal", Clock(0.0)
    wal.touch()
    changes = Changes(wal, clock=clock)
    try:
        waits = asyncio.create_task(changes.wait())
        await asyncio.sleep(0)
        assert changes.watching
        wal.unlink()
        await waits
        clock.now += SAFETY
        await changes.wait()
        while changes.watching:
            await changes.wait()
        wal.touch()
        clock.now += SAFETY
        await changes.wait()
        assert changes.watching
        clock.now += 10 * SAFETY
        waits = asyncio.create_task(changes.wait())
        await asyncio.sleep(0)
        wal.write_bytes(b"x")
        async with asyncio.timeout(60):
            await waits
    finally:
        changes.close()


@linux
async def test_all_who_wait_in_one_process_hear_of_it(post: Process) -> None:
    tasks = [await waiting(post) for _ in range(5)]
    await asyncio.to_thread(written_elsewhere, post)
    async with asyncio.timeout(60):
        await asyncio.gather(*tasks)


@linux
async def test_where_no_more_watches_are_to_be_had_it_polls(tmp_path: Path) -> None:
    wal = tmp_path / "o.db-wal"
    wal.touch()
    changes = Changes(wal)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        await changes.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not changes.watching


async def test_looks_come_soon_after_a_write_and_then_further_and_further_apart(tmp_path: Path) -> None:
    clock, wal = Clock(0.0), tmp_path / "o.db-wal"

    def pause_at(changes: Changes, seconds: float) -> float:
        clock.now = seconds
        return changes._pause()

    polling = Changes(wal, clock=clock)
    pauses = [pause_at(polling, seconds) for seconds in (0.0, 0.1, 1.0, 2.0, 100.0)]
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (SHORTEST, LONGEST)
    wal.touch()
    clock.now = 0.0
    watching = Changes(wal, clock=clock)
    await watching.wait()
    if watching.watching:
        assert pause_at(watching, 0.0) == SOON
        looks = 0
        while (pause := watching._pause()) < SAFETY:
            clock.now += pause
            looks += 1
        assert looks < 20
        watching.note()
        clock.now += 1.0
        wal.write_bytes(b"x")
        await watching.wait()
        for after in (0.1, 0.5, 0.9):
            assert pause_at(watching, watching._written_at + after) == MOST_BEFORE_IT_SHOWS, "its commit does not show"
        watching.note()
        assert watching._pause() > MOST_BEFORE_IT_SHOWS
    watching.close()
