"""A clock that is set back an hour: nothing goes out early or twice, and nothing stops for good."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any

import pytest
from engines.process import MakeOutbox

from postroom import Email, ProviderUnavailable, Status
from postroom.receipts import Accepted

HOUR = 3600.0


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
