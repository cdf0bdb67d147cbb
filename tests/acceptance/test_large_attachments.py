"""What large attachments cost: a worker's memory depends on how many it has in hand, and not on how many wait.

`POSTROOM_LARGE=500` takes the number of messages from the environment.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from ordeal.configuration import SENDER, written

from postroom import Attachment, Email, Postroom

MANY = int(os.environ.get("POSTROOM_LARGE", "30"))
SIZE = 10_000_000
MOST = 300_000_000
DIFFERENT = 5
"""Contents: the file keeps each once, and a worker reads it for each message."""

ANSWERS = {b"EHLO": b"250-sink\r\n250 SIZE 100000000\r\n", b"DATA": b"354 go on\r\n", b"QUIT": b"221 bye\r\n"}


class Sink:
    """An SMTP server that keeps nothing, and counts."""

    def __init__(self) -> None:
        self.taken = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 sink\r\n")
        while line := await reader.readline():
            verb = line[:4].upper()
            writer.write(ANSWERS.get(verb, b"250 fine\r\n"))
            if verb == b"DATA":
                while await reader.readline() != b".\r\n":
                    pass
                self.taken += 1
                writer.write(b"250 taken\r\n")
        writer.close()


@asynccontextmanager
async def listening(sink: Sink) -> AsyncIterator[Sink]:
    server = await asyncio.start_server(sink.serve, "127.0.0.1", 0)
    sink.port = server.sockets[0].getsockname()[1]
    try:
        yield sink
    finally:
        server.close()


def most_memory_of(config: Path) -> int:
    """Run a worker until nothing is due; returns the most bytes it had in memory."""
    # Measuring coverage has a memory of its own.
    surroundings = {name: value for name, value in os.environ.items() if name != "COVERAGE_PROCESS_START"}
    command = [sys.executable, "-m", "postroom", "worker", "--until-empty", "--config", str(config)]
    most = 0
    with subprocess.Popen(command, env=surroundings, cwd=config.parent) as worker:
        while worker.poll() is None:
            most = max(most, most_so_far(worker.pid))
            time.sleep(0.02)
    assert worker.returncode == 0
    return most


def most_so_far(pid: int) -> int:
    """What the kernel says; nothing of a process that has just ended."""
    found = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) * 1024 if found else 0


@pytest.mark.system("proc")
async def test_a_worker_keeps_its_memory_however_many_large_messages_wait(tmp_path: Path) -> None:
    contents = [os.urandom(SIZE) for _ in range(DIFFERENT)]
    async with listening(Sink()) as sink:
        account = {"provider": "smtp", "host": "127.0.0.1", "port": sink.port, "tls": "none", "from": SENDER}
        config = written(tmp_path, {"post": account}, routes={"email": ["post"]})
        async with Postroom.from_config(config) as room:
            for number in range(MANY):
                file = Attachment(filename="a.bin", content=contents[number % DIFFERENT])
                await room.enqueue(Email(to=f"n{number}@example.org", text="x", attachments=[file]))
        assert await asyncio.to_thread(most_memory_of, config) < MOST
    assert sink.taken == MANY
