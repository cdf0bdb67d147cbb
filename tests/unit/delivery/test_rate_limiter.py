"""The rate of an account: kept in every second, whatever comes in and however it is gathered."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.delivery.fake_clock import START, on_fake_clock
from tests.unit.delivery.sending import room_of, settled, sms

from postroom import (
    Sms,
)
from postroom.delivery.rate_limiter import RateLimiter
from postroom.receipts import Accepted


@pytest.mark.parametrize(("rate", "per_second"), [("10/s", 10), ("50/s", 50), ("300/m", 5), ("20/30s", 2 / 3)])
@pytest.mark.parametrize("provider", ["stage", "stage-batch"])
def test_a_rate_is_kept_in_every_second(stage: ModuleType, rate: str, per_second: float, provider: str) -> None:
    moments = []

    async def act(message: Sms) -> Accepted:
        moments.append(asyncio.get_running_loop().time())
        return Accepted()

    async def many(batch: Sequence[Sms]) -> list[Accepted]:
        return [await act(message) for message in batch]

    async def work() -> None:
        async with room_of(stage, stage.Script(act, many=many), provider, rate=rate) as room:
            await room.send_many([sms() for _ in range(200)])
            await asyncio.sleep(10)
            await room.send_many([sms() for _ in range(200)])

    on_fake_clock(work())
    assert len(moments) == 400
    for index, moment in enumerate(moments):
        within = sum(1 for other in moments[index:] if other < moment + 1)
        assert within <= per_second * 1.05 + 1
    assert moments[199] - moments[0] <= 200 / per_second + 1.1


@given(
    rate=st.floats(0.5, 200),
    bursts=st.lists(st.tuples(st.floats(0, 2), st.integers(1, 200)), min_size=1, max_size=60),
)
@settings(deadline=None, max_examples=60)
def test_no_pattern_of_messages_outruns_the_rate(rate: float, bursts: list[tuple[float, int]]) -> None:
    starts = []

    async def work() -> None:
        limiter = RateLimiter(rate)

        async def one(count: int) -> None:
            await limiter.acquire(count)
            starts.append((asyncio.get_running_loop().time(), count))

        async with asyncio.TaskGroup() as group:
            for pause, count in bursts:
                group.create_task(one(min(count, max(1, int(rate)))))
                await asyncio.sleep(pause)

    on_fake_clock(work())
    for index, (start, _) in enumerate(starts):
        within = sum(count for other, count in starts[index:] if other < start + 1 - 1e-6)
        assert within <= rate * 1.05 + 1


def test_an_account_without_a_rate_waits_for_nothing(stage: ModuleType) -> None:
    async def work() -> float:
        async with room_of(stage, stage.Script()) as room:
            await room.send_many([sms() for _ in range(500)])
        return asyncio.get_running_loop().time()

    assert on_fake_clock(work()) == START


def test_a_message_cancelled_in_the_queue_takes_nothing_of_the_rate(stage: ModuleType) -> None:
    async def work() -> tuple[list[str], float]:
        script = stage.Script()
        async with room_of(stage, script, "stage-batch", rate="2/s", concurrency=1) as room:
            tasks = [asyncio.ensure_future(room.send(sms(str(n)))) for n in range(20)]
            await settled()
            for task in tasks[4:18]:
                task.cancel()
            await asyncio.wait(tasks)
        return [message.body for message in script.messages], asyncio.get_running_loop().time() - START

    bodies, took = on_fake_clock(work())
    assert bodies == ["0", "1", "2", "3", "18", "19"]
    assert took <= 3


@pytest.mark.parametrize(
    ("rate", "together"), [(100, 5), (40, 2), (20, 1), (2.5, 1), (2, 1), (1.5, 1), (1, 1), (0.5, 1)]
)
def test_a_pause_lets_a_twentieth_of_a_seconds_worth_start_at_once_and_the_rest_evenly(
    rate: float, together: int
) -> None:
    async def work() -> list[float]:
        limiter, loop = RateLimiter(rate), asyncio.get_running_loop()
        moments = []
        for _ in range(2):
            began = loop.time()
            for _ in range(together + more):
                await limiter.acquire()
                moments.append(loop.time() - began)
            await asyncio.sleep(100)
        return moments

    more = 3 + int(2 * rate)  # for more than a second
    once = [0.0] * together + [number / rate for number in range(1, more + 1)]
    assert on_fake_clock(work()) == pytest.approx(once + once, abs=1e-6)


def test_a_batch_waits_until_its_second_has_room_for_all_of_it() -> None:
    async def work() -> list[float]:
        limiter, moments = RateLimiter(10), []
        for count in (6, 6, 4):
            await limiter.acquire(count)
            moments.append(asyncio.get_running_loop().time() - START)
        return moments

    assert on_fake_clock(work()) == pytest.approx([0, 1, 1.6], abs=1e-6)


def test_a_batch_that_no_second_has_room_for_goes_and_is_made_up_for() -> None:
    async def work() -> list[float]:
        limiter, moments = RateLimiter(10), []
        for count in (50, 1, 1):
            await limiter.acquire(count)
            moments.append(asyncio.get_running_loop().time() - START)
        return moments

    assert on_fake_clock(work()) == pytest.approx([0, 5, 5.1], abs=1e-6)


@pytest.mark.parametrize(
    ("rate", "sizes"),
    [(None, [1000, 500]), ("5000/s", [1000, 500]), ("700/s", [700, 700, 100]), ("1/s", [1] * 3), ("1/m", [1] * 3)],
)
def test_a_batch_is_what_the_provider_takes_and_at_most_one_seconds_worth(
    stage: ModuleType, rate: str | None, sizes: list[int]
) -> None:
    script = stage.Script()

    async def work() -> None:
        async with room_of(stage, script, "stage-batch", rate=rate) as room:
            await room.send_many([sms() for _ in range(sum(sizes))], at_once=2000)

    on_fake_clock(work())
    assert [len(call) for call in script.calls] == sizes
