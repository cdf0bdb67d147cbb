"""One message to one account: limits, timeout, batches, and which outcome it was."""

from __future__ import annotations

import asyncio
import gc
import traceback
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from types import ModuleType
from typing import Any, Never

import pytest
from tests.unit.delivery.fake_clock import START, on_fake_clock
from tests.unit.delivery.results import errors_of, receipt_of, receipts_of
from tests.unit.delivery.sending import Act, Turnstile, dispatcher_of, raising, room_of, settled, sms

from postroom import (
    MessageRejected,
    OutcomeUnknown,
    ProviderUnavailable,
    Sms,
    Status,
)
from postroom.delivery.bulk import Result
from postroom.delivery.dispatcher import AccountDispatcher, AttemptResult
from postroom.delivery.middleware import SendMiddleware
from postroom.errors import OutboxError, PostroomError
from postroom.plugin import Resources
from postroom.plugin.confirmation import Withdrawn, confirmation, confirming
from postroom.plugin.time_limit import ends_at
from postroom.receipts import Accepted


@pytest.mark.parametrize("limit", [1, 3, 7])
async def test_no_more_sends_are_under_way_than_the_account_allows(stage: ModuleType, limit: int) -> None:
    act = Turnstile()
    script = stage.Script(act)
    async with room_of(stage, script, concurrency=limit) as room, asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(room.send(sms()))
        await settled()
        assert act.inside == limit
        assert len(script.calls) == limit
        act.exit.set()
    assert act.most == limit
    assert len(script.calls) == 20


async def test_no_more_batches_are_under_way_than_the_account_allows(stage: ModuleType) -> None:
    act = Turnstile()

    async def many(batch: Sequence[Sms]) -> list[Accepted]:
        await act(batch)
        return [Accepted() for _ in batch]

    script = stage.Script(act, many=many)
    async with room_of(stage, script, "stage-batch", concurrency=2) as room:
        results = asyncio.ensure_future(room.send_many([sms() for _ in range(5000)], at_once=5000))
        await settled()
        assert act.inside == 2
        act.exit.set()
        assert len(await results) == 5000
    assert act.most == 2
    assert [len(call) for call in script.calls] == [1000] * 5


@pytest.mark.parametrize("provider", ["stage", "stage-batch"])
def test_a_transport_that_never_answers_is_unknown_when_its_time_is_up(stage: ModuleType, provider: str) -> None:
    async def hang(_: object) -> None:
        await asyncio.Event().wait()

    async def work() -> tuple[list[Result], Any, float]:
        script = stage.Script(hang, many=hang)
        async with room_of(stage, script, provider, timeout=7.5) as room:
            results = await room.send_many([sms(), sms()])
        return results, script, asyncio.get_running_loop().time()

    results, script, now = on_fake_clock(work())
    assert now == pytest.approx(START + 7.5)
    for result in results:
        assert isinstance(result, OutcomeUnknown)
        assert isinstance(result.__cause__, TimeoutError)
        assert "no answer within 7.5 s" in str(result)
        assert receipt_of(result).status is Status.IN_DOUBT
    assert len(script.messages) == 2


async def test_a_thousand_concurrent_sends_become_one_call(stage: ModuleType) -> None:
    script = stage.Script()
    async with room_of(stage, script, "stage-batch") as room:
        receipts = await asyncio.gather(*(room.send(sms(f"number {n}")) for n in range(1000)))
    assert [len(call) for call in script.calls] == [1000]
    assert [m.body for m in script.messages] == [f"number {n}" for n in range(1000)]
    assert [r.provider_message_id for r in receipts] == [f"stage-{r.id}" for r in receipts]


async def test_one_message_alone_is_sent_by_send(stage: ModuleType) -> None:
    async def many(batch: Sequence[Sms]) -> Never:
        raise AssertionError("a batch of one")

    async with room_of(stage, stage.Script(many=many), "stage-batch") as room:
        assert (await room.send(sms())).status is Status.SENT


