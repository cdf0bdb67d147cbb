"""`send_many`: one result per message, in order, however many, and nothing left running."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any, Never

import pytest
from tests.unit.delivery.results import receipts_of
from tests.unit.delivery.sending import room_of, sms

from postroom import Email, MessageError, MessageRejected, Postroom, PostroomError, Receipt, Sms, Status
from postroom.delivery.bulk import Result, send_many
from postroom.receipts import Accepted


def others() -> set[asyncio.Task[Any]]:
    return asyncio.all_tasks() - {asyncio.current_task()}


async def test_results_stand_in_the_order_of_the_messages(stage: ModuleType) -> None:
    async def act(message: Sms) -> Accepted:
        for _ in range(97 - int(message.body)):
            await asyncio.sleep(0)
        if int(message.body) % 7 == 3:
            raise MessageRejected("no", provider_code=message.body)
        return Accepted(provider_message_id=message.body)

    async with room_of(stage, stage.Script(act)) as room:
        results = await room.send_many([sms(str(n)) for n in range(97)])
    receipts = {n: result.provider_message_id for n, result in enumerate(results) if isinstance(result, Receipt)}
    errors = {n: result.provider_code for n, result in enumerate(results) if isinstance(result, MessageRejected)}
    assert receipts == {n: str(n) for n in range(97) if n % 7 != 3}
    assert errors == {n: str(n) for n in range(97) if n % 7 == 3}


async def test_one_bad_message_does_not_touch_the_others(stage: ModuleType) -> None:
    messages: list[Any] = [
        sms(),
        "no message",
        sms(provider="nobody"),
        Email(to="b@example.org", text="x"),
        sms(expires_at=datetime(2020, 1, 1, tzinfo=UTC)),
        sms(),
    ]
    async with room_of(stage, stage.Script()) as room:
        results = await room.send_many(messages)
    assert [isinstance(result, Receipt) for result in results] == [True, False, False, False, False, True]
    assert all(isinstance(result, (Receipt, PostroomError)) for result in results)
    assert isinstance(results[1], MessageError)


async def test_messages_that_are_kept_and_messages_that_are_not_may_stand_together(
    stage: ModuleType, tmp_path: Path
) -> None:
    script, outbox = stage.Script(), {"url": f"sqlite:///{tmp_path}/outbox.db"}
    async with Postroom(accounts={"a": stage.StageSettings(script=script)}, outbox=outbox) as room:
        receipts = receipts_of(await room.send_many([sms("1"), sms("2", required=True), sms("3", idempotency_key="k")]))
        assert [receipt.status for receipt in receipts] == [Status.SENT] * 3
        assert {line.id for line in await room.outbox.list()} == {receipt.id for receipt in receipts[1:]}
    assert sorted(message.body for message in script.messages) == ["1", "2", "3"]


@pytest.mark.parametrize("messages", [[], (), iter(())])
async def test_nothing_to_send_is_no_results(stage: ModuleType, messages: Iterable[Sms]) -> None:
    async with room_of(stage, stage.Script()) as room:
        assert await room.send_many(messages) == []


@pytest.mark.parametrize("at_once", [0, -1])
async def test_a_limit_that_would_send_nothing_is_refused(stage: ModuleType, at_once: int) -> None:
    async with room_of(stage, stage.Script()) as room:
        with pytest.raises(ValueError, match="at_once must be at least 1"):
            await room.send_many([sms()], at_once=at_once)


@pytest.mark.parametrize("at_once", [1, 5])
async def test_a_generator_is_not_consumed_ahead_of_what_is_under_way(stage: ModuleType, at_once: int) -> None:
    made, sent = 0, 0

    def messages() -> Iterator[Sms]:
        nonlocal made
        for n in range(50):
            made += 1
            assert made - sent <= at_once
            yield sms(str(n))

    async def act(message: Sms) -> Accepted:
        nonlocal sent
        await asyncio.sleep(0)
        return Accepted()

    def progress(index: int, result: Result) -> None:
        nonlocal sent
        sent += 1

    async with room_of(stage, stage.Script(act)) as room:
        results = await room.send_many(messages(), at_once=at_once, progress=progress)
    assert (made, sent, len(results)) == (50, 50, 50)


async def test_progress_is_called_once_for_every_message_with_its_result(stage: ModuleType) -> None:
    seen: dict[int, Result] = {}
    messages: list[Any] = [sms(), None, sms()]

    def progress(index: int, result: Result) -> None:
        assert index not in seen
        seen[index] = result

    async with room_of(stage, stage.Script()) as room:
        results = await room.send_many(messages, progress=progress)
    assert [seen[index] for index in range(3)] == results


async def test_of_several_faults_the_first_is_raised(stage: ModuleType) -> None:
    async def fails(message: Email | Sms) -> Receipt:
        if getattr(message, "body", "") == "1":
            await asyncio.sleep(0)
            raise KeyError("first")
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("while it was stopped")

    with pytest.raises(KeyError, match="first") as caught:
        await send_many(fails, [sms("1"), sms("2")], None, at_once=2)
    assert caught.value.__suppress_context__
    assert not others()


async def test_cancelling_stops_the_rest_and_leaves_nothing_running(stage: ModuleType) -> None:
    entered = asyncio.Event()

    async def act(_: object) -> None:
        entered.set()
        await asyncio.Event().wait()

    script = stage.Script(act)
    async with room_of(stage, script, concurrency=3) as room:
        sending = asyncio.ensure_future(room.send_many([sms() for _ in range(100)]))
        await entered.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert not others()
    assert len(script.calls) == 3


class Oops(Exception):
    pass


async def test_what_progress_raises_comes_out_and_leaves_nothing_running(stage: ModuleType) -> None:
    def progress(index: int, result: Result) -> Never:
        raise Oops

    script = stage.Script()
    async with room_of(stage, script, concurrency=1) as room:
        with pytest.raises(Oops):
            await room.send_many([sms() for _ in range(100)], at_once=4, progress=progress)
        assert not others()
        count = len(script.calls)
        assert count < 100
        assert (await room.send(sms())).status is Status.SENT


async def test_what_the_iterable_raises_comes_out_and_leaves_nothing_running(stage: ModuleType) -> None:
    def messages() -> Iterator[Sms]:
        yield sms()
        raise Oops

    async with room_of(stage, stage.Script()) as room:
        with pytest.raises(Oops):
            await room.send_many(messages())
        assert not others()
        assert (await room.send(sms())).status is Status.SENT


async def test_two_bulks_at_once_keep_apart(stage: ModuleType) -> None:
    script = stage.Script()
    async with room_of(stage, script, "stage-batch") as room:
        first, second = await asyncio.gather(
            room.send_many([sms(f"a{n}") for n in range(300)]), room.send_many([sms(f"b{n}") for n in range(300)])
        )
    ids = {receipt.id for receipt in receipts_of([*first, *second])}
    assert len(ids) == 600
    body = {message.id: message.body for message in script.messages}
    assert [body[r.id] for r in receipts_of(first)] == [f"a{n}" for n in range(300)]
    assert [body[r.id] for r in receipts_of(second)] == [f"b{n}" for n in range(300)]
