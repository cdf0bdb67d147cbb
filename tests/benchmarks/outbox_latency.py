"""What an idle worker costs, and how soon it sends: `python tests/benchmarks/outbox_latency.py [--postgres]`.

A worker in a process of its own sends to a server here. First it has nothing to do for `--seconds` (20): which part of
a core does it use, how often does it wake, and on PostgreSQL, how often does it ask the server? Then `--messages` (300)
are enqueued here one at a time, with a pause: how long until each reaches the server? Prints a table; asserts nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import asyncpg

from postroom import Email, Postroom
from postroom.testing.smtp import SmtpRecorder

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.postgres_server import start, stop

PAUSE = 0.05
WORKER = """
import asyncio, sys
from postroom import Postroom
async def main():
    async with Postroom.from_config(sys.argv[1]) as room:
        await room.work()
asyncio.run(main())
"""


def used(pid: int) -> tuple[float, int]:
    """Seconds of processor time of a process so far, and how often it has gone to sleep."""
    times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    status = Path(f"/proc/{pid}/task/{pid}/status").read_text()
    [sleeps] = [int(line.split()[1]) for line in status.splitlines() if line.startswith("voluntary_ctxt_switches")]
    return (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK"), sleeps


async def asked(url: str) -> int:
    """How many transactions the database has seen, each read being one."""
    if url.startswith("sqlite"):
        return 0
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("SELECT pg_stat_force_next_flush()")
        found: int = await connection.fetchval("SELECT sum(xact_commit + xact_rollback)::bigint FROM pg_stat_database")
        return found
    finally:
        await connection.close()


async def measure(folder: Path, url: str, count: int, seconds: float) -> None:
    async with SmtpRecorder() as server:
        config = folder / "postroom.toml"
        config.write_text(
            f'[outbox]\nurl = "{url}"\n[accounts.post]\nprovider = "smtp"\nhost = "127.0.0.1"\n'
            f'port = {server.port}\ntls = "none"\nfrom = "post@example.org"\n'
        )
        worker = await asyncio.create_subprocess_exec(sys.executable, "-c", WORKER, str(config))
        try:
            async with Postroom.from_config(config) as room:
                latencies = []
                await one(room, server)
                await asyncio.sleep(2)  # what is done once is over
                (before, sleeps), questions = used(worker.pid), await asked(url)
                await asyncio.sleep(seconds)
                (after, sleeps_after), questions_after = used(worker.pid), await asked(url)
                for _ in range(count):
                    latencies.append(await one(room, server))
                    await asyncio.sleep(PAUSE)
        finally:
            worker.terminate()
            await worker.wait()
    hundredths = statistics.quantiles(latencies, n=100)
    print(f"{'idle, percent of a core':<40}{(after - before) / seconds * 100:>10.2f}")
    print(f"{'idle, wake-ups a second':<40}{(sleeps_after - sleeps) / seconds:>10.1f}")
    if questions_after:
        print(f"{'idle, transactions a second':<40}{(questions_after - questions) / seconds:>10.1f}")
    print(f"{'enqueue to wire, median in ms':<40}{hundredths[49] * 1000:>10.1f}")
    print(f"{'enqueue to wire, 99 of 100 below, ms':<40}{hundredths[98] * 1000:>10.1f}")


async def one(room: Postroom, server: SmtpRecorder) -> float:
    """Seconds from an accepted message to its first command at the server."""
    arrived = len(server.messages)
    await room.enqueue(Email(to="ann@example.org", subject="Hello", text="x" * 1000))
    accepted = time.perf_counter()
    await server.until("dot", arrived + 1)
    return time.perf_counter() - accepted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--postgres", action="store_true")
    parser.add_argument("--messages", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=20.0)
    given = parser.parse_args()
    if given.postgres:
        number, place, url = start(fsync="on")
        try:
            run(url, given.messages, given.seconds)
        finally:
            stop(number, place)
    else:
        run("", given.messages, given.seconds)


def run(url: str, count: int, seconds: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure(Path(folder), url or f"sqlite:///{folder}/outbox.db", count, seconds))


main()