ILL: dict[str, Callable[[Sequence[Sms]], object]] = {
    "too few": lambda batch: [Accepted() for _ in batch][1:],
    "too many": lambda batch: [Accepted() for _ in [*batch, 1]],
    "none": lambda batch: [],
    "None": lambda batch: None,
    "a dict": lambda batch: dict.fromkeys(range(len(batch)), Accepted()),
    "text": lambda batch: "ok!"[: len(batch)],
    "one Accepted": lambda batch: Accepted(),
    "a list of nothing": lambda batch: [None for _ in batch],
    "a list of wrong exceptions": lambda batch: [ValueError("no") for _ in batch],
}


@pytest.mark.parametrize("case", ILL)
async def test_an_ill_answer_to_a_batch_leaves_every_message_in_doubt(stage: ModuleType, case: str) -> None:
    async def many(batch: Sequence[Sms]) -> object:
        return ILL[case](batch)

    script = stage.Script(many=many)
    async with room_of(stage, script, "stage-batch") as room:
        results = await room.send_many([sms(), sms(), sms()])
    said = "answered neither yes nor no" if case.startswith("a list of") else "did not answer once per message"
    for result in results:
        assert isinstance(result, OutcomeUnknown)
        assert said in str(result)
        assert receipt_of(result).status is Status.IN_DOUBT
    assert len(script.calls) == 1


@pytest.mark.parametrize("answer", [None, True, "ok", {"id": 1}, Accepted, MessageRejected("no")])
async def test_an_ill_answer_to_a_send_leaves_the_message_in_doubt(stage: ModuleType, answer: object) -> None:
    async def act(_: object) -> object:
        return answer

    async with room_of(stage, stage.Script(act)) as room:
        with pytest.raises(OutcomeUnknown, match="fault in the plugin") as caught:
            await room.send(sms())
    assert receipt_of(caught.value).status is Status.IN_DOUBT


RAW = [
    ValueError("the key is s3cret"),
    KeyError("s3cret"),
    OSError(5, "s3cret"),
    AssertionError("s3cret"),
    StopAsyncIteration(),
]


