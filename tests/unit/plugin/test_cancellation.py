"""What a cancelled send says of itself: whether the message may have reached the provider, by a typed mark."""

from __future__ import annotations

import asyncio
from types import ModuleType
from typing import Any

import pytest

from postroom import Accepted, Email, Outcome, Postroom, Sms, Status
from postroom.plugin import mark_cancelled
from postroom.plugin.cancellation import was_handed_over

NUMBERS = ["+442079460951", "+442079460952"]


def email() -> Email:
    return Email(to="ann@example.org", text="x", from_="post@example.org")


def room_of(stage: ModuleType, act: Any, **settings: Any) -> Postroom:
    return Postroom(accounts={"a": stage.StageSettings(script=stage.Script(act), **settings)})


async def cancelled_send(room: Postroom, message: Email | Sms, reached: asyncio.Event) -> asyncio.CancelledError:
    """Send, cancel once `reached` is set, and return the cancellation."""
    sending = asyncio.create_task(room.send(message))
    await reached.wait()
    sending.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await sending
    return caught.value


@pytest.mark.parametrize("keeps_timeout", [False, True])
async def test_a_transport_that_leaves_no_mark_may_have_sent_it(
    stage: ModuleType, monkeypatch: pytest.MonkeyPatch, keeps_timeout: bool
) -> None:
    reached = asyncio.Event()

    async def act(_: object) -> None:
        reached.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(stage.full.postroom_email_transport(), "keeps_timeout", keeps_timeout)
    async with room_of(stage, act) as room:
        cancelled = await cancelled_send(room, email(), reached)
    assert was_handed_over(cancelled) is True
    assert "outcome unknown" in cancelled.__notes__[0]


async def test_a_transport_that_marks_the_moment_is_believed(stage: ModuleType) -> None:
    reached = asyncio.Event()

    async def act(_: object) -> None:
        try:
            reached.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError as cancelled:
            mark_cancelled(cancelled, "still waiting for a connection", handed_over=False)
            raise

    async with room_of(stage, act) as room:
        cancelled = await cancelled_send(room, email(), reached)
    assert was_handed_over(cancelled) is False


async def test_a_send_that_waits_for_its_account_has_reached_no_provider(stage: ModuleType) -> None:
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def act(message: Email) -> Accepted:
        entered.set()
        await go_on.wait()
        return Accepted(provider_message_id=message.id)

    async with room_of(stage, act, concurrency=1) as room:
        first = asyncio.create_task(room.send(email()))
        await entered.wait()
        cancelled = await cancelled_send(room, email(), entered)
        go_on.set()
        await first
    assert was_handed_over(cancelled) is None


async def test_a_part_that_was_served_is_not_forgotten_when_the_rest_is_cancelled(stage: ModuleType) -> None:
    reached = asyncio.Event()

    async def act(message: Sms) -> Accepted:
        if message.to == (NUMBERS[0],):
            return Accepted(provider_message_id="one")
        try:
            reached.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError as cancelled:
            mark_cancelled(cancelled, "still waiting for a connection", handed_over=False)
            raise
        raise AssertionError

    async with room_of(stage, act) as room:
        cancelled = await cancelled_send(room, Sms(to=NUMBERS, body="x"), reached)
    assert was_handed_over(cancelled) is True


async def test_one_mark_that_it_was_handed_over_outweighs_those_that_it_was_not() -> None:
    cancelled = asyncio.CancelledError()
    assert was_handed_over(cancelled) is None
    for handed_over, then in ((False, False), (True, True), (False, True)):
        mark_cancelled(cancelled, "note", handed_over=handed_over)
        assert was_handed_over(cancelled) is then


@pytest.mark.parametrize("keeps_timeout", [False, True])
async def test_a_worker_that_must_end_puts_no_message_back_that_may_have_been_sent(
    stage: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Any, keeps_timeout: bool
) -> None:
    reached = asyncio.Event()

    async def act(_: object) -> None:
        reached.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(stage.full.postroom_email_transport(), "keeps_timeout", keeps_timeout)
    outbox = {"url": f"sqlite:///{tmp_path}/outbox.db", "grace": 0.01}
    account = stage.StageSettings(script=stage.Script(act), on_unknown="hold")
    async with Postroom(accounts={"a": account}, outbox=outbox) as room:
        receipt = await room.enqueue(email())
        stop = asyncio.Event()
        working = asyncio.create_task(room.work(stop=stop))
        await reached.wait()
        stop.set()
        await working
        found = (await room.outbox.get(receipt.id)).receipt
    assert found.status is Status.IN_DOUBT
    assert [attempt.outcome for attempt in found.attempts] == [Outcome.UNKNOWN]
