"""What a long queue costs: `python tests/benchmarks/outbox_backlog.py [FEW] [MANY]`, 2,000 and 200,000 unless said.

The time of one claim of 25 messages with few and with many queued, in turns over the same two files, and the memory
of a worker while it drains the long queue. Prints a table; asserts nothing.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from postroom import Email, Postroom
from postroom.outbox.records import ClaimLimit
from postroom.outbox.sqlite import claim

BATCH, CLAIMS, TOGETHER = 25, 200, 1000
CONFIGURATION = """
[defaults]
email = "screen"

[accounts.screen]
provider = "console"
from = "post@example.org"

[outbox]
url = "sqlite:///{}"
"""


async def filled(folder: Path, count: int) -> Path:
    """Return the outbox in `folder` once it holds `count` messages."""
    (folder / "postroom.toml").write_text(CONFIGURATION.format(folder / "outbox.db"))
    async with Postroom.from_config(folder / "postroom.toml") as room:
        for first in range(0, count, TOGETHER):
            numbers = range(first, min(first + TOGETHER, count))
            await room.enqueue_many([Email(to=f"n{n}@example.org", subject=f"{n}", text="x" * 1000) for n in numbers])
    return folder / "outbox.db"


def seconds_of_claims(paths: list[Path]) -> list[float]:
    """Return the median time of a claim in each file."""
    connections = [sqlite3.connect(path, isolation_level=None) for path in paths]
    times: list[list[float]] = [[] for _ in paths]
    for _ in range(CLAIMS):
        for connection, found in zip(connections, times, strict=True):
            connection.execute("BEGIN IMMEDIATE")
            worker = claim.register(connection, "benchmark")
            begun = time.perf_counter()
            rows, _ = claim.claim(connection, worker, {"screen/email": ClaimLimit(BATCH, BATCH)}, time.time())
            found.append(time.perf_counter() - begun)
            assert len(rows) == BATCH
            connection.execute("ROLLBACK")
    for connection in connections:
        connection.close()
    return [statistics.median(found) for found in times]


def memory_while_draining(folder: Path) -> list[float]:
    """Return the resident memory of a worker, in MiB, every half second until the outbox is empty."""
    command = [sys.executable, "-m", "postroom", "worker", "--until-empty"]
    worker = subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    found = []
    while worker.poll() is None:
        pages = int(Path(f"/proc/{worker.pid}/statm").read_text().split()[1])
        found.append(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)
        time.sleep(0.5)
    assert worker.returncode == 0
    return found


def main(few: int, many: int) -> None:
    with tempfile.TemporaryDirectory() as short, tempfile.TemporaryDirectory() as long:
        paths = [asyncio.run(filled(Path(short), few)), asyncio.run(filled(Path(long), many))]
        with_few, with_many = seconds_of_claims(paths)
        begun = time.monotonic()
        memory = memory_while_draining(Path(long))
        spent = time.monotonic() - begun
    print(f"claim of {BATCH}, {few:,} queued:  {with_few * 1e3:8.2f} ms")
    print(f"claim of {BATCH}, {many:,} queued:  {with_many * 1e3:8.2f} ms   {with_many / with_few:.2f} times")
    steady = memory[len(memory) // 10 :]
    print(f"worker: {many:,} messages in {spent:.0f} s; {steady[0]:.0f} MiB at first, at most {max(steady):.0f}")


main(*(int(given.replace(",", "")) for given in sys.argv[1:] or ("2000", "200000")))