@pytest.mark.parametrize("raw", RAW, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("provider", ["stage", "stage-batch"])
async def test_an_exception_that_is_not_ours_leaves_the_message_in_doubt(
    stage: ModuleType, raw: Exception, provider: str
) -> None:
    async def act(_: object) -> Never:
        raise raw

    async with room_of(stage, stage.Script(act, many=act), provider) as room:
        for result in await room.send_many([sms(), sms()]):
            assert isinstance(result, OutcomeUnknown)
            assert result.__cause__ is raw
            assert "s3cret" not in str(result)
            assert type(raw).__name__ in str(result)


@pytest.mark.parametrize("provider", ["stage", "stage-batch"])
async def test_a_send_that_is_no_coroutine_leaves_the_message_in_doubt(stage: ModuleType, provider: str) -> None:
    def act(_: object) -> Never:
        raise ValueError("raised before anything could be awaited")

    async with room_of(stage, stage.Script(act, many=act), provider) as room:
        for result in await room.send_many([sms(), sms()]):
            assert isinstance(result, OutcomeUnknown)


@pytest.mark.parametrize("provider", ["stage", "stage-batch"])
async def test_a_transport_that_cancels_its_own_work_leaves_the_message_in_doubt(
    stage: ModuleType, provider: str
) -> None:
    async def act(_: object) -> Never:
        raise asyncio.CancelledError

    async with room_of(stage, stage.Script(act, many=act), provider) as room:
        results = await room.send_many([sms(), sms(), sms()])
    assert len(results) == 3
    for result in results:
        assert isinstance(result, OutcomeUnknown)
        assert "cancelled its own work" in str(result)
        assert isinstance(result.__cause__, asyncio.CancelledError)


async def keep() -> None:
    """Let the message go."""


@pytest.mark.parametrize("provider", ["full", "batch"])
@pytest.mark.parametrize("reason", [Withdrawn(), OutboxError("the disk is full"), RuntimeError("anything else")])
async def test_what_is_not_confirmed_is_not_sent_with_the_others(
    stage: ModuleType, reason: Exception, provider: str
) -> None:
    async def refuse() -> None:
        raise reason

    script, results = stage.Script(), list[AttemptResult]()
    dispatcher = dispatcher_of(getattr(stage, provider), stage.StageSettings(script=script))
    sends = [
        dispatcher.send(sms(body), results.append, confirm)
        for body, confirm in (("1", keep), ("2", refuse), ("3", keep))
    ]
    raised = await asyncio.wait_for(asyncio.gather(*sends, return_exceptions=True), 60)
    assert [message.body for message in script.messages] == ["1", "3"]
    answers = [result.answer for result in results]
    if isinstance(reason, PostroomError):
        assert raised == [None] * 3
        assert [answer for answer in answers if not isinstance(answer, Accepted)] == [reason]
    else:
        assert raised == [None, reason, None]
        assert len(answers) == 2


def raised_for_all(shared: ProviderUnavailable) -> Act:
    return raising(shared)


def answered_for_each(shared: ProviderUnavailable) -> Act:
    async def many(batch: Sequence[Sms]) -> list[ProviderUnavailable]:
        return [shared for _ in batch]

    return many


@pytest.mark.parametrize("sharing", [raised_for_all, answered_for_each])
async def test_messages_that_share_an_error_have_each_an_error_and_a_receipt_of_their_own(
    stage: ModuleType, sharing: Callable[[ProviderUnavailable], Act]
) -> None:
    shared = ProviderUnavailable("the whole batch", retry_after=3, provider_code="X1")
    before = dict(vars(shared))
    numbers = [f"+44207946095{n}" for n in range(4)]
    async with room_of(stage, stage.Script(many=sharing(shared)), "stage-batch") as room:
        errors = errors_of(await room.send_many([sms(to=number) for number in numbers]))
    assert len({id(error) for error in errors}) == 4
    assert shared not in errors
    assert len({receipt_of(error).id for error in errors}) == 4
    for number, error in zip(numbers, errors, strict=True):
        assert [result.address for result in receipt_of(error).recipients] == [number]
        assert [attempt.recipients for attempt in receipt_of(error).attempts] == [(number,)]
    assert all(error.retry_after == 3 and error.provider_code == "X1" for error in errors)
    assert vars(shared) == before


async def test_an_error_that_a_batch_shares_does_not_grow_with_the_batch(stage: ModuleType) -> None:
    depths = []
    for count in (2, 50):
        shared = ProviderUnavailable("the whole batch")
        results = list[AttemptResult]()
        dispatcher = dispatcher_of(stage.batch, stage.StageSettings(script=stage.Script(many=raising(shared))))
        await asyncio.gather(*(dispatcher.send(sms(), results.append) for _ in range(count)))
        assert [result.answer for result in results] == [shared] * count
        depths.append(len(traceback.extract_tb(shared.__traceback__)))
    assert depths[0] == depths[1]


class Awkward(MessageRejected):
    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


async def test_an_error_class_with_its_own_constructor_reaches_every_message(stage: ModuleType) -> None:
    async def many(batch: Sequence[Sms]) -> Never:
        raise Awkward("one", "two")

    async with room_of(stage, stage.Script(many=many), "stage-batch") as room:
        results = await asyncio.wait_for(room.send_many([sms(), sms()]), 60)
    assert [type(result) for result in results] == [Awkward, Awkward]
    assert str(results[0]) == "one two"


async def test_answers_of_a_batch_reach_the_right_messages(stage: ModuleType) -> None:
    async def many(batch: Sequence[Sms]) -> list[Accepted | MessageRejected]:
        return [
            MessageRejected(f"no {m.body}", provider_code=m.body)
            if int(m.body) % 2
            else Accepted(provider_message_id=m.body)
            for m in batch
        ]

    async with room_of(stage, stage.Script(many=many), "stage-batch") as room:
        results = await room.send_many([sms(str(n)) for n in range(10)])
    assert [error.provider_code for error in errors_of(results[1::2])] == list("13579")
    assert [receipt.provider_message_id for receipt in receipts_of(results[::2])] == list("02468")


class Stop(BaseException):
    """Stands for KeyboardInterrupt, which asyncio treats on its own."""


@pytest.mark.parametrize("provider", ["stage", "stage-batch"])
async def test_what_ends_a_program_passes_through_and_leaves_nobody_waiting(
    stage: ModuleType, caplog: pytest.LogCaptureFixture, provider: str
) -> None:
    async def act(_: object) -> Never:
        raise Stop

    async with room_of(stage, stage.Script(act, many=act), provider) as room:
        tasks = [asyncio.ensure_future(room.send(sms())) for _ in range(2)]
        _, pending = await asyncio.wait(tasks, timeout=60)
        assert not pending
        assert [type(task.exception()) for task in tasks] == [Stop, Stop]
    gc.collect()  # of a task whose error nobody has seen, its end says so
    assert caplog.records == []


async def test_what_ends_a_program_reaches_those_of_a_batch_who_still_wait(stage: ModuleType) -> None:
    gate = asyncio.Event()

    async def many(_: object) -> Never:
        await gate.wait()
        raise Stop

    async with room_of(stage, stage.Script(many=many), "stage-batch") as room:
        tasks = [asyncio.ensure_future(room.send(sms())) for _ in range(3)]
        await settled()
        tasks[0].cancel()
        await asyncio.wait(tasks[:1])
        gate.set()
        _, pending = await asyncio.wait(tasks, timeout=60)
        assert not pending
        assert [type(task.exception()) for task in tasks[1:]] == [Stop, Stop]


def test_a_message_that_nobody_waits_for_any_more_is_not_asked_about(stage: ModuleType) -> None:
    asked = []

    async def work() -> None:
        dispatcher = dispatcher_of(stage.batch, stage.StageSettings(script=stage.Script(), rate="2/s"))

        async def send(body: str) -> None:
            async def confirm() -> None:
                asked.append(body)

            await dispatcher.send(sms(body), lambda _: None, confirm)

        sends = [asyncio.ensure_future(send(body)) for body in "1234"]
        await settled()
        sends[2].cancel()  # its batch waits for the rate
        await asyncio.wait(sends)

    on_fake_clock(work())
    assert asked == ["1", "2", "4"]


class Asked:
    """A transport that sees what it may ask before a send, and by when the send must end; scripted like the others."""

    def __init__(self, stage: ModuleType, act: Act, *, confirms: bool = False, keeps_timeout: bool = False) -> None:
        self.confirmations: list[object] = []
        self.ends: list[float | None] = []

        async def look(message: Sms) -> object:
            self.confirmations.append(confirmation())
            self.ends.append(ends_at.get())
            return await act(message)

        kind = type(
            "Asking",
            (stage.full.postroom_sms_transport(),),
            {"confirms": confirms, "keeps_timeout": keeps_timeout},
        )
        settings = stage.StageSettings(script=stage.Script(look), timeout=5)
        self.transport = kind("a", settings, Resources())


async def asks(_: object) -> Accepted:
    """Ask as a transport does that says so, at the last moment."""
    confirm = confirmation()
    assert confirm
    await confirm()
    return Accepted()


class PassesThrough:
    """A context that does nothing."""

    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *_: object) -> None: ...


