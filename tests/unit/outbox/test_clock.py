"""A clock that is set back, or was ahead: nothing goes out early or twice, and nothing waits for times it planned."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any, Never

import pytest
from engines.process import MakeOutbox
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from postroom import Email, ProviderUnavailable, Status
from postroom.receipts import Accepted

HOUR = 3600.0
NUMBERS = itertools.count()


def email(**more: Any) -> Email:
    return Email(**{"to": "ann@example.org", "subject": "hello", "text": "hello", **more})


class Once:
    """Fails the first time, for a reason that passes."""

    def __init__(self) -> None:
        self.calls = 0

    async def __call__(self, message: Email) -> Accepted:
        self.calls += 1
        if self.calls == 1:
            raise ProviderUnavailable("a0: come back later")
        return Accepted(provider_message_id="1")


async def test_a_scheduled_message_waits_for_its_time_by_the_clock_as_it_is(
    make_outbox: MakeOutbox, stage: ModuleType
) -> None:
    script = stage.Script()
    async with make_outbox(script) as post:
        due = datetime.fromtimestamp(post.clock.now, UTC) + timedelta(seconds=60)
        receipt = await post.add(email(send_at=due))
        await post.work(after=-HOUR)
        await post.work(after=HOUR)
        assert script.calls == []
        await post.work(after=61)
        await post.work(after=-HOUR)
        await post.work(after=2 * HOUR)
        assert len(script.calls) == 1
        assert (await post.receipt(receipt)).status is Status.SENT


async def test_what_was_queued_before_goes_out_at_once(make_outbox: MakeOutbox, stage: ModuleType) -> None:
    script = stage.Script()
    async with make_outbox(script) as post:
        await post.add(email())
        await post.work(after=-HOUR)
        assert len(script.calls) == 1


async def test_a_message_to_be_tried_again_is_tried_once_and_not_before_its_time(
    make_outbox: MakeOutbox, stage: ModuleType
) -> None:
    act = Once()
    script = stage.Script(act)
    async with make_outbox(script) as post:
        receipt = await post.add(email())
        await post.work()
        await post.work(after=-HOUR)
        assert act.calls == 1
        await post.work(after=HOUR + 11)
        assert act.calls == 2
        await post.work(after=HOUR)
        assert act.calls == 2
        assert (await post.receipt(receipt)).status is Status.SENT


@pytest.mark.parametrize("step", [-HOUR, HOUR])
async def test_an_account_with_a_rate_goes_on(make_outbox: MakeOutbox, stage: ModuleType, step: float) -> None:
    script = stage.Script()
    async with make_outbox(script, rate="1/s") as post:
        await post.add(email())
        await post.work()
        await post.add(email())
        await post.work(after=step)
        await post.work(after=2)
        assert len(script.calls) == 2


class Failing:
    """Never works, for a reason that passes."""

    def __init__(self) -> None:
        self.calls = 0

    async def __call__(self, message: Email) -> Never:
        self.calls += 1
        raise ProviderUnavailable("a0: come back later")


@pytest.mark.parametrize("ahead", [HOUR, 24 * HOUR, 1000 * 24 * HOUR], ids=["hour", "day", "years"])
async def test_what_was_planned_while_the_clock_was_ahead_is_tried_again_within_its_back_off(
    make_outbox: MakeOutbox, stage: ModuleType, ahead: float
) -> None:
    act = Once()
    async with make_outbox(stage.Script(act), outbox={"expires_after": 3000 * 24 * HOUR}) as post:
        receipt = await post.add(email())
        await post.work(after=ahead)
        assert act.calls == 1
        await post.work(after=-ahead)
        await post.work(after=11)
        assert act.calls == 2
        assert (await post.receipt(receipt)).status is Status.SENT


async def test_a_clock_set_back_makes_no_wait_shorter_and_is_heard_of_once(
    make_outbox: MakeOutbox, stage: ModuleType
) -> None:
    act = Failing()
    async with make_outbox(stage.Script(act), outbox={"retry_first": 1000, "retry_most": 1000}) as post:
        receipt = await post.add(email())
        await post.work()
        due = (await post.outbox.get(receipt.id)).due_at
        assert due
        wait = due.timestamp() - post.clock.now
        post.clock.now -= HOUR
        assert await post.store.replan(2000, 10) == 1
        assert await post.store.replan(2000, 10) == 0
        brought = (await post.outbox.get(receipt.id)).due_at
        assert brought
        assert brought.timestamp() - post.clock.now == pytest.approx(wait)


async def test_the_time_a_caller_has_asked_for_is_moved_by_no_clock(make_outbox: MakeOutbox) -> None:
    async with make_outbox() as post:
        due = datetime.fromtimestamp(post.clock.now, UTC) + timedelta(hours=2)
        receipt = await post.add(email(send_at=due))
        for step in (HOUR, -24 * HOUR, 23 * HOUR):
            await post.work(after=step)
            details = await post.outbox.get(receipt.id)
            assert (details.due_at, details.receipt.status) == (due, Status.SCHEDULED)


@given(st.lists(st.sampled_from([-24 * HOUR, -HOUR, -5.0, 1.0, 7.0, HOUR, 24 * HOUR]), max_size=8))
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
async def test_however_the_clock_jumps_nothing_waits_longer_than_its_back_off(
    make_outbox: MakeOutbox, stage: ModuleType, steps: list[float]
) -> None:
    act = Failing()
    longest = 100.0
    limits = {"retry_first": longest, "retry_most": longest, "expires_after": 3000 * 24 * HOUR}
    async with make_outbox(stage.Script(act), outbox=limits) as post:
        await post.outbox.resume("a0")  # from the troubles of the example before, in the same outbox
        receipt = await post.add(email(id=f"m{next(NUMBERS)}"))
        await post.work()
        for step in steps:
            await post.work(after=step)
            details = await post.outbox.get(receipt.id)
            assert details.receipt.status is Status.RETRYING
            assert details.due_at
            assert details.due_at.timestamp() - post.clock.now <= longest
        await post.outbox.cancel(receipt.id)
