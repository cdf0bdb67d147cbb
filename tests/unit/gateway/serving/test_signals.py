"""Signals to end: none that comes before somebody can act on it is lost."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.connection import wait

import pytest
import uvicorn

from postroom.gateway.serving.server import Server
from postroom.gateway.serving.signals import ShutdownSignals
from postroom.gateway.serving.supervisor import Supervisor

pytestmark = pytest.mark.slow


@pytest.fixture
def signals() -> Iterator[ShutdownSignals]:
    """The signals of this process, given back afterwards."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield ShutdownSignals()
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_came_before_is_passed_to_whoever_takes_over(signals: ShutdownSignals, number: signal.Signals) -> None:
    taken: list[int] = []
    signal.raise_signal(number)
    with signals.passed_to(lambda number, _: taken.append(number)):
        assert taken == [number]
        signal.raise_signal(signal.SIGTERM)
        assert taken == [number, signal.SIGTERM]
    signal.raise_signal(signal.SIGTERM)
    assert taken == [number, signal.SIGTERM]
    assert signals.received == [number, signal.SIGTERM, signal.SIGTERM]


def test_the_first_can_be_waited_for(signals: ShutdownSignals) -> None:
    assert wait([signals.fileno()], timeout=0) == []
    signals.stop()
    assert wait([signals.fileno()], timeout=0) == [signals.fileno()]


class Started(Server):
    """A server that is asked to end at some step of its start."""

    asked_in = ""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self.asked_in == "before it listens":
            signal.raise_signal(signal.SIGTERM)
        await super().startup(sockets)
        if self.asked_in == "once it listens":
            signal.raise_signal(signal.SIGTERM)

    async def on_tick(self, counter: int) -> bool:
        if self.asked_in == "while it serves" and counter == 1:
            signal.raise_signal(signal.SIGTERM)
        return await super().on_tick(counter)


@pytest.mark.parametrize("step", ["before it starts", "before it listens", "once it listens", "while it serves"])
async def test_a_server_ends_at_whichever_step_it_is_asked_to(signals: ShutdownSignals, step: str) -> None:
    async def app(scope: object, receive: object, send: object) -> None:
        raise AssertionError("nobody asks")

    if step == "before it starts":
        signal.raise_signal(signal.SIGTERM)
    config = uvicorn.Config(app, log_config=None, lifespan="off")
    server = Started(config, signals)
    server.asked_in = step
    with socket.create_server(("127.0.0.1", 0)) as listening:
        async with asyncio.timeout(60):
            await server.serve(sockets=[listening])
    assert signals.received == [signal.SIGTERM]


def test_a_supervisor_that_is_asked_to_end_before_it_runs_starts_nothing(signals: ShutdownSignals) -> None:
    signal.raise_signal(signal.SIGTERM)
    Supervisor(partial(pytest.fail, "it was started"), 2, signals).run()


def test_a_process_that_dies_at_its_start_is_not_started_anew_at_once(
    signals: ShutdownSignals, monkeypatch: pytest.MonkeyPatch
) -> None:
    from postroom.gateway.serving import supervisor as module

    monkeypatch.setattr(module, "_SHORT_LIFE", 2.0)
    supervisor = Supervisor(_ends_at_once, 1, signals)
    starts: list[tuple[float, float]] = []
    start_missing: Callable[[], float | None] = supervisor._start_missing

    def counting() -> float | None:
        before, asked = len(supervisor._running), time.monotonic()
        pause = start_missing()
        if len(supervisor._running) > before:
            starts.append((asked, time.monotonic()))
        if len(starts) == 2:
            signals.stop()
        return pause

    monkeypatch.setattr(supervisor, "_start_missing", counting)
    supervisor.run()
    (first, _), (_, second) = starts
    assert second - first >= 2.0


def _ends_at_once() -> None:
    raise SystemExit(3)
