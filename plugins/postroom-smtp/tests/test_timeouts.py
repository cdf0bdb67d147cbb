"""The time of a message runs only while nothing moves, and its last reply has ten minutes.

Time passes here when a test says so: the loop's clock stands still otherwise.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from postroom import Email
from postroom.errors import Outcome, OutcomeUnknown, ProviderUnreachable
from postroom.plugin import Resources
from postroom.testing.smtp import SmtpRecorder, Stage
from postroom_smtp.settings import SmtpSettings
from postroom_smtp.transport import SmtpEmail

LARGE = ("y" * 70 + "\n") * 300_000


class Steps(asyncio.SelectorEventLoop):
    """An event loop whose clock stands still until `step`."""

    _now = 0.0

    def time(self) -> float:
        return self._now

    async def step(self, seconds: float) -> None:
        """Let `seconds` pass, and what is due then happen."""
        self._now += seconds
        for _ in range(20):
            await asyncio.sleep(0)


def clock() -> Steps:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, Steps)
    return loop


def run(scenario: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=Steps) as runner:
        runner.run(scenario)


@asynccontextmanager
async def opened(port: int, **settings: Any) -> AsyncIterator[SmtpEmail]:
    account = SmtpEmail("post", SmtpSettings(host="127.0.0.1", port=port, tls="none", **settings), Resources())
    await account.open()
    try:
        yield account
    finally:
        await account.close()


def test_the_last_reply_has_ten_minutes_whatever_the_timeout(make_email: Callable[..., Email]) -> None:
    async def scenario() -> None:
        async with SmtpRecorder() as server, opened(server.port, timeout=30) as account:
            server.delay("dot", 599)
            sending = asyncio.create_task(account.send(make_email()))
            await server.until("dot")
            for _ in range(598):
                await clock().step(1)
            assert not sending.done()
            await clock().step(1)
            assert (await sending).provider_message_id
            assert len(server.messages) == 1

    run(scenario())


@pytest.mark.parametrize(("settings", "seconds"), [({}, 600), ({"final_timeout": 45}, 45)])
def test_after_it_the_outcome_is_unknown(
    make_email: Callable[..., Email], settings: dict[str, float], seconds: int
) -> None:
    async def scenario() -> None:
        async with SmtpRecorder() as server, opened(server.port, timeout=30, **settings) as account:
            server.delay("dot", 100_000)
            sending = asyncio.create_task(account.send(make_email()))
            await server.until("dot")
            while not sending.done():
                await clock().step(1)
            with pytest.raises(OutcomeUnknown, match=f"no answer within {seconds} s"):
                await sending
            assert clock().time() >= seconds

    run(scenario())


def test_any_other_reply_has_the_timeout_and_its_want_is_transient(make_email: Callable[..., Email]) -> None:
    async def scenario() -> None:
        async with SmtpRecorder(extensions=()) as server, opened(server.port, timeout=30) as account:
            server.delay("rcpt", 100_000)
            sending = asyncio.create_task(account.send(make_email()))
            await server.until("rcpt")
            await clock().step(29)
            assert not sending.done()
            await clock().step(10)
            with pytest.raises(ProviderUnreachable, match="no answer within 30 s") as caught:
                await sending
            assert caught.value.outcome is Outcome.TRANSIENT

    run(scenario())


@pytest.mark.parametrize("stage", ["connect", "mail", "data"])
@pytest.mark.parametrize("pool", [1, 5])
def test_at_a_server_that_stalls_all_who_wait_fail_together(
    make_email: Callable[..., Email], stage: Stage, pool: int
) -> None:
    async def scenario() -> None:
        async with SmtpRecorder() as server, opened(server.port, timeout=30, pool=pool) as account:
            server.delay(stage, 100_000)
            sending = [asyncio.create_task(account.send(make_email())) for _ in range(20)]
            await server.until(stage)
            await clock().step(1)
            late = asyncio.create_task(account.send(make_email()))
            while not all(each.done() for each in sending):
                await clock().step(1)
            assert clock().time() < 2 * 30
            answers = await asyncio.gather(*sending, return_exceptions=True)
            assert all(isinstance(answer, ProviderUnreachable) for answer in answers)
            while not late.done():
                await clock().step(1)

    run(scenario())


def test_message_after_message_hears_at_once_that_the_server_is_down(make_email: Callable[..., Email]) -> None:
    """Nothing here lets time pass: a pause would last for ever."""

    async def scenario() -> None:
        async with SmtpRecorder() as server, opened(server.port, timeout=30) as account:
            server.drop("connect")
            for _ in range(10):
                with pytest.raises(ProviderUnreachable):
                    await account.send(make_email())
            assert server.connections == 10

    run(scenario())


def test_whoever_waits_while_others_are_served_is_not_given_up(make_email: Callable[..., Email]) -> None:
    async def scenario() -> None:
        async with SmtpRecorder() as server, opened(server.port, timeout=30, pool=2) as account:
            server.delay("mail", 100_000, times=1)
            server.delay("dot", 20)
            sending = [asyncio.create_task(account.send(make_email())) for _ in range(20)]
            while not all(each.done() for each in sending):
                await clock().step(1)
            answers = await asyncio.gather(*sending, return_exceptions=True)
            assert len([answer for answer in answers if isinstance(answer, ProviderUnreachable)]) <= 1
            assert len(server.messages) >= 19

    run(scenario())


def test_whoever_waits_behind_a_slow_last_reply_is_sent_after_it(make_email: Callable[..., Email]) -> None:
    async def scenario() -> None:
        async with SmtpRecorder() as server, opened(server.port, timeout=30, pool=1) as account:
            server.delay("dot", 500, times=1)
            sending = [asyncio.create_task(account.send(make_email())) for _ in range(3)]
            await server.until("dot")
            for _ in range(50):
                await clock().step(10)
            assert all([(await each).provider_message_id for each in sending])
            assert (len(server.messages), server.connections) == (3, 1)

    run(scenario())


def test_a_reply_that_comes_in_pieces_is_waited_for(make_email: Callable[..., Email]) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _greeted(reader, writer)
        for piece in (b"2", b"50", b" ok", b"\r\n"):
            await asyncio.sleep(25)
            writer.write(piece)
        await reader.readuntil(b"RCPT")
        writer.write(b"250 ok\r\n354 go\r\n")
        await reader.readuntil(b"\r\n.\r\n")
        writer.write(b"250 ok\r\n")
        await reader.readuntil(b"QUIT")

    async def scenario() -> None:
        async with _listening(talk) as port, opened(port, timeout=30) as account:
            sending = asyncio.create_task(account.send(make_email()))
            while not sending.done():
                await clock().step(0.5)
            assert (await sending).provider_message_id

    run(scenario())


@pytest.mark.parametrize("piece", [b"2", b"250-\r\n"], ids=["an endless line", "endless lines"])
def test_a_reply_that_never_ends_is_left_after_the_final_timeout(
    make_email: Callable[..., Email], piece: bytes
) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _greeted(reader, writer)
        while True:
            writer.write(piece)
            await asyncio.sleep(10)

    async def scenario() -> None:
        async with _listening(talk) as port, opened(port, timeout=30, final_timeout=120) as account:
            sending = asyncio.create_task(account.send(make_email()))
            begun = clock().time()
            while not sending.done():
                await clock().step(0.5)
            with pytest.raises(ProviderUnreachable):
                await sending
            assert 120 <= clock().time() - begun <= 150

    run(scenario())


def test_a_slow_link_that_always_makes_progress_is_not_given_up(make_email: Callable[..., Email]) -> None:
    """21 MB, of which the server takes a little each 10 seconds: ten times the timeout in all, and more."""
    rounds = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal rounds
        await _greeted(reader, writer)
        writer.write(b"250 ok\r\n250 ok\r\n354 go\r\n")
        content = bytearray()
        while not content.endswith(b"\r\n.\r\n"):
            await asyncio.sleep(10)
            content += await reader.read(200_000)
            rounds += 1
        writer.write(b"250 ok\r\n")
        await reader.readuntil(b"QUIT")

    async def scenario() -> None:
        async with _listening(talk) as port, opened(port, timeout=30) as account:
            sending = asyncio.create_task(account.send(make_email(text=LARGE)))
            while not sending.done():
                await clock().step(0.5)
            assert (await sending).provider_message_id
            assert rounds * 10 > 10 * 30

    run(scenario())


def test_a_link_on_which_nothing_moves_is_given_up_before_the_dot(make_email: Callable[..., Email]) -> None:
    async def scenario() -> None:
        async with SmtpRecorder() as server, opened(server.port, timeout=30) as account:
            server.delay("half-body", 100_000)
            sending = asyncio.create_task(account.send(make_email(text=LARGE)))
            await server.until("data")
            while not sending.done():
                await clock().step(0.5)
            with pytest.raises(ProviderUnreachable, match="took no more of the message within 30 s"):
                await sending
            assert server.messages == []

    run(scenario())


def test_closing_waits_for_no_reply_that_nobody_waits_for(make_email: Callable[..., Email]) -> None:
    """A worker whose grace is over has cancelled its messages: it ends, and does not sit out ten minutes."""

    async def scenario() -> None:
        async with SmtpRecorder() as server:
            server.delay("dot", 100_000)
            async with opened(server.port) as account:
                sending = asyncio.create_task(account.send(make_email()))
                await server.until("dot")
                sending.cancel()
                with pytest.raises(asyncio.CancelledError) as cancelled:
                    await sending
                assert "outcome is unknown" in cancelled.value.__notes__[0]
            assert clock().time() == 0

    run(scenario())


async def _greeted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 hello\r\n")
    await reader.readuntil(b"\r\n")
    writer.write(b"250-hello\r\n250 PIPELINING\r\n")
    await reader.readuntil(b"MAIL")


@asynccontextmanager
async def _listening(
    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    """A server that reads no further ahead than a few kilobytes, so that what it has not read still waits."""
    tasks: list[asyncio.Task[None]] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.create_task(_talk(reader, writer)))
        await asyncio.wait(tasks)
        writer.close()

    async def _talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await talk(reader, writer)

    server = await asyncio.start_server(handle, "127.0.0.1", 0, limit=300_000)
    listener = server.sockets[0]
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    try:
        yield listener.getsockname()[1]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        server.close()
        await server.wait_closed()
