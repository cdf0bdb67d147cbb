"""A send that is cancelled: never sent while it waits, in doubt once it was handed over, and no harm to others."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from types import ModuleType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.delivery.fake_clock import on_fake_clock
from tests.unit.delivery.sending import NUMBER, Turnstile, dispatcher_of, room_of, settled, sms

from postroom import (
    OutcomeUnknown,
    Sms,
    Status,
)
from postroom.delivery.dispatcher import AttemptResult
from postroom.plugin.cancellation import was_handed_over
from postroom.plugin.confirmation import Withdrawn
from postroom.receipts import Accepted


async def keep() -> None:
    """Let the message go."""


@pytest.mark.parametrize("provider", ["stage", "stage-batch"])
async def test_a_message_cancelled_while_it_waits_is_never_sent(stage: ModuleType, provider: str) -> None:
    act = Turnstile()
    script = stage.Script(act, many=act)
    async with room_of(stage, script, provider, concurrency=1) as room:
        first = asyncio.ensure_future(room.send(sms("first")))
        await settled()
        second = asyncio.ensure_future(room.send(sms("second")))
        await settled()
        second.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await second
        assert not getattr(caught.value, "__notes__", [])
        act.exit.set()
        await first
        await settled()
    assert [message.body for message in script.messages] == ["first"]


@pytest.mark.parametrize("provider", ["stage", "stage-batch"])
def test_a_message_cancelled_while_it_waits_for_the_rate_is_never_sent(stage: ModuleType, provider: str) -> None:
    async def work() -> list[str]:
        script = stage.Script()
        async with room_of(stage, script, provider, rate="1/m") as room:
            await room.send(sms("first"))
            second = asyncio.ensure_future(room.send(sms("second")))
            await settled()
            second.cancel()
            await asyncio.wait([second])
            assert second.cancelled()
            await room.send(sms("third"))
        return [message.body for message in script.messages]

    assert on_fake_clock(work()) == ["first", "third"]


def test_a_message_cancelled_while_its_batch_waits_for_the_rate_was_surely_not_sent(stage: ModuleType) -> None:
    async def work() -> tuple[list[str], list[int]]:
        script = stage.Script()
        async with room_of(stage, script, "stage-batch", rate="2/s") as room:
            tasks = [asyncio.ensure_future(room.send(sms(str(n)))) for n in range(6)]
            await settled()
            for task in (tasks[2], tasks[3], tasks[4]):  # a whole batch, and half of the next
                task.cancel()
            await asyncio.wait(tasks)
            for task in (tasks[2], tasks[3], tasks[4]):
                with pytest.raises(asyncio.CancelledError) as caught:
                    await task
                assert was_handed_over(caught.value) is None
        return [message.body for message in script.messages], [len(call) for call in script.calls]

    assert on_fake_clock(work()) == (["0", "1", "5"], [2, 1])


async def test_a_message_cancelled_while_others_of_its_batch_are_confirmed_is_not_sent(stage: ModuleType) -> None:
    asked, go = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        asked.set()
        await go.wait()

    script, results = stage.Script(), list[AttemptResult]()
    dispatcher = dispatcher_of(stage.batch, stage.StageSettings(script=script))
    first = asyncio.ensure_future(dispatcher.send(sms("1"), results.append, keep))
    second = asyncio.ensure_future(dispatcher.send(sms("2"), results.append, wait))
    await asked.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await first
    go.set()
    await second
    assert was_handed_over(caught.value) is None
    assert [message.body for message in script.messages] == ["2"]
    assert len(results) == 1


async def test_cancelling_one_message_of_a_batch_in_flight_leaves_the_others_alone(
    stage: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    act = Turnstile()

    async def many(batch: Sequence[Sms]) -> list[Accepted]:
        await act(batch)
        return [Accepted(provider_message_id=message.body) for message in batch]

    script = stage.Script(many=many)
    async with room_of(stage, script, "stage-batch") as room:
        tasks = [asyncio.ensure_future(room.send(sms(str(n)))) for n in range(3)]
        await settled()
        tasks[1].cancel()
        with caplog.at_level(logging.WARNING, "postroom"), pytest.raises(asyncio.CancelledError) as caught:
            await tasks[1]
        assert "handed over; outcome unknown" in caught.value.__notes__[0]
        assert "outcome unknown" in caplog.text
        act.exit.set()
        assert [(await tasks[n]).provider_message_id for n in (0, 2)] == ["0", "2"]
    assert len(script.calls) == 1


async def test_a_message_cancelled_after_its_batch_was_answered_keeps_the_answer(stage: ModuleType) -> None:
    async def many(batch: Sequence[Sms]) -> list[Accepted]:
        asyncio.get_running_loop().call_soon(sends[1].cancel)
        return [Accepted(provider_message_id=message.body) for message in batch]

    results = list[AttemptResult]()
    dispatcher = dispatcher_of(stage.batch, stage.StageSettings(script=stage.Script(many=many)))
    sends = [asyncio.ensure_future(dispatcher.send(sms(str(n)), results.append)) for n in range(2)]
    await asyncio.wait(sends)
    assert sends[1].cancelled()
    assert [result.answer for result in results] == [Accepted(provider_message_id=body) for body in "01"]


async def test_a_message_cancelled_in_the_moment_in_which_it_is_withdrawn_is_cancelled_and_not_sent(
    stage: ModuleType,
) -> None:
    async def refuse() -> None:
        asyncio.get_running_loop().call_soon(sending.cancel)
        raise Withdrawn

    script, results = stage.Script(), list[AttemptResult]()
    dispatcher = dispatcher_of(stage.batch, stage.StageSettings(script=script))
    sending = asyncio.ensure_future(dispatcher.send(sms(), results.append, refuse))
    with pytest.raises(asyncio.CancelledError) as caught:
        await sending
    assert was_handed_over(caught.value) is None
    assert (script.calls, results) == ([], [])


async def test_a_message_cancelled_while_it_is_handed_over_says_so(
    stage: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    act = Turnstile()
    async with room_of(stage, stage.Script(act)) as room:
        sending = asyncio.ensure_future(room.send(sms()))
        await settled()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await sending
    assert caught.value.__notes__ == ["a: cancelled while it was handed over; outcome unknown"]
    [record] = caplog.records
    assert (record.name, record.levelno) == ("postroom.delivery", logging.WARNING)
    assert record.getMessage().endswith(": a: cancelled while it was handed over; outcome unknown")


@pytest.mark.parametrize("provider", ["full", "batch"])
async def test_a_cancelled_attempt_is_recorded_with_what_is_known_of_it(stage: ModuleType, provider: str) -> None:
    entered = asyncio.Event()

    async def hang(_: object) -> None:
        entered.set()
        await asyncio.Event().wait()

    script, results = stage.Script(hang, many=hang), list[AttemptResult]()
    dispatcher = dispatcher_of(getattr(stage, provider), stage.StageSettings(script=script))
    sends = [asyncio.ensure_future(dispatcher.send(sms(str(n)), results.append)) for n in range(2)]
    await entered.wait()
    sends[0].cancel()
    await asyncio.wait(sends[:1])
    [result] = results
    assert isinstance(result.answer, OutcomeUnknown)
    assert "outcome unknown" in str(result.answer.detail)
    assert "look for it at the provider" in str(result.answer)
    assert result.recipients == (NUMBER,)
    assert 0 <= result.duration < 60
    for batch in [*dispatcher._batches, sends[1]]:
        batch.cancel()
    await asyncio.wait(sends)


async def test_every_number_of_a_cancelled_sms_is_in_the_log(
    stage: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    act = Turnstile()
    async with room_of(stage, stage.Script(act)) as room:
        sending = asyncio.ensure_future(room.send(sms(to=["+442079460951", "+442079460952"])))
        await settled()
        sending.cancel()
        await asyncio.wait([sending])
    assert caplog.text.count("outcome unknown") == 2


@given(data=st.data())
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_cancelled_when_nobody_is_sent_twice_and_nobody_waits_for_ever(
    stage: ModuleType, data: st.DataObject
) -> None:
    count = data.draw(st.integers(1, 30))
    cancelled = data.draw(st.dictionaries(st.integers(0, count - 1), st.integers(0, 30)))
    provider = data.draw(st.sampled_from(["stage", "stage-batch"]))
    concurrency = data.draw(st.integers(1, 4))
    rate = data.draw(st.sampled_from([None, "5/s", "100/s"]))

    async def slow(_: Sms) -> Accepted:
        await asyncio.sleep(0.5)
        return Accepted()

    async def many(batch: Sequence[Sms]) -> list[Accepted]:
        return [await slow(batch[0])] * len(batch)

    script = stage.Script(slow, many=many)

    async def work() -> list[Status | None]:
        async with room_of(stage, script, provider, concurrency=concurrency, rate=rate) as room:
            tasks = [asyncio.ensure_future(room.send(sms(str(n)))) for n in range(count)]
            for tick in range(31):
                for index in (i for i, when in cancelled.items() if when == tick):
                    tasks[index].cancel()
                await asyncio.sleep(0.1)
            await asyncio.wait(tasks)
            return [None if task.cancelled() else task.result().status for task in tasks]

    ends = on_fake_clock(work())
    bodies = [message.body for message in script.messages]
    assert len(set(bodies)) == len(bodies)
    for index, end in enumerate(ends):
        if end is None:
            assert index in cancelled
        else:
            assert end is Status.SENT
            assert str(index) in bodies