MIDDLEWARE = [SendMiddleware(), SendMiddleware([("passes", lambda **_: PassesThrough())])]


@pytest.mark.parametrize("middleware", MIDDLEWARE, ids=["plain", "with middleware"])
@pytest.mark.parametrize("confirms", [True, False])
async def test_it_is_asked_once_whether_a_message_may_go_by_the_transport_where_that_says_so(
    stage: ModuleType, confirms: bool, middleware: SendMiddleware
) -> None:
    asked, results = [], list[AttemptResult]()

    async def confirm() -> None:
        asked.append(list(seen.confirmations))

    seen = Asked(stage, asks if confirms else stage.accept, confirms=confirms)
    dispatcher = AccountDispatcher(seen.transport, middleware)
    for outer in (None, confirm, keep):
        with confirming(outer):
            await dispatcher.send(sms(), results.append, confirm)
            assert confirmation() is outer
    expected = [confirm] if confirms else [None]
    assert seen.confirmations == expected * 3
    assert asked == [expected * (number + confirms) for number in range(3)]
    assert len(results) == 3


@pytest.mark.parametrize("middleware", MIDDLEWARE, ids=["plain", "with middleware"])
async def test_what_is_withdrawn_at_the_last_moment_is_not_recorded(
    stage: ModuleType, middleware: SendMiddleware
) -> None:
    async def refuse() -> Never:
        raise Withdrawn

    results = list[AttemptResult]()
    dispatcher = AccountDispatcher(Asked(stage, asks, confirms=True).transport, middleware)
    with pytest.raises(Withdrawn):
        await dispatcher.send(sms(), results.append, refuse)
    assert results == []


