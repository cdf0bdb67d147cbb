"""What grows on PostgreSQL, and what does not: `python tests/benchmarks/outbox_postgres_scale.py [FEW] [MANY] [MESSAGES]`.

The time of one claim of 25 messages with FEW (10,000) and with MANY (1,000,000) queued, in turns over two schemas; then
MESSAGES (5,000) drained by one worker, by two and by four, each a process of its own. Prints a table; asserts nothing.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from pathlib import Path

import asyncpg

from postroom import Email, Postroom
from postroom.outbox.postgres import claim
from postroom.outbox.records import ClaimLimit

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.postgres_server import start, stop

QUEUE, BATCH, CLAIMS = "box/email", 25, 200
WORKER = """
import asyncio, sys
from postroom import Postroom
async def main():
    account = {"provider": "memory", "from": "post@example.org"}
    async with Postroom(accounts={"box": account}, outbox={"url": sys.argv[1]}) as room:
        await room.outbox.stats()
        print("ready", flush=True)
        sys.stdin.readline()
        await room.work(until_empty=True)
asyncio.run(main())
"""
COPIES = """
INSERT INTO messages (id, tenant, channel, status, queue, route, priority, due_at, expires_at, single_round, size, created_at)
SELECT id || '-' || n, tenant, channel, status, queue, route, priority, due_at, expires_at, single_round, size, created_at
FROM messages, generate_series(2, $1::integer) n
"""
BODIES = "INSERT INTO bodies SELECT m.seq, b.body FROM messages m, bodies b WHERE m.seq > 1 AND b.seq = 1"


async def filled(url: str, schema: str, count: int) -> str:
    """Return the URL of an outbox that holds `count` messages."""
    url = f"{url}?schema={schema}"
    account = {"provider": "memory", "from": "post@example.org"}
    async with Postroom(accounts={"box": account}, outbox={"url": url}) as room:
        await room.enqueue(Email(to="ann@example.org", subject="Hello", text="x" * 1000))
    connection = await connected(url)
    await connection.execute(COPIES, count, timeout=600)
    await connection.execute(BODIES, timeout=600)
    await connection.execute("VACUUM ANALYZE", timeout=600)
    await connection.close()
    return url


async def connected(url: str) -> asyncpg.Connection:
    base, _, schema = url.partition("?schema=")
    connection: asyncpg.Connection = await asyncpg.connect(base, server_settings={"search_path": schema})
    return connection


async def seconds_of_claims(urls: list[str]) -> list[float]:
    """Return the median time of a claim in each outbox; each is undone."""
    connections = [await connected(url) for url in urls]
    times: list[list[float]] = [[] for _ in urls]
    for _ in range(CLAIMS):
        for connection, found in zip(connections, times, strict=True):
            transaction = connection.transaction()
            await transaction.start()
            worker = await claim.register(connection, "benchmark")
            begun = time.perf_counter()
            rows, _ = await claim.claim(connection, worker, {QUEUE: ClaimLimit(BATCH, BATCH)}, time.time())
            found.append(time.perf_counter() - begun)
            assert len(rows) == BATCH
            await transaction.rollback()
    for connection in connections:
        await connection.close()
    return [statistics.median(found) for found in times]


async def drained(url: str, count: int, workers: int) -> float:
    """Return how many messages a second so many worker processes drain together."""
    outbox = await filled(url, f"workers{workers}", count)
    pipe = asyncio.subprocess.PIPE
    processes = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", WORKER, outbox, stdin=pipe, stdout=pipe)
        for _ in range(workers)
    ]
    for process in processes:
        assert process.stdout
        await process.stdout.readline()
    begun = time.perf_counter()
    await asyncio.gather(*(process.communicate(b"\n") for process in processes))
    return count / (time.perf_counter() - begun)


async def measure(url: str, few: int, many: int, count: int) -> None:
    with_few, with_many = await seconds_of_claims([await filled(url, "few", few), await filled(url, "many", many)])
    print(f"claim of {BATCH}, {few:>9,} queued: {with_few * 1e3:8.2f} ms")
    print(f"claim of {BATCH}, {many:>9,} queued: {with_many * 1e3:8.2f} ms   {with_many / with_few:.2f} times")
    one = 0.0
    for workers in (1, 2, 4):
        rate = await drained(url, count, workers)
        one = one or rate
        print(
            f"{workers} worker{'s' if workers > 1 else ' '} drained a second: {rate:9,.0f}      {rate / one:.2f} times"
        )


def main(few: int = 10_000, many: int = 1_000_000, count: int = 5_000) -> None:
    number, folder, url = start(fsync="on")
    try:
        asyncio.run(measure(url, few, many, count))
    finally:
        stop(number, folder)


main(*(int(given.replace(",", "")) for given in sys.argv[1:]))
