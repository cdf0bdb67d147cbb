"""No room, no right to write, a lock: a clear error or a wait; what was accepted stays, and goes out once."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from ordeal.configuration import sink, smtp, written
from ordeal.processes import Crew
from ordeal.servers import MailServer

from postroom import Email, Postroom
from postroom.errors import OutboxError
from postroom.outbox.views import MessageFilter
from postroom.receipts import Status


def resize(folder: Path, megabytes: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={megabytes}m", folder], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


def stored_ids(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return {id_ for (id_,) in connection.execute("SELECT id FROM messages")}


async def fill(room: Postroom) -> tuple[set[str], OutboxError]:
    """Enqueue until there is no more room; returns what was acknowledged, and the error."""
    acknowledged: set[str] = set()
    while True:
        try:
            receipt = await room.enqueue(Email(to="ann@example.org", subject="Hello", text="x" * 4000))
        except OutboxError as error:
            return acknowledged, error
        acknowledged.add(receipt.id)


@pytest.mark.system("mount")
async def test_a_full_disk_is_a_clear_error_and_keeps_what_was_accepted(small_disk: Path) -> None:
    config = written(small_disk, {"post": sink()})
    async with Postroom.from_config(config) as room:
        acknowledged, error = await fill(room)
        assert "disk is full" in str(error)
        assert "make room" in str(error)
        assert {line.id for line in await room.outbox.list(MessageFilter(limit=10**6))} == acknowledged
        resize(small_disk, 8)
        acknowledged.add((await room.enqueue(Email(to="ann@example.org", subject="More", text="x"))).id)
    assert stored_ids(small_disk / "outbox.db") == acknowledged


@pytest.mark.system("mount")
async def test_a_file_is_not_compacted_where_there_is_no_room_for_the_copy(small_disk: Path) -> None:
    config = written(small_disk, {"post": sink()})
    async with Postroom.from_config(config) as room:
        resize(small_disk, 12)
        acknowledged, _ = await fill(room)
        with pytest.raises(OutboxError, match="make room, or remove more"):
            await room.outbox.compact()
        resize(small_disk, 60)
        before, after = await room.outbox.compact()
        assert before >= after > 0
    assert stored_ids(small_disk / "outbox.db") == acknowledged


@pytest.mark.system("mount")
async def test_a_worker_on_a_full_disk_waits_and_sends_everything_once(small_disk: Path) -> None:
    resize(small_disk, 12)  # the write-ahead log alone grows to four megabytes
    async with MailServer(delay=0.02) as mail:
        config = written(small_disk, {"post": smtp(mail, on_unknown="hold", concurrency=5)}, lease="60s")
        async with Postroom.from_config(config) as room:
            emails = [Email(to="ann@example.org", subject=f"{n}", text="x") for n in range(300)]
            await room.enqueue_many(emails)
        async with Crew(config) as crew:
            worker = await crew.worker("until-settled")
            while len(mail.arrivals) < 30:
                await asyncio.sleep(0.005)
            ballast = small_disk / "ballast"
            with pytest.raises(OSError), ballast.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
            await asyncio.sleep(2)
            ballast.unlink()
            assert await worker.ended() == 0, crew.log("worker")
        assert len(mail.arrivals) == 300
        assert mail.repeated == {}
        async with Postroom.from_config(config) as room:
            assert (await room.outbox.stats()).states == {Status.SENT: 300}


async def test_a_file_that_may_not_grow_is_a_clear_error_until_it_may(tmp_path: Path) -> None:
    config = written(tmp_path, {"post": sink()})
    acknowledged = set()
    async with Crew(config) as crew:
        trier = await crew.start("trier", 400_000)
        while "id" in (answer := await trier.ask("one")):
            acknowledged.add(answer["id"])
        assert answer["error"] == OutboxError.code
        assert "nothing was accepted" in answer["text"]
        acknowledged.add((await trier.ask("room"))["id"])
        assert await trier.ask("") is None
    assert stored_ids(tmp_path / "outbox.db") == acknowledged


def as_owner_without_privileges() -> tuple[str, ...]:
    """Permissions bind root too, once it has lost the privilege to pass over them."""
    if os.geteuid():
        return ()
    return ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all")


@pytest.mark.system("setpriv")
@pytest.mark.parametrize("what", ["file", "folder", "new file in folder"])
async def test_without_the_right_to_write_the_error_says_so(tmp_path: Path, what: str) -> None:
    folder = tmp_path / "var"
    folder.mkdir()
    config = written(tmp_path, {"post": sink()}, url=f"sqlite:///{folder}/outbox.db")
    if not what.startswith("new"):
        async with Postroom.from_config(config) as room:
            first = (await room.enqueue(Email(to="ann@example.org", subject="Hello", text="x"))).id
    target = folder / "outbox.db" if what == "file" else folder
    target.chmod(0o400 if what == "file" else 0o500)
    async with Crew(config) as crew:
        trier = await crew.start("trier", before=as_owner_without_privileges())
        answer = await trier.ask("one")
    target.chmod(0o700)
    assert answer["error"] == OutboxError.code
    assert "the right to write" in answer["text"]
    if not what.startswith("new"):
        assert stored_ids(folder / "outbox.db") == {first}


async def test_a_short_lock_is_waited_for(tmp_path: Path) -> None:
    config = written(tmp_path, {"post": sink()})
    async with Postroom.from_config(config) as room:
        await room.enqueue(Email(to="ann@example.org", subject="Hello", text="x"))
        with closing(sqlite3.connect(tmp_path / "outbox.db", isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            waiting = asyncio.create_task(room.enqueue(Email(to="ann@example.org", subject="Hello", text="x")))
            assert not (await asyncio.wait([waiting], timeout=0.5))[0]
            other.execute("COMMIT")
        assert (await waiting).status is Status.QUEUED


async def test_a_worker_waits_for_a_lock_and_sends_everything_once(tmp_path: Path) -> None:
    async with MailServer() as mail:
        config = written(tmp_path, {"post": smtp(mail, on_unknown="hold")})
        async with Postroom.from_config(config) as room:
            emails = [Email(to="ann@example.org", subject=f"{n}", text="x") for n in range(500)]
            await room.enqueue_many(emails)
        async with Crew(config) as crew:
            worker = await crew.worker("until-settled")
            while len(mail.arrivals) < 50:
                await asyncio.sleep(0.001)
            with closing(sqlite3.connect(tmp_path / "outbox.db", isolation_level=None, timeout=60)) as other:
                other.execute("BEGIN EXCLUSIVE")
                await asyncio.sleep(2)
                other.execute("COMMIT")
            assert await worker.ended() == 0
        assert len(mail.arrivals) == 500
        assert mail.repeated == {}
