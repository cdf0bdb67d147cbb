"""postroom's outbox on PostgreSQL beside other queues: `python tests/benchmarks/outbox_postgres_peers.py [MESSAGES] [ROUNDS]`.

PgQueuer, Procrastinate, Oban and a queue by hand do the same work in the same run, on one server with fsync: jobs of 1
KB are accepted by one caller and by 100 at once, each durable before its caller goes on, and drained by one worker, 50
at a time, by a job that does next to nothing. The peers run in environments of their own beneath `.benchmarks`, which
pip fills when first needed. Prints a table of each work, with processor time; asserts nothing.
"""

from __future__ import annotations

import asyncio
import json
import re
import statistics
import subprocess
import sys
import venv
from pathlib import Path

import asyncpg

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.postgres_server import start, stop

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "ours": [],
    "by_hand": [],
    "pgqueuer": ["pgqueuer[asyncpg]"],
    "procrastinate": ["procrastinate"],
    "oban": ["oban"],
}
DRIVER = Path(__file__).with_name("outbox_peer.py")
ALIAS = re.compile(r"^type (\w+)\[(\w+)\] = ", re.MULTILINE)
Figures = dict[str, dict[str, float]]


def python_of(queue: str) -> str:
    """The interpreter with a queue in it."""
    packages = PACKAGES[queue]
    if not packages:
        return sys.executable
    folder = ROOT / ".benchmarks" / "peers" / queue
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        venv.create(folder, clear=True, with_pip=True, symlinks=True)
        install: list[str | Path] = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *packages]
        if queue == "oban" and sys.version_info < (3, 12):
            subprocess.run([*install, "--ignore-requires-python"], check=True)
            write_for_311(folder)
        else:
            subprocess.run(install, check=True)
        (folder / "complete").touch()
    return str(python)


def write_for_311(folder: Path) -> None:
    """Write Oban's alias of a type, all that keeps it from Python 3.11, in words of that Python."""
    (module,) = folder.glob("lib/*/site-packages/oban/job.py")
    older = r'\2 = __import__("typing").TypeVar("\2")' + "\n" + r"\1 = "
    module.write_text(ALIAS.sub(older, module.read_text()))


def version_of(queue: str) -> str:
    package = {"ours": "postroom", "by_hand": "asyncpg"}.get(queue, queue)
    ask = f"import importlib.metadata as m; print(m.version({package!r}))"
    found = subprocess.run([python_of(queue), "-c", ask], check=True, capture_output=True, text=True)
    return f"{package} {found.stdout.strip()}"


async def measured(queue: str, url: str, count: int, server: int) -> Figures:
    """Accept and drain in a fresh database."""
    admin = await asyncpg.connect(url)
    await admin.execute(f"CREATE DATABASE {queue}")
    own = url.rpartition("/")[0] + f"/{queue}"
    pipe = asyncio.subprocess.PIPE
    command = [python_of(queue), str(DRIVER), "measure", queue, own, str(count), str(server)]
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    assert process.stdout
    assert process.stdin
    figures: Figures = {}
    try:
        async for line in process.stdout:
            if line == b"accepted\n":
                await analyzed(own)
                process.stdin.write(b"\n")
            else:
                found = json.loads(line)
                figures[found.pop("work")] = found
    except BaseException:
        process.kill()
        raise
    if await process.wait():
        raise SystemExit(f"{queue} did not do its work")
    await admin.execute(f"DROP DATABASE {queue} WITH (FORCE)")
    await admin.close()
    return figures


async def analyzed(url: str) -> None:
    """Do what autovacuum would have done within a minute: without it some queues choose plans for an empty table."""
    connection = await asyncpg.connect(url)
    await connection.execute("ANALYZE")
    await connection.execute("CHECKPOINT")
    await connection.close()


def table(rounds: list[dict[str, Figures]]) -> None:
    for work in rounds[0]["ours"]:
        print(f"\n{work:<28}{'a second':>10}{'client us':>11}{'server us':>11}{'ours / it':>11}")
        for queue in rounds[0]:
            medians = [
                statistics.median(figures[queue][work][each] for figures in rounds)
                for each in ("a second", "client", "server")
            ]
            ratio = statistics.median(
                figures["ours"][work]["a second"] / figures[queue][work]["a second"] for figures in rounds
            )
            print(f"  {queue:<26}{medians[0]:>10,.0f}{medians[1]:>11,.0f}{medians[2]:>11,.0f}{ratio:>11.2f}")


async def compare(url: str, count: int, rounds: int, server: int) -> None:
    table([{queue: await measured(queue, url, count, server) for queue in PACKAGES} for _ in range(rounds)])


def main(count: int = 3000, rounds: int = 3) -> None:
    print("; ".join(version_of(queue) for queue in PACKAGES), f"(Python {sys.version.split()[0]}, median of {rounds})")
    server, folder, url = start(fsync="on")
    try:
        asyncio.run(compare(url, count, rounds, server))
    finally:
        stop(server, folder)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
