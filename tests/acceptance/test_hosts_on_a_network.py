"""Workers on hosts of their own (network namespaces), and a database on another: what a cut line does, and its end."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from ordeal.configuration import written
from ordeal.processes import Crew, Process
from tests import postgres_server

from postroom import Email, Postroom
from postroom.receipts import Status

LEASE = 2.0
MESSAGES = 150
RATE = 30


class Host:
    """A host of its own, joined to this machine by one line; `database` is this machine's address on it."""

    def __init__(self, number: int) -> None:
        self.name = f"postroom-{os.getpid()}-{number}"
        self._line = f"pr{os.getpid() % 100_000}x{number}"
        self.database = f"10.213.{os.getpid() % 256}.{4 * number + 1}"
        own = f"{self.database.rpartition('.')[0]}.{4 * number + 2}"
        ip("netns", "add", self.name)
        ip("link", "add", self._line, "type", "veth", "peer", "name", "up0", "netns", self.name)
        ip("address", "add", f"{self.database}/30", "dev", self._line)
        ip("link", "set", self._line, "up")
        ip("-n", self.name, "address", "add", f"{own}/30", "dev", "up0")
        ip("-n", self.name, "link", "set", "up0", "up")

    @property
    def runs(self) -> tuple[str, ...]:
        """What runs a command on it."""
        return ("ip", "netns", "exec", self.name)

    def cut(self) -> None:
        """Pull the line."""
        ip("link", "set", self._line, "down")

    def join(self) -> None:
        """Put it back."""
        ip("link", "set", self._line, "up")

    def remove(self) -> None:
        ip("netns", "del", self.name)


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


@pytest.fixture
def hosts() -> Iterator[list[Host]]:
    made: list[Host] = []
    try:
        made.extend(Host(number) for number in range(2))
        yield made
    finally:
        for host in made:
            host.remove()


@pytest.mark.system("hosts")
@pytest.mark.timeout(200)
async def test_a_host_that_is_cut_off_sends_nothing_others_send_and_goes_on_when_it_is_back(
    tmp_path: Path, hosts: list[Host]
) -> None:
    server, place, url = postgres_server.start(addresses=[host.database for host in hosts])
    account = {"provider": "file", "from": "post@example.org", "path": str(tmp_path / "sent"), "rate": f"{RATE}/s"}
    config = written(tmp_path, {"box": account}, url="postgresql:///postgres", lease=f"{LEASE:g}s")
    port = url.rpartition(":")[2].partition("/")[0]
    try:
        async with (
            Postroom(accounts={"box": account}, outbox={"url": url, "lease": LEASE}) as room,
            Crew(config) as crew,
        ):
            cut_off, other = [await worker(crew, host, port, tmp_path) for host in hosts]
            receipts = await room.enqueue_many(
                [Email(to="ann@example.org", subject=str(number), text="x") for number in range(MESSAGES)]
            )
            await until(lambda: len(sent(tmp_path, hosts[0])) > 5)
            hosts[0].cut()
            await asyncio.sleep(LEASE)
            before = sent(tmp_path, hosts[0])
            await until_all_but_in_doubt(room)
            assert sent(tmp_path, hosts[0]) == before, "its lease was over"
            hosts[0].join()
            again = await room.enqueue(Email(to="ann@example.org", subject="more", text="x"))
            other.signal(15)
            await other.ended()
            await until(lambda: again.id in sent(tmp_path, hosts[0]))
            assert await cut_off.stop() == 0
            states = (await room.outbox.stats()).states
    finally:
        postgres_server.stop(server, place)
    copies = Counter(id_ for host in hosts for id_ in sent(tmp_path, host))
    assert set(copies.values()) == {1}
    assert len(receipts) + 1 == states[Status.SENT] + states.get(Status.IN_DOUBT, 0)
    assert len(copies) >= states[Status.SENT]


async def worker(crew: Crew, host: Host, port: str, folder: Path) -> Process:
    """`postroom worker` on a host, which writes what it sends into a folder of its own."""
    surroundings = {
        "PGHOST": host.database,
        "PGPORT": port,
        "PGUSER": "postroom",
        "POSTROOM_ACCOUNTS__BOX__PATH": str(folder / host.name),
    }
    return await crew.command("worker", begins="delivering what is in", before=host.runs, **surroundings)


def sent(folder: Path, host: Host) -> set[str]:
    return {file.stem for file in (folder / host.name).glob("*.eml")}


async def until(is_so: object) -> None:
    assert callable(is_so)
    async with asyncio.timeout(60):
        while not is_so():
            await asyncio.sleep(0.05)


async def until_all_but_in_doubt(room: Postroom) -> None:
    """Wait until nothing is left to send."""
    async with asyncio.timeout(120):
        while set((await room.outbox.stats()).states) - {Status.SENT, Status.IN_DOUBT}:
            await asyncio.sleep(0.1)
