"""One queue at work, run by `outbox_postgres_peers.py` and `outbox_postgres_frozen.py` in the queue's own environment.

`measure QUEUE URL COUNT SERVER` accepts and drains and prints what that cost; `accept QUEUE URL` accepts one job;
`work QUEUE URL LEASE WORK FILE` is a worker whose job takes WORK seconds, and writes to FILE when it begins and ends.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import logging
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from peers.peer import Peer

CALLERS = 100
TEXT = ("x" * 70 + "\n") * 14
TICK = os.sysconf("SC_CLK_TCK")


async def nothing(_: str) -> None:
    """What a job does where the queue is measured."""


async def measure(peer: Peer, count: int, server: int) -> None:
    await peer.install()
    await peer.accept(TEXT)
    await peer.drain(nothing, 1)
    gc.collect()
    gc.disable()
    alone = count // 10
    await spent("accepted one by one", alone, server, lambda: accepted(peer, 1, alone))
    await spent(f"accepted, {CALLERS} at once", count - alone, server, lambda: accepted(peer, CALLERS, count - alone))
    print("accepted", flush=True)
    sys.stdin.readline()
    done: list[str] = []

    async def job(text: str) -> None:
        done.append(text)

    await spent("drained", count, server, lambda: peer.drain(job, count))
    assert len(done) == count, f"{len(done)} of {count} were done"


async def accepted(peer: Peer, callers: int, count: int) -> None:
    left = iter(range(count))

    async def caller() -> None:
        for _ in left:
            await peer.accept(TEXT)

    await asyncio.gather(*(caller() for _ in range(callers)))


async def spent(work: str, count: int, server: int, run: Callable[[], Awaitable[None]]) -> None:
    """Print how many a second, and the microseconds of processor time of this process and of the server for each."""
    wall, client, database = time.perf_counter(), time.process_time(), seconds_of_server(server)
    await run()
    wall, client = time.perf_counter() - wall, time.process_time() - client
    database = seconds_of_server(server) - database
    found = {"a second": count / wall, "client": client / count * 1e6, "server": database / count * 1e6}
    print(json.dumps({"work": work, **found}), flush=True)


def seconds_of_server(number: int) -> float:
    """Processor time of a server: of its process, of those that it has, and of those that have ended."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(stat.parent.name) == number:
            ticks += sum(map(int, fields[11:15]))
        elif int(fields[1]) == number:
            ticks += sum(map(int, fields[11:13]))
    return ticks / TICK


async def work(peer: Peer, lease: float, seconds: float, file: str) -> None:
    async def job(_: str) -> None:
        note(file, "begins")
        await asyncio.sleep(seconds)
        note(file, "ends")

    print("ready", flush=True)
    await peer.work(job, lease)


def note(file: str, what: str) -> None:
    with Path(file).open("a", encoding="utf-8") as notes:
        notes.write(f"{os.getpid()} {what}\n")


async def main(command: str, queue: str, url: str, *more: str) -> None:
    opened: Any = importlib.import_module(f"peers.{queue}").opened
    async with opened(url) as peer:
        if command == "measure":
            await measure(peer, int(more[0]), int(more[1]))
        elif command == "accept":
            await peer.install()
            await peer.accept("hello")
        else:
            logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
            await work(peer, float(more[0]), float(more[1]), more[2])


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
