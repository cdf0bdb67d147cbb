"""A device with an outbox of its own, a line that breaks, and a gateway that really runs."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from postroom import Email, Postroom, Receipt, Sms
from postroom.errors import MessageRejected

if TYPE_CHECKING:
    from tests.conftest import Finished

Hub = tuple[str, Path, str]

CONFIGURATION = """
[defaults]
email = "out"
sms = "out"

[accounts.out]
provider = "file"
path = "sent"
from = "hub@example.org"

[gateway]
rate_limit = "1000/30s"
"""


@pytest.fixture
async def hub(cli: Callable[..., Finished], tmp_path: Path, clean_environment: dict[str, str]) -> AsyncIterator[Hub]:
    """A running gateway; gives its address, the folder it sends into, and a key for two senders."""
    (tmp_path / "postroom.toml").write_text(CONFIGURATION)
    key = cli("keys", "create", "device", "--sender", "device@example.org", "--sender", "Roof", "--json").json["key"]
    with (tmp_path / "serve.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "postroom", "serve", "--port", "0"],
            cwd=tmp_path,
            stderr=log,
            env=clean_environment,
        )
        try:
            yield await _address_in(tmp_path / "serve.log", server), tmp_path / "sent", key
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(100)


async def _address_in(log: Path, server: subprocess.Popen[bytes]) -> str:
    async with asyncio.timeout(90):
        while not (found := re.search(r"listening on (http://\S+)", log.read_text())):
            assert server.poll() is None, log.read_text()
            await asyncio.sleep(0.05)
    return found[1]


class Line:
    """A TCP line to the gateway that can lose answers, or be down."""

    def __init__(self, target: str) -> None:
        self.host, self.port = target.removeprefix("http://").split(":")
        self.answers_to_lose = 0
        self.posts = 0
        self.lost = asyncio.Event()

    @asynccontextmanager
    async def up(self, port: int = 0) -> AsyncIterator[int]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        async with server:
            yield server.sockets[0].getsockname()[1]
            server.close()

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(self.host, int(self.port))
        forth = asyncio.create_task(self._forth(reader, there_writer))
        try:
            while answer := await there_reader.read(65536):
                if self.answers_to_lose:
                    self.answers_to_lose -= 1
                    self.lost.set()
                    return
                writer.write(answer)
        finally:
            forth.cancel()
            for one in (writer, there_writer):
                one.close()
                with suppress(OSError):
                    await one.wait_closed()

    async def _forth(self, reader: StreamReader, there_writer: StreamWriter) -> None:
        with suppress(OSError):
            while asked := await reader.read(65536):
                self.posts += asked.startswith(b"POST ")
                there_writer.write(asked)


def device(port: int, key: str, tmp_path: Path, **outbox: Any) -> Postroom:
    account = {"provider": "postroom", "base_url": f"http://127.0.0.1:{port}", "key": key, "timeout": 10}
    return Postroom(
        accounts={"hub": {**account, "from": "device@example.org"}, "texts": {**account, "from": "Roof"}},
        defaults={"email": "hub", "sms": "texts"},
        outbox={"url": f"sqlite:///{tmp_path}/device.db", "retry_first": 0.05, **outbox},
    )


async def _settled(room: Postroom, receipt: Receipt) -> Receipt:
    async with asyncio.timeout(90):
        while (shown := await room.outbox.get(receipt.id)).receipt.status != "sent":
            await asyncio.sleep(0.02)
    return shown.receipt


async def _arrived(folder: Path, many: int) -> list[Path]:
    async with asyncio.timeout(90):
        while not folder.is_dir() or len([f for f in folder.iterdir() if not f.name.startswith(".")]) < many:
            await asyncio.sleep(0.02)
    return sorted(folder.iterdir())


async def test_a_required_message_waits_for_the_network_and_arrives_once_though_the_answer_is_lost(
    hub: Hub, tmp_path: Path
) -> None:
    target, folder, key = hub
    line = Line(target)
    async with line.up() as port:
        pass
    async with device(port, key, tmp_path) as room:
        offline = await room.send(Email(to="ann@example.org", subject="Reading", text="21 degrees", required=True))
        assert offline.status == "retrying"
        line.answers_to_lose = 1
        async with line.up(port):
            sent = await _settled(room, offline)
        assert line.lost.is_set()
        assert line.posts >= 2
    [letter] = await _arrived(folder, 1)
    assert sent.provider_message_id == letter.stem
    assert f"Message-ID: {sent.message_id}" in letter.read_text()
    assert "From: device@example.org" in letter.read_text()


async def test_both_channels_are_forwarded_with_what_they_carry(hub: Hub, tmp_path: Path) -> None:
    target, folder, key = hub
    async with device(int(target.rpartition(":")[2]), key, tmp_path) as room:
        email = await room.send(
            Email(
                to="Ann <ann@example.org>",
                cc="ben@example.org",
                reply_to="desk@example.org",
                subject="Grüße",
                text="hi",
            )
        )
        sms = await room.send(Sms(to=["+447700900123", "+447700900124"], body="hot"))
    files = await _arrived(folder, 3)
    letter = next(file for file in files if file.stem == email.provider_message_id).read_text()
    assert "To: Ann <ann@example.org>" in letter
    assert "Cc: ben@example.org" in letter
    assert "Reply-To: desk@example.org" in letter
    assert {f"{sms.provider_message_id}-447700900{n}.json" for n in (123, 124)} < {file.name for file in files}


async def test_a_sender_the_key_was_not_made_for_is_refused_with_the_reason(hub: Hub, tmp_path: Path) -> None:
    target, _, key = hub
    async with device(int(target.rpartition(":")[2]), key, tmp_path) as room:
        with pytest.raises(MessageRejected, match="may not send from that sender"):
            await room.send(Email(to="ann@example.org", from_="boss@example.org", text="hi"))
