"""What a quota or an operator holds stays held, whatever its tenant does with it; only an operator lets it go."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import product
from types import ModuleType
from typing import Literal

import pytest
from engines.process import START, MakeOutbox, Process

from postroom import Email, Status
from postroom.errors import MessageRejected, OutcomeUnknown, StateConflict
from postroom.outbox.records import NEVER
from postroom.receipts import Accepted

HOUR = 3600.0
TENANT = "key_1"
STEPS = ("cancel", "retry", "hold", "expire")
WAYS = [steps for count in (1, 2, 3) for steps in product(STEPS, repeat=count)]


async def add(post: Process, held_until: float, *, send_at: float | None = None) -> str:
    moment = datetime.fromtimestamp(send_at, UTC) if send_at else None
    message = Email(to="ann@example.org", text="x", send_at=moment)
    return (await post.add(message, tenant=TENANT, held_until=[held_until])).id


async def go(post: Process, message_id: str, steps: Sequence[str]) -> None:
    """Do what the tenant asks for, as far as it may be done."""
    for step in steps:
        with suppress(StateConflict):
            match step:
                case "cancel":
                    await post.outbox.cancel(message_id, tenant=TENANT)
                case "retry":
                    await post.outbox.retry(message_id, tenant=TENANT)
                case "hold":
                    await post.outbox.hold(message_id, tenant=TENANT)
                case _:
                    await post.store.expire(10)


@pytest.mark.parametrize(
    ("held_until", "send_at"),
    [(START + HOUR, None), (NEVER, None), (START + HOUR, START + 2 * HOUR)],
    ids=["by a quota", "for a person", "and scheduled later than that"],
)
async def test_no_steps_of_its_tenant_send_a_message_before_its_time(
    make_outbox: MakeOutbox, stage: ModuleType, held_until: float, send_at: float | None
) -> None:
    script = stage.Script()
    async with make_outbox(script) as post:
        for steps in WAYS:
            await go(post, await add(post, held_until, send_at=send_at), steps)
        await post.work()
        assert script.calls == []
        states = set((await post.outbox.stats()).states)
    assert Status.HELD in states
    assert Status.QUEUED not in states


async def test_what_was_cancelled_and_asked_for_again_flows_at_its_time(
    make_outbox: MakeOutbox, stage: ModuleType
) -> None:
    script = stage.Script()
    async with make_outbox(script) as post:
        message_id = await add(post, START + HOUR)
        await go(post, message_id, ("cancel", "retry"))
        await post.work(after=HOUR + 1)
        assert [message.id for message in script.messages] == [message_id]


async def test_what_an_operator_held_its_tenant_does_not_free(make_outbox: MakeOutbox, stage: ModuleType) -> None:
    script = stage.Script()
    async with make_outbox(script) as post:
        for steps in WAYS:
            message_id = await add(post, 0.0)
            await post.outbox.hold(message_id)
            await go(post, message_id, steps)
        await post.work()
        assert script.calls == []


@pytest.mark.parametrize("outcome", [None, "retry"], ids=["retry", "resolve"])
async def test_what_is_sent_again_waits_as_long_as_its_tenant_may_not_send_more(
    make_outbox: MakeOutbox, stage: ModuleType, outcome: Literal["retry"] | None
) -> None:
    script = stage.Script()

    async def act(_: Email) -> Accepted:
        if len(script.calls) > 1:
            return Accepted()
        raise OutcomeUnknown("it broke off") if outcome else MessageRejected("no")

    script.act = act
    async with make_outbox(script, on_unknown="hold") as post:
        message_id = await add(post, 0.0)
        await post.work()
        if outcome:
            await post.outbox.resolve(message_id, outcome, tenant=TENANT, held_until=START + HOUR)
        else:
            await post.outbox.retry(message_id, tenant=TENANT, held_until=START + HOUR)
        await go(post, message_id, ("retry", "cancel", "retry"))
        await post.work()
        assert len(script.calls) == 1
        assert (await post.outbox.get(message_id)).receipt.status is Status.HELD
        await post.work(after=HOUR + 1)
        assert len(script.calls) == 2


@pytest.mark.parametrize("steps", [(), ("cancel",), ("cancel", "retry"), ("cancel", "retry", "cancel")])
async def test_an_operator_lets_it_go_at_once(
    make_outbox: MakeOutbox, stage: ModuleType, steps: tuple[str, ...]
) -> None:
    script = stage.Script()
    async with make_outbox(script) as post:
        message_id = await add(post, NEVER)
        await go(post, message_id, steps)
        await post.outbox.retry(message_id)
        await post.work()
        assert [message.id for message in script.messages] == [message_id]


async def test_what_is_no_longer_held_its_tenant_sends_again(make_outbox: MakeOutbox, stage: ModuleType) -> None:
    script = stage.Script()
    async with make_outbox(script) as post:
        message_id = await add(post, START + HOUR)
        await post.outbox.cancel(message_id, tenant=TENANT)
        post.clock.now += HOUR + 1
        await post.outbox.retry(message_id, tenant=TENANT)
        await post.work()
        assert [message.id for message in script.messages] == [message_id]
