"""What an idle worker costs, and how soon it sends: `python tests/benchmarks/outbox_latency.py [MESSAGES] [SECONDS]`.

A worker in a process of its own sends to a server here. First it has nothing to do for so many seconds: which part of
a core does it use, and how often does it wake? Then messages are enqueued here one at a time, with a pause: how long
until each reaches the server? Prints a table; asserts nothing.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from postroom import Email, Postroom
from postroom.testing.smtp import SmtpRecorder

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


async def measure(folder: Path, count: int, seconds: float) -> None:
    async with SmtpRecorder() as server:
        config = folder / "postroom.toml"
        config.write_text(
            f'[outbox]\nurl = "sqlite:///{folder}/outbox.db"\n[accounts.post]\nprovider = "smtp"\nhost = "127.0.0.1"\n'
            f'port = {server.port}\ntls = "none"\nfrom = "post@example.org"\n'
        )
        worker = await asyncio.create_subprocess_exec(sys.executable, "-c", WORKER, str(config))
        try:
            async with Postroom.from_config(config) as room:
                latencies = []
                await one(room, server)
                await asyncio.sleep(2)  # what is done once is over
                before, sleeps = used(worker.pid)
                await asyncio.sleep(seconds)
                after, sleeps_after = used(worker.pid)
                for _ in range(count):
                    latencies.append(await one(room, server))
                    await asyncio.sleep(PAUSE)
        finally:
            worker.terminate()
            await worker.wait()
    hundredths = statistics.quantiles(latencies, n=100)
    print(f"{'idle, percent of a core':<40}{(after - before) / seconds * 100:>10.2f}")
    print(f"{'idle, wake-ups a second':<40}{(sleeps_after - sleeps) / seconds:>10.1f}")
    print(f"{'enqueue to wire, median in ms':<40}{hundredths[49] * 1000:>10.1f}")
    print(f"{'enqueue to wire, 99 of 100 below, ms':<40}{hundredths[98] * 1000:>10.1f}")


async def one(room: Postroom, server: SmtpRecorder) -> float:
    """Seconds from an accepted message to its first command at the server."""
    arrived = len(server.messages)
    await room.enqueue(Email(to="ann@example.org", subject="Hello", text="x" * 1000))
    accepted = time.perf_counter()
    await server.until("dot", arrived + 1)
    return time.perf_counter() - accepted


def main(count: int, seconds: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure(Path(folder), count, seconds))


main(int(sys.argv[1]) if len(sys.argv) > 1 else 300, float(sys.argv[2]) if len(sys.argv) > 2 else 20.0)
