"""`postroom worker`: a process of its own, with real signals."""

from __future__ import annotations

import asyncio
import signal
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from postroom.testing.http import Answer, Hang, HttpRecorder

if TYPE_CHECKING:
    from tests.conftest import CommandLine

SMS = ("send", "sms", "--to", "+15005550009", "--body", "Hey!", "--enqueue")


@pytest.fixture
def one_at_a_time(command: CommandLine, twilio: HttpRecorder) -> HttpRecorder:
    """Twilio, with one message under way at once."""
    command.configure_more("concurrency = 1")
    return twilio


@asynccontextmanager
async def working(command: CommandLine) -> AsyncIterator[Process]:
    """A worker that has said that it delivers."""
    async with command.running("worker") as process:
        await said(process, b"delivering what is in postroom.db")
        yield process


async def said(process: Process, words: bytes) -> None:
    """Wait for a line with `words` on standard error; on a busy machine it may warn of a slow import before."""
    assert process.stderr
    while line := await process.stderr.readline():
        if words in line:
            return
    raise AssertionError(f"it ended without saying {words!r}")


async def enqueue(command: CommandLine, count: int = 1) -> None:
    for _ in range(count):
        assert (await command.beside(*SMS)).code == 0


async def statuses(command: CommandLine) -> list[str]:
    lines = (await command.beside("outbox", "list", "--json")).json
    return sorted(line["status"] for line in lines)


async def test_until_empty_delivers_what_is_due_and_ends(command: CommandLine, one_at_a_time: HttpRecorder) -> None:
    await enqueue(command, 3)
    done = await asyncio.to_thread(command.process, "worker", "--until-empty")
    assert (done.code, done.out) == (0, "")
    first, *_, last = done.err.splitlines()
    assert (first, last) == ("delivering what is in postroom.db, until nothing is due", "ended; left: nothing")
    assert len(one_at_a_time.requests) == 3
    assert await statuses(command) == ["sent"] * 3


async def test_a_worker_of_another_process_is_awake_at_once(command: CommandLine, twilio: HttpRecorder) -> None:
    async with working(command) as process:
        await enqueue(command)
        await twilio.received(1)
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_lets_what_is_under_way_end_and_leaves_the_rest_for_others(
    command: CommandLine, one_at_a_time: HttpRecorder, number: signal.Signals
) -> None:
    one_at_a_time.answer(Answer(201, {"sid": "SM1", "status": "queued"}, delay=1.0))
    await enqueue(command, 3)
    async with working(command) as process:
        await one_at_a_time.received(1)
        process.send_signal(number)
        done = await command.ended(process)
    assert done.code == 0
    assert "stopping once what is under way has ended" in done.err
    assert "ended; left: 2 queued" in done.err
    assert await statuses(command) == ["queued", "queued", "sent"]
    assert len(one_at_a_time.requests) == 1


async def test_a_second_signal_ends_it_at_once(command: CommandLine, twilio: HttpRecorder) -> None:
    twilio.answer(Hang("request"))
    await enqueue(command)
    async with working(command) as process:
        await twilio.received(1)
        process.send_signal(signal.SIGTERM)
        await said(process, b"stopping")
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == -signal.SIGTERM
    assert await statuses(command) == ["sending"]


async def test_what_may_have_been_handed_over_by_a_killed_worker_is_in_doubt(
    command: CommandLine, twilio: HttpRecorder
) -> None:
    command.configure_more("[outbox]\nlease = 1")
    twilio.answer(Hang("request"))
    await enqueue(command)
    async with working(command) as process:
        await twilio.received(1)
        process.kill()
    twilio.answer(Answer(404, {"code": 20404, "message": "not found"}))
    async with working(command):
        await twilio.received(2)  # it asks Twilio once it has found the message
    assert await statuses(command) == ["in_doubt"]
    posted = [request for request in twilio.requests if request.method == "POST"]
    assert len(posted) == 1
