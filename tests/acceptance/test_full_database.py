"""The disk of PostgreSQL's server is full: a clear error; what was accepted stays, and goes out once."""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests import postgres_server

from postroom import Attachment, Email, OutboxError, Postroom

BOX = {"provider": "memory", "from": "post@example.org"}
KEPT_FREE = 6 * 2**20
"""Bytes that are left to fill: some megabytes of attachments."""


@dataclass
class FullServer:
    """A server on a disk of its own, which a file beside its data fills."""

    disk: Path
    process: int = 0
    folder: str = ""
    url: str = ""

    def start(self) -> None:
        self.process, self.folder, self.url = postgres_server.start(within=self.disk)

    def fill(self) -> None:
        """Leave little room."""
        found = os.statvfs(self.disk)
        with (self.disk / "filler").open("wb") as filler:
            os.posix_fallocate(filler.fileno(), 0, found.f_bavail * found.f_frsize - KEPT_FREE)

    def make_room(self) -> None:
        """Remove what fills the disk; a server that it has ended (it may not do without its log) is started again."""
        (self.disk / "filler").unlink()
        with suppress(ChildProcessError):
            if os.waitpid(self.process, os.WNOHANG)[0]:
                port = int(self.url.rpartition(":")[2].partition("/")[0])
                self.process, *_ = postgres_server.serve(Path(self.folder), port=port)

    def stop(self) -> None:
        postgres_server.stop(self.process, self.folder)


@pytest.fixture
def server() -> Iterator[FullServer]:
    disk = Path(tempfile.mkdtemp(prefix="postroom-disk-"))  # pytest's own folders are for one user alone
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256m,mode=755", "tmpfs", disk], check=True)
    server = FullServer(disk)
    try:
        server.start()
        yield server
    finally:
        if server.process:
            server.stop()
        subprocess.run(["umount", disk], check=True)
        disk.rmdir()


@pytest.mark.system("mount")
async def test_a_full_disk_of_the_server_is_an_error_and_what_was_accepted_goes_out_once(server: FullServer) -> None:
    async with Postroom(accounts={"box": BOX}, outbox={"url": server.url}) as room:
        accepted = {(await room.enqueue(email(0))).id}
        server.fill()
        error = None
        for number in range(1, 100):
            try:
                accepted.add((await room.enqueue(email(number))).id)
            except OutboxError as full:
                error = full
                break
        assert "make room" in str(error)
        assert len(accepted) > 1
        server.make_room()
        accepted.add(await accepted_at_last(room))
        await room.work(until_empty=True)
        assert sorted(message.id or "" for message in room.memory) == sorted(accepted)


async def accepted_at_last(room: Postroom) -> str:
    """Enqueue one more, as soon as the server takes it."""
    async with asyncio.timeout(60):
        while True:
            with suppress(OutboxError):
                return (await room.enqueue(email(1000))).id
            await asyncio.sleep(0.1)


def email(number: int) -> Email:
    """One with an attachment of half a megabyte that cannot be packed any smaller."""
    file = Attachment(filename="a.bin", content=os.urandom(2**19))
    return Email(to="ann@example.org", subject=str(number), text="x", attachments=[file])
