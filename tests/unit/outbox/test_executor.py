"""What becomes of a stored message: sent, another account, another round, given up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import ModuleType
from typing import Any, Never

import pytest
from engines.process import MakeOutbox, Process

from postroom import (
    AuthenticationFailed,
    Email,
    InvalidOption,
    MessageRejected,
    MissingCredential,
    Outcome,
    OutcomeUnknown,
    ProviderNotFound,
    ProviderUnavailable,
    ProviderUnreachable,
    RateLimited,
    RecipientResult,
    Sms,
    Status,
    UnsupportedFeature,
)
from postroom.mime import to_bytes
from postroom.outbox.executor import MessageExecutor
from postroom.outbox.records import ClaimedMessage, ClaimLimit, Settlement
from postroom.receipts import Accepted


def email(**more: Any) -> Email:
    return Email(**{"to": "ann@example.org", "subject": "hello", "text": "hello", **more})


def sms(**more: Any) -> Sms:
    return Sms(**{"to": "+442079460958", "body": "hello", **more})


def script_of(stage: ModuleType, *acts: Exception | None) -> Any:
    """A script whose hand-overs end as `acts` say, one after the other; the last one repeats."""
    left = list(acts)

    async def act(message: Email | Sms) -> Accepted:
        now = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(now, Exception):
            raise now
        accepted: Accepted = await stage.accept(message)
        return accepted

    return stage.Script(act)


def down() -> ProviderUnreachable:
    return ProviderUnreachable("cannot reach it")


OK = None


async def test_a_message_is_stored_then_sent_and_its_receipt_tells_how(
    make_outbox: MakeOutbox, stage: ModuleType
) -> None:
    script = stage.Script()
    async with make_outbox(script) as post:
        accepted = await post.add(email())
        assert accepted.status is Status.QUEUED
        assert script.calls == []
        await post.work()
        receipt = await post.receipt(accepted)
    assert receipt.status is Status.SENT
    assert receipt.provider_message_id == f"stage-{receipt.id}"
    assert [attempt.outcome for attempt in receipt.attempts] == [Outcome.ACCEPTED]
    [sent] = script.messages
    assert (sent.id, sent.message_id) == (accepted.id, accepted.message_id) == (receipt.id, receipt.message_id)
    assert sent.message_id == f"<{receipt.id}@example.org>"


async def test_a_transient_failure_is_tried_again_later_with_the_same_message_id(
    make_outbox: MakeOutbox, stage: ModuleType
) -> None:
    script = script_of(stage, ProviderUnavailable("later"), OK)
    async with make_outbox(script) as post:
        accepted = await post.add(email())
        await post.work()
        assert (await post.receipt(accepted)).status is Status.RETRYING
        await post.work()
        assert len(script.calls) == 1, "tried again before its time"
        await post.work(after=11)
        receipt = await post.receipt(accepted)
    assert receipt.status is Status.SENT
    assert [attempt.outcome for attempt in receipt.attempts] == [Outcome.TRANSIENT, Outcome.ACCEPTED]
    assert len({message.message_id for message in script.messages}) == 1


@pytest.mark.parametrize("wait", [None, 3600])
async def test_an_email_is_the_same_bytes_at_every_account_and_attempt(
    make_outbox: MakeOutbox, stage: ModuleType, wait: int | None
) -> None:
    """Or a signature over them would hold once."""
    first, second = script_of(stage, ProviderUnavailable("later")), script_of(stage, ProviderUnavailable("later"), OK)
    async with make_outbox(first, second) as post:
        begun = datetime.fromtimestamp(post.clock.now, UTC)
        due = begun + timedelta(seconds=wait) if wait else None
        await post.add(email(html="<p>hello</p>", id="order-7", send_at=due))
        for _ in range(4):
            await post.work(after=3700)
    tries = [*first.messages, *second.messages]
    assert len(tries) >= 3
    assert len({to_bytes(message) for message in tries}) == 1
    assert parsedate_to_datetime(message_from_bytes(to_bytes(tries[0]))["Date"]) == (due or begun)


async def test_the_next_account_of_the_route_is_tried_at_once(make_outbox: MakeOutbox, stage: ModuleType) -> None:
    first, second = script_of(stage, down()), stage.Script()
    async with make_outbox(first, second) as post:
        accepted = await post.add(email())
        await post.work()
        receipt = await post.receipt(accepted)
    assert (receipt.status, receipt.account) == (Status.SENT, "a1")
    assert [attempt.account for attempt in receipt.attempts] == ["a0", "a1"]


async def test_a_message_refused_for_good_is_a_dead_letter_and_can_be_sent_again(
    make_outbox: MakeOutbox, stage: ModuleType
) -> None:
    script = script_of(stage, MessageRejected("too rude"), OK)
    async with make_outbox(script) as post:
        accepted = await post.add(email())
        await post.work()
        assert (await post.receipt(accepted)).status is Status.FAILED
        assert (await post.outbox.retry(accepted.id)).status is Status.QUEUED
        await post.work()
        assert (await post.receipt(accepted)).status is Status.SENT


async def test_an_unknown_outcome_is_neither_retried_nor_failed_over(
    make_outbox: MakeOutbox, stage: ModuleType
) -> None:
    first, second = script_of(stage, OutcomeUnknown("no answer")), stage.Script()
    async with make_outbox(first, second) as post:
        accepted = await post.add(email())
        await post.work()
        await post.work(after=4000)
        shown = await post.outbox.get(accepted.id)
    assert shown.receipt.status is Status.IN_DOUBT
    assert (len(first.calls), len(second.calls)) == (1, 0)


@pytest.mark.parametrize(
    ("as_", "status", "sent"), [("sent", Status.SENT, 1), ("failed", Status.FAILED, 1), ("retry", Status.SENT, 2)]
)
async def test_a_person_settles_what_is_in_doubt(
    make_outbox: MakeOutbox, stage: ModuleType, as_: Any, status: Status, sent: int
) -> None:
    script = script_of(stage, OutcomeUnknown("no answer"), OK)
    async with make_outbox(script) as post:
        accepted = await post.add(email())
        await post.work()
        await post.outbox.resolve(accepted.id, as_, note="seen in its log")
        await post.work()
        receipt = await post.receipt(accepted)
    assert receipt.status is status
    assert len(script.calls) == sent


async def test_with_retry_an_unknown_outcome_is_sent_again_to_the_same_account_with_the_same_message_id(
    make_outbox: MakeOutbox, stage: ModuleType
) -> None:
    first, second = script_of(stage, OutcomeUnknown("no answer"), OK), stage.Script()
    async with make_outbox(first, second, on_unknown="retry") as post:
        accepted = await post.add(email())
        await post.work()
        assert (await post.receipt(accepted)).status is Status.RETRYING
        await post.work(after=611)
        receipt = await post.receipt(accepted)
    assert receipt.status is Status.SENT
    assert second.calls == []
    assert len({message.message_id for message in first.messages}) == 1


async def test_with_assume_sent_an_unknown_outcome_is_taken_for_sent(
    make_outbox: MakeOutbox, stage: ModuleType
) -> None:
    script = script_of(stage, OutcomeUnknown("no answer"))
    async with make_outbox(script, on_unknown="assume_sent") as post:
        accepted = await post.add(email())
        await post.work()
        assert (await post.receipt(accepted)).status is Status.SENT


async def test_only_recipients_who_were_not_served_are_tried_again(make_outbox: MakeOutbox, stage: ModuleType) -> None:
    calls: list[tuple[str, ...]] = []

    async def act(message: Email) -> Accepted:
        calls.append(message.recipients)
        if len(calls) > 1:
            return Accepted()
        kinds = dict(zip(message.recipients, (Outcome.ACCEPTED, Outcome.TRANSIENT, Outcome.PERMANENT), strict=True))
        return Accepted(recipients=tuple(RecipientResult(address=a, outcome=o) for a, o in kinds.items()))

    async with make_outbox(stage.Script(act)) as post:
        accepted = await post.add(email(to=["a@example.org", "b@example.org", "c@example.org"]))
        await post.work()
        assert (await post.receipt(accepted)).status is Status.RETRYING
        await post.work(after=11)
        receipt = await post.receipt(accepted)
    assert calls[1] == ("b@example.org",)
    assert receipt.status is Status.SENT
    assert [result.outcome for result in receipt.recipients] == [
        Outcome.ACCEPTED,
        Outcome.ACCEPTED,
        Outcome.PERMANENT,
    ]


async def test_a_message_to_many_numbers_goes_out_in_turns_and_is_settled_once(
    make_outbox: MakeOutbox, stage: ModuleType
) -> None:
    script = stage.Script()
    numbers = [f"+4420794609{number:02}" for number in range(60)]
    async with make_outbox(script) as post:
        accepted = await post.add(sms(to=numbers))
        await post.work()
        shown = await post.outbox.get(accepted.id)
    assert sorted(script.recipients) == sorted(numbers)
    assert shown.receipt.status is Status.SENT
    assert shown.attempts == 2
    assert len(shown.receipt.recipients) == 60


async def test_recipients_go_the_ways_their_rules_say(make_outbox: MakeOutbox, stage: ModuleType) -> None:
    britain, america = stage.Script(), stage.Script()
    rules = [{"country": "GB", "use": "gb"}, {"country": "US", "use": "us"}]
    accounts = {
        "gb": stage.StageSettings(script=britain, from_="+442079460000"),
        "us": stage.StageSettings(script=america, from_="+12025550100"),
    }
    async with make_outbox(stage.Script(), accounts=accounts, rules=rules) as post:
        accepted = await post.add(sms(to=["+442079460958", "+12025550123", "+442079460959"]))
        await post.work()
        receipt = await post.receipt(accepted)
    assert britain.recipients == ["+442079460958", "+442079460959"]
    assert america.recipients == ["+12025550123"]
    assert receipt.status is Status.SENT


async def test_a_message_is_given_up_after_its_rounds(make_outbox: MakeOutbox, stage: ModuleType) -> None:
    script = script_of(stage, down())
    async with make_outbox(script, outbox={"attempts": 3}) as post:
        accepted = await post.add(email())
        for _ in range(5):
            await post.work(after=10_000)
        receipt = await post.receipt(accepted)
    assert receipt.status is Status.FAILED
    assert len(script.calls) == 3


async def test_a_message_expires_where_it_waits(make_outbox: MakeOutbox, stage: ModuleType) -> None:
    script = script_of(stage, down())
    async with make_outbox(script, outbox={"expires_after": "1h"}) as post:
        accepted = await post.add(email())
        await post.work()
        await post.work(after=3601)
        receipt = await post.receipt(accepted)
    assert receipt.status is Status.EXPIRED
    assert len(script.calls) == 1


async def test_a_message_is_not_sent_after_its_own_expiry(make_outbox: MakeOutbox, stage: ModuleType) -> None:
    script = stage.Script()
    async with make_outbox(script) as post:
        accepted = await post.add(email(expires_at=datetime.fromtimestamp(post.clock.now + 60, UTC)))
        await post.work(after=61)
        assert (await post.receipt(accepted)).status is Status.EXPIRED
    assert script.calls == []


async def test_a_scheduled_message_waits_for_its_time_and_asks_nothing_of_the_provider(
    make_outbox: MakeOutbox, stage: ModuleType
) -> None:
    script = stage.Script()
    accounts = {"plain": stage.StageSettings(provider="stage-plain", script=script, from_="p@example.org")}
    async with make_outbox(stage.Script(), accounts=accounts) as post:
        later = datetime.fromtimestamp(post.clock.now + 3600, UTC)
        accepted = await post.add(email(send_at=later, provider="plain"))
        assert accepted.status is Status.SCHEDULED
        await post.work(after=3599)
        assert script.calls == []
        await post.work(after=1)
        assert (await post.receipt(accepted)).status is Status.SENT


async def test_urgent_messages_go_first_and_equals_in_their_order(make_outbox: MakeOutbox, stage: ModuleType) -> None:
    script = stage.Script()
    async with make_outbox(script, concurrency=1) as post:
        for subject, priority in (("1", "low"), ("2", "normal"), ("3", "high"), ("4", "normal"), ("5", "high")):
            await post.add(email(subject=subject, priority=priority))
        await post.work()
    assert [message.subject for message in script.messages] == ["3", "5", "2", "4", "1"]


async def test_a_batch_provider_gets_what_waits_in_one_call(make_outbox: MakeOutbox, stage: ModuleType) -> None:
    script = stage.Script()
    accounts = {"bulk": stage.StageSettings(provider="stage-batch", script=script, from_="p@example.org")}
    async with make_outbox(stage.Script(), accounts=accounts) as post:
        first = await post.add(email(provider="bulk"))
        await post.work()
        await post.outbox.add([email(provider="bulk") for _ in range(300)])
        await post.work()
        assert (await post.receipt(first)).status is Status.SENT
    assert [len(call) for call in script.calls] == [1, 300]


async def test_refused_credentials_pause_the_account_and_the_route_goes_on(
    make_outbox: MakeOutbox, stage: ModuleType
) -> None:
    first, second = script_of(stage, AuthenticationFailed("401")), stage.Script()
    async with make_outbox(first, second, concurrency=1) as post:
        await post.outbox.add([email() for _ in range(20)])
        await post.work()
        stats = await post.outbox.stats()
    assert len(first.calls) == 1
    assert len(second.calls) == 20
    [paused] = [health for health in stats.accounts if health.paused]
    assert (paused.queue, paused.reason) == ("a0/email", "authentication_failed")
    assert stats.states == {Status.SENT: 20}


async def test_messages_wait_for_a_paused_account_that_is_their_only_one_and_flow_when_it_is_resumed(
    make_outbox: MakeOutbox, stage: ModuleType
) -> None:
    script = script_of(stage, AuthenticationFailed("401"), OK)
    async with make_outbox(script, concurrency=1) as post:
        await post.outbox.add([email() for _ in range(5)])
        await post.work()
        assert len(script.calls) == 1
        assert await post.outbox.resume("a0")
        await post.work(after=11)
        assert (await post.outbox.stats()).states == {Status.SENT: 5}
        assert not await post.outbox.resume("a0")


async def test_a_paused_account_is_tried_again_by_one_message_after_a_while(
    make_outbox: MakeOutbox, stage: ModuleType
) -> None:
    script = script_of(stage, AuthenticationFailed("401"), AuthenticationFailed("401"), OK)
    async with make_outbox(script) as post:
        await post.outbox.add([email() for _ in range(50)])
        await post.work()
        assert len(script.calls) == 1
        await post.work(after=61)
        assert len(script.calls) == 2
        await post.work(after=300)
        assert (await post.outbox.stats()).states == {Status.SENT: 50}


async def test_retry_after_rests_the_account_for_every_message(make_outbox: MakeOutbox, stage: ModuleType) -> None:
    script = script_of(stage, RateLimited("slow down", retry_after=100), OK)
    async with make_outbox(script, concurrency=1) as post:
        await post.outbox.add([email() for _ in range(5)])
        await post.work()
        await post.work(after=99)
        assert len(script.calls) == 1
        await post.work(after=1.1)
        await post.work(after=11)
        assert (await post.outbox.stats()).states == {Status.SENT: 5}


async def test_what_no_account_can_express_is_refused_when_it_is_handed_in(
    make_outbox: MakeOutbox, stage: ModuleType
) -> None:
    accounts = {"plain": stage.StageSettings(provider="stage-plain", script=stage.Script(), from_="p@example.org")}
    async with make_outbox(stage.Script(), accounts=accounts) as post:
        with pytest.raises(UnsupportedFeature, match="plain: stage-plain cannot send html"):
            await post.add(email(html="<p>hello", provider="plain"))
        with pytest.raises(ProviderNotFound):
            await post.add(email(provider="nobody"))
        assert (await post.outbox.stats()).states == {}


async def test_a_message_without_a_sender_fails_with_the_reason(make_outbox: MakeOutbox, stage: ModuleType) -> None:
    async with make_outbox(stage.Script(), from_=None) as post:
        accepted = await post.add(email())
        await post.work()
        receipt = await post.receipt(accepted)
    assert receipt.status is Status.FAILED
    assert "no sender" in (receipt.recipients[0].detail or "")


async def test_a_waiting_message_can_be_cancelled_held_and_let_go(make_outbox: MakeOutbox, stage: ModuleType) -> None:
    script = stage.Script()
    async with make_outbox(script) as post:
        gone, kept = await post.add(email()), await post.add(email())
        assert (await post.outbox.cancel(gone.id)).status is Status.CANCELLED
        assert (await post.outbox.hold(kept.id)).status is Status.HELD
        await post.work(after=1_000)
        assert script.calls == []
        await post.outbox.retry(kept.id)
        await post.work()
        assert [message.id for message in script.messages] == [kept.id]


async def test_observers_hear_of_every_settled_message(stage: ModuleType, tmp_path: Path) -> None:
    from postroom import Config, Postroom

    config = Config(
        accounts={"a": stage.StageSettings(script=stage.Script(), from_="p@example.org")},
        plugins={"extensions": ["stage-observer"]},
        outbox={"url": f"sqlite:///{tmp_path}/o.db"},
    )
    async with Postroom(config) as room:
        receipt = await room.enqueue(email())
        await room.work(until_empty=True)
    assert [("observed", "sent", receipt.id)] == stage.LOG


async def test_a_plugin_that_raises_something_foreign_leaves_the_outcome_unknown(
    make_outbox: MakeOutbox, stage: ModuleType
) -> None:
    async def act(_: Email) -> Never:
        raise RuntimeError("a bug")

    async with make_outbox(stage.Script(act)) as post:
        accepted = await post.add(email())
        await post.work()
        assert (await post.receipt(accepted)).status is Status.IN_DOUBT


async def test_credentials_of_a_message_pause_nobody_else(make_outbox: MakeOutbox, stage: ModuleType) -> None:
    async def act(message: Email) -> Accepted:
        if message.options:
            raise AuthenticationFailed("401")
        return Accepted()

    async with make_outbox(stage.Script(act)) as post:
        own = await post.add(email(options={"token": "wrong"}))
        await post.work()
        await post.add(email())
        await post.work()
        assert (await post.receipt(own)).status is Status.FAILED
        assert (await post.outbox.stats()).states == {Status.FAILED: 1, Status.SENT: 1}


async def test_credentials_that_cannot_be_opened_stop_no_other_message_that_brings_its_own(
    make_outbox: MakeOutbox, stage: ModuleType
) -> None:
    async def opening() -> None:
        if script.opened == 1:
            raise MissingCredential("the key is none", path="accounts.a0")

    script = stage.Script(opening=opening)
    async with make_outbox(script, outbox={"attempts": 1}) as post:
        bad = await post.add(email(options={"token": "no key"}))
        await post.work()
        good = await post.add(email(options={"token": "a key"}))
        await post.work()
        assert (await post.receipt(bad)).status is Status.FAILED
        assert (await post.receipt(good)).status is Status.SENT
        assert await post.outbox.store.health() == {}


async def test_credentials_in_a_form_that_no_account_of_the_route_takes_are_refused_at_acceptance(
    make_outbox: MakeOutbox,
) -> None:
    async with make_outbox() as post:
        with pytest.raises(InvalidOption) as caught:
            await post.add(email(options={"tokn": "a key"}))
        assert caught.value.path == "options.tokn"
        assert (await post.outbox.stats()).states == {}


async def test_credentials_are_accepted_for_the_account_of_a_route_that_takes_them(
    make_outbox: MakeOutbox, stage: ModuleType
) -> None:
    async with make_outbox(accounts={"a1": {"provider": "memory"}}) as post:
        accepted = await post.add(email(options={"token": "a key"}))
        await post.work()
        assert (await post.receipt(accepted)).status is Status.SENT


async def rescued(post: Process, crashes: int, *, begun: bool) -> Settlement:
    """What becomes of a message after so many dead workers."""
    executor = MessageExecutor(post.accounts, post.router, post.settings, clock=post.clock)
    await post.add(email())
    worker = await post.store.register("w")
    for count in range(1, crashes + 1):
        got = await post.store.exchange(worker, [], [], {"a0/email": ClaimLimit(1, 1)})
        if got.claimed and begun:
            assert await post.store.begin(worker, got.claimed[0].seq, got.claimed[0].attempts)
        heir = await post.store.register("w")
        [message] = await post.store.rescue(worker, 0, heir)
        assert isinstance(message, ClaimedMessage)
        settlement = executor.rescued(message, {})
        assert (settlement.crashes, message.begun) == (count, begun)
        assert (await post.store.exchange(heir, [settlement], [], {})).kept == (True,)
        post.clock.now = max(post.clock.now, settlement.due_at) if count < crashes else post.clock.now
        worker = heir
    return settlement


async def test_a_message_that_was_not_begun_goes_back_at_once_and_later_after_a_random_time(
    make_outbox: MakeOutbox,
) -> None:
    waits = []
    for crashes in (1, 2, 3, 4):
        async with make_outbox(outbox={"retry_first": 100 + crashes}) as post:
            settlement = await rescued(post, crashes, begun=False)
            assert settlement.status is Status.QUEUED
            assert settlement.receipt.attempts == ()
            waits.append(settlement.due_at - post.clock.now)
            await post.outbox.cancel(settlement.receipt.id)
    assert waits[0] == 0.0
    assert all(wait > 0.0 for wait in waits[1:])


async def test_a_message_that_kills_its_worker_before_it_is_begun_has_failed_after_so_many(
    make_outbox: MakeOutbox,
) -> None:
    async with make_outbox(outbox={"crashes": 3}) as post:
        settlement = await rescued(post, 3, begun=False)
        assert settlement.status is Status.FAILED
        assert "3 workers died with the message in their hands" in str(settlement.receipt.recipients)
        await post.outbox.retry(settlement.receipt.id)
