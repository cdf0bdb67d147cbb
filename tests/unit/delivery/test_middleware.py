"""Send middleware: holds across the send, sees the error of its own message, and harms none."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Never

import pytest
from tests.unit.delivery.results import errors_of, receipts_of
from tests.unit.delivery.sending import Act, raising, room_with, sms

from postroom import (
    Config,
    ExtensionNotFound,
    MessageRejected,
    OutcomeUnknown,
    PluginError,
    Postroom,
    PostroomError,
    ProviderUnavailable,
    Receipt,
    Sms,
    Status,
    Suppressed,
)
from postroom.delivery.dispatcher import AccountDispatcher, AttemptResult
from postroom.delivery.middleware import SendMiddleware
from postroom.plugin import Resources
from postroom.receipts import Accepted


def kind(error: BaseException) -> str:
    return type(error).__name__


def entered(stage: ModuleType) -> list[Any]:
    return [entry[:2] for entry in stage.LOG]


async def test_middleware_holds_across_the_send_in_the_order_of_the_configuration(stage: ModuleType) -> None:
    async def act(message: Sms) -> Accepted:
        stage.LOG.append(("sent", message.body))
        return Accepted()

    async with room_with(stage, stage.Script(act), "gate", "second-gate") as room:
        await room.send(sms())
    assert entered(stage) == [
        ("gate", "enter"),
        ("second_gate", "enter"),
        ("sent", "hello"),
        ("second_gate", "leave"),
        ("gate", "leave"),
    ]


async def test_a_middleware_sees_the_account_and_may_step_aside(stage: ModuleType) -> None:
    async with room_with(stage, stage.Script(), "gate") as room:
        await room.send(sms())
    assert stage.LOG[0] == ("gate", "enter", "a")


@pytest.mark.parametrize("provider", ["stage", "stage-batch"])
@pytest.mark.parametrize(
    "error", [Suppressed("asked not to be written to"), RuntimeError("s3cret"), asyncio.CancelledError()], ids=kind
)
async def test_a_middleware_that_does_not_open_keeps_the_message_and_leaves_those_already_open(
    stage: ModuleType, provider: str, error: BaseException
) -> None:
    stage.VETO.update(second_gate=True, error=error)
    script = stage.Script()
    async with room_with(stage, script, "gate", "second-gate", "observer", provider=provider) as room:
        for result in await room.send_many([sms(), sms()]):
            assert isinstance(result, Suppressed if isinstance(error, Suppressed) else PluginError)
            assert error in {result, result.__cause__}
            assert "s3cret" not in str(result)
    assert script.calls == []
    assert sorted(entered(stage)) == sorted([("gate", "enter"), ("gate", "error"), ("gate", "leave")] * 2)


async def test_a_veto_of_one_message_of_a_batch_leaves_the_others_alone(stage: ModuleType) -> None:
    stage.VETO.update(gate=lambda message: message.body == "2", error=Suppressed("not this one"))
    script = stage.Script()
    async with room_with(stage, script, "gate", provider="stage-batch") as room:
        results = await room.send_many([sms(str(n)) for n in range(5)])
    assert [type(result).__name__ for result in results] == ["Receipt", "Receipt", "Suppressed", "Receipt", "Receipt"]
    assert [[m.body for m in call] for call in script.calls] == [["0", "1", "3", "4"]]
    assert [r.provider_message_id for r in results if isinstance(r, Receipt)] == [
        f"stage-{m.id}" for m in script.messages
    ]


async def test_middleware_holds_around_a_batch_of_any_size(stage: ModuleType) -> None:
    script = stage.Script()
    async with room_with(stage, script, "gate", "second-gate", provider="stage-batch") as room:
        results = receipts_of(await room.send_many([sms() for _ in range(1000)]))
    assert [result.status for result in results] == [Status.SENT] * 1000
    assert [len(call) for call in script.calls] == [1000]
    assert len(stage.LOG) == 4000


@pytest.mark.parametrize("provider", ["stage", "stage-batch"])
async def test_a_middleware_sees_the_error_of_its_own_message(stage: ModuleType, provider: str) -> None:
    async def act(message: Sms) -> Accepted:
        if message.body == "bad":
            raise MessageRejected("no")
        return Accepted()

    async def many(batch: Sequence[Sms]) -> list[Accepted | MessageRejected]:
        return [MessageRejected("no") if m.body == "bad" else Accepted() for m in batch]

    async with room_with(stage, stage.Script(act, many=many), "gate", provider=provider) as room:
        await room.send_many([sms("good"), sms("bad")])
    assert entered(stage).count(("gate", "error")) == 1
    assert entered(stage).count(("gate", "leave")) == 2
    assert ("gate", "error", "MessageRejected") in stage.LOG


@pytest.mark.parametrize("provider", ["stage", "stage-batch"])
@pytest.mark.parametrize("error", [RuntimeError("broke on leaving"), asyncio.CancelledError()], ids=kind)
async def test_a_middleware_that_breaks_afterwards_changes_nothing(
    stage: ModuleType, caplog: pytest.LogCaptureFixture, provider: str, error: BaseException
) -> None:
    stage.VETO["after:gate"] = error
    async with room_with(stage, stage.Script(), "second-gate", "gate", provider=provider) as room:
        results = receipts_of(await room.send_many([sms(), sms()]))
    assert [result.status for result in results] == [Status.SENT] * 2
    assert "'stage-gate' failed after the send" in caplog.text
    assert {record.name for record in caplog.records} == {"postroom.plugins"}
    assert entered(stage).count(("second_gate", "leave")) == 2


async def test_an_error_that_passes_a_middleware_is_not_logged_as_the_middlewares_own(
    stage: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    async def act(_: object) -> Never:
        raise MessageRejected("no")

    async with room_with(stage, stage.Script(act), "gate") as room:
        with pytest.raises(MessageRejected):
            await room.send(sms())
    assert "failed after" not in caplog.text


async def test_a_missing_extension_is_an_error_when_the_room_is_made(stage: ModuleType) -> None:
    with pytest.raises(ExtensionNotFound, match=r"'stage-gaet' is not installed; installed: .*stage-gate"):
        room_with(stage, stage.Script(), "gaet")


async def test_a_veto_lets_no_other_account_of_the_route_pass_either(stage: ModuleType) -> None:
    stage.VETO.update(gate=True, error=Suppressed("asked not to be written to"))
    scripts = [stage.Script(), stage.Script()]
    config = Config.model_validate(
        {
            "accounts": {f"a{n}": stage.StageSettings(script=script) for n, script in enumerate(scripts)},
            "routes": {"both": {"via": ["a0", "a1"]}},
            "plugins": {"extensions": "stage-gate"},
        }
    )
    async with Postroom(config) as room:
        with pytest.raises(Suppressed):
            await room.send(sms(provider="both"))
    assert [script.calls for script in scripts] == [[], []]


@pytest.mark.parametrize("error", [ProviderUnavailable("later"), RuntimeError("a fault of the plugin")])
async def test_the_error_of_a_whole_batch_is_seen_around_each_of_its_messages(
    stage: ModuleType, error: Exception
) -> None:
    seen = "ProviderUnavailable" if isinstance(error, ProviderUnavailable) else "OutcomeUnknown"
    script = stage.Script(many=raising(error))
    async with room_with(stage, script, "gate", "second-gate", provider="stage-batch") as room:
        errors_of(await room.send_many([sms(), sms()]))
    assert entered(stage).count(("gate", "enter")) == 2
    for name in ("gate", "second_gate"):
        assert stage.LOG.count((name, "error", seen)) == 2
        assert entered(stage).count((name, "leave")) == 2


async def test_what_ends_a_program_leaves_every_context_of_a_batch(stage: ModuleType) -> None:
    class Stop(BaseException):
        """Stands for KeyboardInterrupt, which asyncio treats on its own."""

    script = stage.Script(many=raising(Stop()))
    async with room_with(stage, script, "gate", provider="stage-batch") as room:
        tasks = [asyncio.ensure_future(room.send(sms())) for _ in range(3)]
        await asyncio.wait(tasks, timeout=60)
    assert [type(task.exception()) for task in tasks] == [Stop] * 3
    assert entered(stage).count(("gate", "leave")) == 3


async def test_a_middleware_that_steps_aside_for_one_message_of_a_batch_holds_around_the_others(
    stage: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    script = stage.Script()
    account = stage.StageSettings(provider="stage-batch", script=script)
    config = {"accounts": {"ungated": account}, "plugins": {"extensions": "stage-gate"}}
    async with Postroom(Config.model_validate(config)) as room:
        receipts_of(await room.send_many([sms(provider="ungated"), sms()]))
    assert [len(call) for call in script.calls] == [2]
    assert caplog.records == []
    assert entered(stage).count(("gate", "enter")) == 1
    assert entered(stage).count(("gate", "leave")) == 1


async def test_a_message_of_one_account_alone_in_its_batch_passes_the_middleware_once(stage: ModuleType) -> None:
    async with room_with(stage, stage.Script(), "gate", provider="stage-batch") as room:
        await room.send(sms())
    assert entered(stage) == [("gate", "enter"), ("gate", "leave")]


class RaisesAgain:
    """A context that lets the error of the send out by raising it again, which some write out."""

    async def __aenter__(self) -> None: ...

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error:
            raise error


async def test_an_error_that_a_context_raises_again_is_not_logged_as_its_own(caplog: pytest.LogCaptureFixture) -> None:
    middleware = SendMiddleware([("again", lambda **_: RaisesAgain())])
    for error in (MessageRejected("no"), asyncio.CancelledError()):
        await middleware.leave(await middleware.enter(sms(), "a"), error)
    assert caplog.records == []


async def test_a_context_is_left_with_what_python_would_leave_it_with() -> None:
    seen: list[tuple[object, ...]] = []

    class Looks:
        async def __aenter__(self) -> None: ...

        async def __aexit__(self, *given: object) -> None:
            seen.append(given)

    middleware = SendMiddleware([("looks", lambda **_: Looks())])
    error = MessageRejected("no")
    with pytest.raises(MessageRejected):
        raise error
    for answer in (error, Accepted()):
        await middleware.leave(await middleware.enter(sms(), "a"), answer)
    assert error.__traceback__
    assert seen == [(MessageRejected, error, error.__traceback__), (None, None, None)]


class TakesItsTime:
    """A context that is left only by a cancellation; `leaving` is set when that begins."""

    def __init__(self) -> None:
        self.leaving = asyncio.Event()

    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *_: object) -> None:
        self.leaving.set()
        await asyncio.Event().wait()


def dispatcher_through(stage: ModuleType, act: Act, *contexts: Any) -> AccountDispatcher:
    transport = stage.full.postroom_sms_transport()("a", stage.StageSettings(script=stage.Script(act)), Resources())
    hooks = [(f"extension {number}", lambda context=context, **_: context) for number, context in enumerate(contexts)]
    return AccountDispatcher(transport, SendMiddleware(hooks))


@pytest.mark.parametrize(
    "answer",
    [Accepted(provider_message_id="1"), MessageRejected("no"), OutcomeUnknown("quiet")],
    ids=lambda answer: type(answer).__name__,
)
async def test_a_send_that_is_cancelled_while_a_middleware_is_left_keeps_the_answer_that_had_come(
    stage: ModuleType, answer: Accepted | PostroomError
) -> None:
    async def act(_: Sms) -> Accepted:
        if isinstance(answer, PostroomError):
            raise answer
        return answer

    outer, inner, results = TakesItsTime(), TakesItsTime(), list[AttemptResult]()
    dispatcher = dispatcher_through(stage, act, outer, inner)
    sending = asyncio.ensure_future(dispatcher.send(sms(), results.append))
    for context in (inner, outer):
        await asyncio.wait_for(context.leaving.wait(), 60)
        sending.cancel()
    await asyncio.wait([sending])
    assert sending.cancelled()
    assert [result.answer for result in results] == [answer]


class WaitsToEnter(TakesItsTime):
    """A context that is never entered."""

    def __init__(self) -> None:
        super().__init__()
        self.entering = asyncio.Event()

    async def __aenter__(self) -> None:
        self.entering.set()
        await asyncio.Event().wait()


async def test_a_send_that_is_cancelled_while_a_middleware_is_entered_was_surely_not_sent(stage: ModuleType) -> None:
    context, results, sent = WaitsToEnter(), list[AttemptResult](), []

    async def act(message: Sms) -> Accepted:
        sent.append(message)
        return Accepted()

    sending = asyncio.ensure_future(dispatcher_through(stage, act, context).send(sms(), results.append))
    await context.entering.wait()
    sending.cancel()
    await asyncio.wait([sending])
    assert sending.cancelled()
    assert (sent, results) == ([], [])


async def test_a_middleware_that_makes_another_error_of_a_cancellation_changes_nothing(
    stage: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    class Converts(TakesItsTime):
        async def __aexit__(self, *given: object) -> None:
            try:
                await super().__aexit__(*given)
            except asyncio.CancelledError:
                raise RuntimeError("in its place") from None

    context, results = Converts(), list[AttemptResult]()
    dispatcher = dispatcher_through(stage, stage.accept, context)
    sending = asyncio.ensure_future(dispatcher.send(sms(), results.append))
    await context.leaving.wait()
    sending.cancel()
    await asyncio.wait([sending])
    assert [type(result.answer) for result in results] == [Accepted]
    assert "failed after the send" in caplog.text


async def test_a_send_that_is_cancelled_twice_is_in_doubt_as_after_the_first_time(stage: ModuleType) -> None:
    reached, context, results = asyncio.Event(), TakesItsTime(), list[AttemptResult]()

    async def hang(_: Sms) -> None:
        reached.set()
        await asyncio.Event().wait()

    dispatcher = dispatcher_through(stage, hang, context)
    sending = asyncio.ensure_future(dispatcher.send(sms(), results.append))
    for moment in (reached, context.leaving):
        await asyncio.wait_for(moment.wait(), 60)
        sending.cancel()
    await asyncio.wait([sending])
    assert [type(result.answer) for result in results] == [OutcomeUnknown]


async def test_a_worker_that_ends_while_a_middleware_is_left_knows_that_the_message_was_sent(
    stage: ModuleType, tmp_path: Path
) -> None:
    leaving, stop = asyncio.Event(), asyncio.Event()

    async def takes_its_time() -> None:
        leaving.set()
        await asyncio.Event().wait()

    stage.VETO["leaving:gate"] = takes_its_time
    script = stage.Script()
    config = {
        "accounts": {"a": stage.StageSettings(script=script)},
        "plugins": {"extensions": "stage-gate"},
        "outbox": {"url": f"sqlite:///{tmp_path}/outbox.db", "grace": 0.01},
    }
    async with Postroom(Config.model_validate(config)) as room:
        queued = await room.enqueue(sms())
        working = asyncio.ensure_future(room.work(stop=stop))
        await asyncio.wait_for(leaving.wait(), 60)
        stop.set()
        await working
        del stage.VETO["leaving:gate"]
        await room.work(until_empty=True)
        assert (await room.outbox.get(queued.id)).receipt.status is Status.SENT
    assert len(script.calls) == 1
