"""A server of several addresses: one that never answers costs a fraction of a second, and no message."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from postroom import Email
from postroom.errors import ProviderUnreachable
from postroom.plugin import Resources
from postroom.testing.smtp import SmtpRecorder
from postroom_smtp.dialing import Dialer
from postroom_smtp.settings import SmtpSettings
from postroom_smtp.transport import SmtpEmail

NAME = "mail.example.org"


class Names(asyncio.SelectorEventLoop):
    """An event loop whose names are the test's, and which keeps a list of the addresses that were dialed."""

    def __init__(self) -> None:
        super().__init__()
        self.known: list[tuple[str, int]] = []
        self.dialed: list[tuple[str, int]] = []

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> list[Any]:
        if host != NAME:
            return await super().getaddrinfo(host, port, **options)
        family = {True: socket.AF_INET6, False: socket.AF_INET}
        return [(family[":" in at[0]], socket.SOCK_STREAM, 6, "", at) for at in self.known]

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        self.dialed.append(address[:2])
        await super().sock_connect(sock, address)


def names() -> Names:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, Names)
    return loop


def run(scenario: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=Names) as runner:
        runner.run(scenario)


@asynccontextmanager
async def mute() -> AsyncIterator[tuple[str, int]]:
    """An address that never answers: its backlog is full, so the system drops what comes."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        waiting = []
        for _ in range(8):
            made = socket.socket()
            made.setblocking(False)
            made.connect_ex(listening.getsockname())
            waiting.append(made)
        try:
            yield listening.getsockname()
        finally:
            for made in waiting:
                made.close()


def closed_port() -> tuple[str, int]:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        address: tuple[str, int] = found.getsockname()
    return address


def account(**settings: Any) -> SmtpEmail:
    return SmtpEmail("post", SmtpSettings(host=NAME, port=25, tls="none", **settings), Resources())


def test_the_second_address_takes_the_mail_when_the_first_never_answers(make_email: Callable[..., Email]) -> None:
    async def scenario() -> None:
        async with mute() as first, SmtpRecorder() as server:
            second = ("127.0.0.1", server.port)
            names().known = [first, second]
            post = account(timeout=50)
            await post.open()
            await post.send(make_email())
            assert names().dialed == [first, second]
            server.hang_up()
            await post.send(make_email())
            assert names().dialed[2:] == [second], "the one that worked was not remembered"
            await post.close()
            assert len(server.messages) == 2

    run(scenario())


def test_the_next_address_is_tried_at_once_after_one_that_refuses() -> None:
    async def scenario() -> None:
        async with SmtpRecorder() as server:
            names().known = [closed_port(), closed_port(), ("127.0.0.1", server.port)]
            found = await Dialer(NAME, 25, delay=1000.0).connect()
            found.close()

    run(scenario())


def test_the_one_that_worked_is_left_when_it_works_no_more() -> None:
    async def scenario() -> None:
        dialer = Dialer(NAME, 25)
        async with SmtpRecorder() as first, SmtpRecorder() as second:
            one, two = ("127.0.0.1", first.port), ("127.0.0.1", second.port)
            names().known = [one, two]
            (await dialer.connect()).close()
            names().known = [two]
            (await dialer.connect()).close()
            assert names().dialed == [one, two]

    run(scenario())


def test_families_take_turns() -> None:
    async def scenario() -> None:
        six = [("::1", closed_port()[1]) for _ in range(2)]
        four = [closed_port() for _ in range(2)]
        names().known = [*six, *four]
        with pytest.raises(OSError, match="111"):
            await Dialer(NAME, 25).connect()
        assert names().dialed == [six[0], four[0], six[1], four[1]]

    run(scenario())


def test_when_no_address_answers_nothing_was_sent_and_no_socket_stays_open(make_email: Callable[..., Email]) -> None:
    async def scenario() -> None:
        async with mute() as first, mute() as second:
            names().known = [first, second]
            post = account(timeout=0.5)
            await post.open()
            with pytest.raises(ProviderUnreachable, match="nothing was sent"):
                await post.send(make_email())
            await post.close()
            assert names().dialed == [first, second]

    run(scenario())


@pytest.mark.parametrize("host", ["::1", "[::1]"])
async def test_an_address_of_ipv6_may_stand_in_brackets(host: str, make_email: Callable[..., Email]) -> None:
    async with SmtpRecorder() as server:
        relay = await asyncio.start_server(_relay_to(server.port), "::1", 0)
        settings = SmtpSettings(host=host, port=relay.sockets[0].getsockname()[1], tls="none")
        post = SmtpEmail("post", settings, Resources())
        await post.open()
        await post.send(make_email())
        report = await post.check()
        await post.close()
        relay.close()
        assert report.summary.startswith(f"[::1]:{settings.port} ")
        assert len(server.messages) == 1


def _relay_to(port: int) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]:
    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))

    return serve
