"""A doubt stays with the account that may have sent the message: it is tried again there, or settled, never elsewhere."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
from engines.process import MakeOutbox, Process

from postroom import (
    Accepted,
    AuthenticationFailed,
    Email,
    MessageRejected,
    NotTaken,
    Outcome,
    OutcomeUnknown,
    ProviderUnavailable,
    ProviderUnreachable,
    Receipt,
    RecipientResult,
    Sms,
    Status,
)

ANN, BOB = "ann@example.org", "bob@example.org"


def email(*to: str) -> Email:
    return Email(to=list(to) or [ANN], text="x")


def script_of(stage: ModuleType, *acts: Exception | None) -> Any:
    """A script whose attempts end as `acts` say, one after the other; the last one repeats; None accepts."""
    left = list(acts)

    async def act(message: Email | Sms) -> Accepted:
        now = left.pop(0) if len(left) > 1 else left[0]
        if now is not None:
            raise now
        accepted: Accepted = await stage.accept(message)
        return accepted

    return stage.Script(act)


async def rounds(post: Process, receipt: Receipt, count: int = 8) -> Receipt:
    """Work on as time passes, and return how the message stands."""
    for _ in range(count):
        await post.work(after=700)
    return await post.receipt(receipt)


CLEAN = [
    pytest.param(ProviderUnreachable("it went down"), id="down"),
    pytest.param(ProviderUnavailable("overloaded"), id="overloaded"),
    pytest.param(AuthenticationFailed("the key was revoked"), id="refused"),
    pytest.param(MessageRejected("no longer"), id="rejected"),
]


@pytest.mark.parametrize("then", CLEAN)
async def test_a_repeat_that_is_cleanly_refused_does_not_take_the_first_copy_back(
    make_outbox: MakeOutbox, stage: ModuleType, then: Exception
) -> None:
    first, second = script_of(stage, OutcomeUnknown("no answer"), then), stage.Script()
    async with make_outbox(first, second, on_unknown="retry", outbox={"attempts": 5}) as post:
        receipt = await rounds(post, await post.add(email()))
    assert second.calls == []
    assert len(first.calls) >= 2
    assert receipt.status is Status.IN_DOUBT
    assert receipt.recipients[0].outcome is Outcome.UNKNOWN


async def test_a_repeat_that_is_accepted_ends_the_doubt(make_outbox: MakeOutbox, stage: ModuleType) -> None:
    first, second = script_of(stage, OutcomeUnknown("no answer"), ProviderUnreachable("down"), None), stage.Script()
    async with make_outbox(first, second, on_unknown="retry") as post:
        receipt = await rounds(post, await post.add(email()))
    assert second.calls == []
    assert receipt.status is Status.SENT


async def test_a_message_in_doubt_is_not_moved_off_an_account_in_trouble(
    make_outbox: MakeOutbox, stage: ModuleType
) -> None:
    down: list[Exception | None] = [OutcomeUnknown("no answer") for _ in range(3)]
    first, second = script_of(stage, *down, AuthenticationFailed("paused for it"), None), stage.Script()
    async with make_outbox(first, second, on_unknown="retry", concurrency=1) as post:
        doubtful = [await post.add(email()) for _ in range(3)]
        await post.work()
        fresh = await post.add(email())
        for _ in range(12):
            await post.work(after=100)
        ended = [await post.receipt(receipt) for receipt in doubtful]
        moved = await post.receipt(fresh)
    assert {receipt.account for receipt in ended} == {"a0"}
    assert moved.status is Status.SENT
    served_by_second = {message.id for message in second.messages}
    assert not served_by_second & {receipt.id for receipt in doubtful}


async def test_only_those_of_whom_there_is_no_doubt_go_on_to_the_next_account(
    make_outbox: MakeOutbox, stage: ModuleType
) -> None:
    async def act(message: Email) -> Accepted:
        raise OutcomeUnknown(
            "half an answer",
            recipients=(
                RecipientResult(address=ANN, outcome=Outcome.UNKNOWN),
                RecipientResult(address=BOB, outcome=Outcome.TRANSIENT),
            ),
        )

    first, second = stage.Script(act), stage.Script()
    async with make_outbox(first, second, outbox={"attempts": 3}) as post:
        receipt = await rounds(post, await post.add(email(ANN, BOB)))
    assert second.recipients == [BOB]
    assert receipt.status is Status.IN_DOUBT
    assert {r.address: r.outcome for r in receipt.recipients} == {ANN: Outcome.UNKNOWN, BOB: Outcome.ACCEPTED}


async def test_a_killed_workers_message_is_not_sent_elsewhere_when_its_account_is_down_then(
    make_outbox: MakeOutbox, stage: ModuleType
) -> None:
    reached = asyncio.Event()

    async def hang(_: object) -> None:
        reached.set()
        await asyncio.Event().wait()

    first, second = stage.Script(hang), stage.Script()
    async with make_outbox(first, second, on_unknown="retry", outbox={"lease": 1, "grace": 0.01}) as post:
        accepted = await post.add(email())
        stop = asyncio.Event()
        working = asyncio.create_task(post.outbox.work(stop=stop))
        await reached.wait()
        stop.set()
        await working

        async def refuse(_: object) -> None:
            raise ProviderUnreachable("down")

        first.act = refuse
        receipt = await rounds(post, accepted)
    assert second.calls == []
    assert receipt.status in {Status.RETRYING, Status.IN_DOUBT}


async def test_a_doubt_that_the_provider_denies_lets_the_message_go_anywhere(
    make_outbox: MakeOutbox, stage: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing_there(_self: object, _attempt: object) -> NotTaken:
        return NotTaken()

    kind = stage.full.postroom_email_transport()
    monkeypatch.setattr(kind, "reconcile", nothing_there)
    monkeypatch.setattr(kind, "capabilities", replace(kind.capabilities, reconciles=True))
    first, second = script_of(stage, OutcomeUnknown("no answer"), ProviderUnreachable("down")), stage.Script()
    async with make_outbox(first, second) as post:
        receipt = await rounds(post, await post.add(email()))
    assert len(second.calls) == 1
    assert receipt.status is Status.SENT


async def test_a_message_that_expires_with_a_doubt_is_in_doubt(make_outbox: MakeOutbox, stage: ModuleType) -> None:
    first = script_of(stage, OutcomeUnknown("no answer"), ProviderUnreachable("down"))
    async with make_outbox(first, on_unknown="retry", outbox={"expires_after": 1000}) as post:
        receipt = await rounds(post, await post.add(email()))
    assert receipt.status is Status.IN_DOUBT


@pytest.mark.parametrize("repeats", [0, 1, 3])
async def test_a_message_whose_answers_are_lost_is_repeated_as_often_as_the_outbox_says_and_then_held(
    make_outbox: MakeOutbox, stage: ModuleType, repeats: int
) -> None:
    script = script_of(stage, OutcomeUnknown("no answer"))
    async with make_outbox(script, on_unknown="retry", outbox={"repeats": repeats}) as post:
        receipt = await rounds(post, await post.add(email()), count=12)
    assert len(script.calls) == 1 + repeats
    assert receipt.status is Status.IN_DOUBT


async def test_two_copies_are_the_most_by_default(make_outbox: MakeOutbox, stage: ModuleType) -> None:
    script = script_of(stage, OutcomeUnknown("no answer"))
    async with make_outbox(script, on_unknown="retry") as post:
        receipt = await rounds(post, await post.add(email()), count=12)
    assert len(script.calls) == 2
    assert receipt.status is Status.IN_DOUBT


@pytest.mark.parametrize(("outbox", "seconds"), [({}, 600), ({"repeat_after": "2h"}, 7200)], ids=["default", "set"])
async def test_a_repeat_waits_until_no_provider_is_at_work_on_the_copy_before(
    make_outbox: MakeOutbox, stage: ModuleType, outbox: dict[str, Any], seconds: int
) -> None:
    script = script_of(stage, OutcomeUnknown("no answer"), None)
    async with make_outbox(script, on_unknown="retry", outbox=outbox) as post:
        receipt = await post.add(email())
        await post.work()
        await post.work(after=seconds - 1)
        assert len(script.calls) == 1
        assert (await post.receipt(receipt)).status is Status.RETRYING
        await post.work(after=11)  # the random time of a retry, of 10 s at most here
        assert len(script.calls) == 2
        assert (await post.receipt(receipt)).status is Status.SENT


async def test_a_repeat_at_a_provider_that_drops_copies_itself_waits_no_longer_than_a_retry(
    make_outbox: MakeOutbox, stage: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = stage.full.postroom_email_transport()
    monkeypatch.setattr(kind, "capabilities", replace(kind.capabilities, deduplicates=True))
    script = script_of(stage, OutcomeUnknown("no answer"), None)
    async with make_outbox(script) as post:
        receipt = await post.add(email())
        await post.work()
        await post.work(after=11)
        assert len(script.calls) == 2
        assert (await post.receipt(receipt)).status is Status.SENT


async def test_a_provider_that_drops_copies_itself_may_be_asked_as_often_as_need_be(
    make_outbox: MakeOutbox, stage: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = stage.full.postroom_email_transport()
    monkeypatch.setattr(kind, "capabilities", replace(kind.capabilities, deduplicates=True))
    script = script_of(stage, *(OutcomeUnknown("no answer") for _ in range(5)), None)
    async with make_outbox(script) as post:
        receipt = await rounds(post, await post.add(email()), count=12)
    assert len(script.calls) == 6
    assert receipt.status is Status.SENT