def test_a_transport_knows_when_its_attempt_must_end_and_one_that_keeps_to_it_is_left_alone(stage: ModuleType) -> None:
    async def slow(_: object) -> Accepted:
        await asyncio.sleep(60)
        return Accepted()

    async def work() -> None:
        for keeps_timeout in (True, False):
            results = list[AttemptResult]()
            seen = Asked(stage, slow, keeps_timeout=keeps_timeout)
            began = asyncio.get_running_loop().time()
            await AccountDispatcher(seen.transport).send(sms(), results.append)
            assert isinstance(results[0].answer, Accepted if keeps_timeout else OutcomeUnknown)
            assert asyncio.get_running_loop().time() - began == pytest.approx(60 if keeps_timeout else 5)
            assert seen.ends == [pytest.approx(began + 5)]
            assert ends_at.get() is None

    on_fake_clock(work())


async def test_closing_waits_for_what_is_under_way(stage: ModuleType) -> None:
    act = Turnstile()
    script = stage.Script(act)
    room = room_of(stage, script)
    sending = asyncio.ensure_future(room.send(sms()))
    await settled()
    closing = asyncio.ensure_future(room.close())
    await settled()
    assert not closing.done()
    assert script.closed == 0
    act.exit.set()
    await closing
    assert (await sending).status is Status.SENT
    assert script.closed == 1


async def test_closing_waits_for_the_last_of_those_that_are_under_way(stage: ModuleType) -> None:
    exits = {body: asyncio.Event() for body in "12"}

    async def act(message: Sms) -> Accepted:
        await exits[message.body].wait()
        return Accepted()

    script = stage.Script(act)
    room = room_of(stage, script, concurrency=2)
    sending = [asyncio.ensure_future(room.send(sms(body))) for body in exits]
    await settled()
    closing = asyncio.ensure_future(room.close())
    exits["1"].set()
    await sending[0]
    await settled()
    assert (closing.done(), script.closed) == (False, 0)
    exits["2"].set()
    await closing
    assert script.closed == 1


async def test_closing_waits_for_a_batch_whose_messages_nobody_waits_for_any_more(stage: ModuleType) -> None:
    act, script = Turnstile(), stage.Script()
    script.many = act
    room = room_of(stage, script, "stage-batch")
    sending = [asyncio.ensure_future(room.send(sms())) for _ in range(2)]
    await settled()
    for task in sending:
        task.cancel()
    await asyncio.wait(sending)
    closing = asyncio.ensure_future(room.close())
    await settled()
    assert (closing.done(), script.closed) == (False, 0)
    act.exit.set()
    await closing
    assert script.closed == 1


async def test_closing_waits_for_batches_and_for_those_in_the_queue(stage: ModuleType) -> None:
    act = Turnstile()

    async def many(batch: Sequence[Sms]) -> list[Accepted]:
        assert script.closed == 0
        await act(batch)
        return [Accepted() for _ in batch]

    script = stage.Script(many=many)
    room = room_of(stage, script, "stage-batch", concurrency=1)
    sending = asyncio.ensure_future(room.send_many([sms() for _ in range(3000)], at_once=3000))
    await settled()
    closing = asyncio.ensure_future(room.close())
    await settled()
    assert script.closed == 0
    act.exit.set()
    await closing
    assert [receipt.status for receipt in receipts_of(await sending)] == [Status.SENT] * 3000


async def test_an_attempt_is_timed_in_seconds_from_its_start(stage: ModuleType) -> None:
    before = datetime.now(UTC)
    async with room_of(stage, stage.Script()) as room:
        receipt = await room.send(sms())
    [attempt] = receipt.attempts
    assert before <= attempt.started_at <= datetime.now(UTC)
    assert 0 <= attempt.duration < 60
