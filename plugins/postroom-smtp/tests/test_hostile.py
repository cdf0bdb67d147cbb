"""Servers that trickle, flood, or talk nonsense are left, in bounded time and memory."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from postroom import Email
from postroom.errors import DeliveryError, Outcome
from postroom.plugin import Resources
from postroom_smtp.settings import SmtpSettings
from postroom_smtp.transport import SmtpEmail

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
async def listen() -> AsyncIterator[Callable[..., Awaitable[SmtpEmail]]]:
    servers: list[asyncio.Server] = []
    accounts: list[SmtpEmail] = []
    running: set[asyncio.Task[None]] = set()

    async def start(talk: Talk, **settings: Any) -> SmtpEmail:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task
            running.add(task)
            try:
                await talk(reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        servers.append(server)
        port = server.sockets[0].getsockname()[1]
        settings = {"timeout": 50, **settings}
        account = SmtpEmail("post", SmtpSettings(host="127.0.0.1", port=port, tls="none", **settings), Resources())
        await account.open()
        accounts.append(account)
        return account

    yield start
    for account in accounts:
        await account.close()
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    for server in servers:
        server.close()
        await server.wait_closed()


async def _up_to_mail(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 hello\r\n")
    await reader.readuntil(b"\r\n")
    writer.write(b"250-hello\r\n250 PIPELINING\r\n")
    await reader.readuntil(b"DATA\r\n")


async def _endless(writer: asyncio.StreamWriter, piece: bytes, pause: float = 0) -> None:
    while True:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(pause)


@pytest.mark.parametrize("stage", ["greeting", "mail"])
@pytest.mark.parametrize(
    ("piece", "pause"),
    [(b"x" * 65_536, 0), (b"250-and on\r\n" * 1000, 0), (b"2", 0.02), (b"250-\r\n", 0.02), (b"\xff\x00\r\n", 0)],
    ids=["endless line", "endless lines", "one byte at a time", "one line at a time", "binary"],
)
async def test_endless_talk_is_left_in_bounded_time_and_memory(
    listen: Callable[..., Awaitable[SmtpEmail]],
    make_email: Callable[..., Email],
    stage: str,
    piece: bytes,
    pause: int,
) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if stage == "mail":
            await _up_to_mail(reader, writer)
        await _endless(writer, piece, pause)

    account = await listen(talk, timeout=0.5, final_timeout=0.5)
    tracemalloc.start()
    try:
        async with asyncio.timeout(50):
            with pytest.raises(DeliveryError) as caught:
                await account.send(make_email())
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()
    assert caught.value.outcome is Outcome.TRANSIENT
    assert len(str(caught.value)) < 1000


async def test_nonsense_after_the_message_leaves_it_unknown(
    listen: Callable[..., Awaitable[SmtpEmail]], make_email: Callable[..., Email]
) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _up_to_mail(reader, writer)
        writer.write(b"250 ok\r\n250 ok\r\n354 go\r\n")
        await reader.readuntil(b"\r\n.\r\n")
        writer.write(b"<html>502 Bad Gateway</html>\r\n")
        await reader.read()

    account = await listen(talk)
    with pytest.raises(DeliveryError) as caught:
        await account.send(make_email())
    assert caught.value.outcome is Outcome.UNKNOWN


async def test_a_half_closed_connection_is_left(
    listen: Callable[..., Awaitable[SmtpEmail]], make_email: Callable[..., Email]
) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _up_to_mail(reader, writer)
        writer.write_eof()
        await reader.read()

    account = await listen(talk)
    with pytest.raises(DeliveryError) as caught:
        await account.send(make_email())
    assert caught.value.outcome is Outcome.TRANSIENT


async def test_a_refusal_in_the_middle_of_the_content_stands(
    listen: Callable[..., Awaitable[SmtpEmail]], make_email: Callable[..., Email]
) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _up_to_mail(reader, writer)
        writer.write(b"250 ok\r\n250 ok\r\n354 go\r\n")
        await reader.readexactly(1000)
        writer.write(b"552 5.3.4 Too big\r\n")
        await asyncio.sleep(60)

    account = await listen(talk, timeout=50)
    with pytest.raises(DeliveryError) as caught:
        await account.send(make_email(text=("y" * 70 + "\n") * 300_000))
    assert (caught.value.outcome, caught.value.provider_code) == (Outcome.PERMANENT, "5.3.4")


async def test_a_server_that_speaks_http_is_told_so(
    listen: Callable[..., Awaitable[SmtpEmail]], make_email: Callable[..., Email]
) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()

    account = await listen(talk)
    with pytest.raises(DeliveryError, match="does not speak SMTP") as caught:
        await account.send(make_email())
    assert caught.value.outcome is Outcome.TRANSIENT
