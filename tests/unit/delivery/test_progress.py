"""Delivery progress: who may be tried again elsewhere, and who never, whatever the accounts answer."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from types import ModuleType
from typing import Any, Never

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.delivery import sending
from tests.unit.delivery.results import receipt_of
from tests.unit.delivery.sending import Act, raising, route_of

from postroom import (
    AuthenticationFailed,
    ConfigError,
    DeliveryError,
    Email,
    MessageRejected,
    Outcome,
    OutcomeUnknown,
    Postroom,
    PostroomError,
    ProviderUnavailable,
    RecipientResult,
    RecipientsRefused,
    Scope,
    Sms,
    Status,
    Suppressed,
    SuppressionReason,
)
from postroom.delivery.accounts import Target
from postroom.delivery.dispatcher import AttemptResult
from postroom.delivery.progress import DeliveryProgress
from postroom.delivery.receipt_errors import raise_for_receipt
from postroom.messages import Message
from postroom.plugin.settings import OnUnknown
from postroom.receipts import Accepted, Receipt

TO = ("one@example.org", "two@example.org", "three@example.org")
NUMBERS = ("+442079460951", "+442079460952", "+442079460953")

email = partial(sending.email, to=TO[:1], from_="post@example.org")

GOES_ON = {
    (Outcome.TRANSIENT, Scope.RECIPIENT): True,
    (Outcome.TRANSIENT, Scope.MESSAGE): True,
    (Outcome.TRANSIENT, Scope.ACCOUNT): True,
    (Outcome.PERMANENT, Scope.RECIPIENT): False,
    (Outcome.PERMANENT, Scope.MESSAGE): False,
    (Outcome.PERMANENT, Scope.ACCOUNT): True,
    (Outcome.UNKNOWN, Scope.RECIPIENT): False,
    (Outcome.UNKNOWN, Scope.MESSAGE): False,
    (Outcome.UNKNOWN, Scope.ACCOUNT): False,
}


def answering(**outcomes: Outcome) -> Act:
    """Answer with an outcome per recipient, by the word before its @."""

    async def act(message: Message) -> Accepted:
        results = tuple(
            RecipientResult(address=r, outcome=outcomes[r.partition("@")[0]], code="x") for r in message.recipients
        )
        if any(result.outcome is Outcome.ACCEPTED for result in results):
            return Accepted(provider_message_id="p", recipients=results)
        raise RecipientsRefused("nobody", outcome=Outcome.TRANSIENT, recipients=results)

    return act


@pytest.mark.parametrize(("outcome", "scope"), GOES_ON)
@pytest.mark.parametrize("kind", ["email", "sms"])
async def test_the_next_account_gets_only_what_surely_was_not_taken(
    stage: ModuleType, outcome: Outcome, scope: Scope, kind: str
) -> None:
    first = stage.Script(raising(DeliveryError("why", outcome=outcome, scope=scope, provider_code="77")))
    second = stage.Script()
    message = email() if kind == "email" else Sms(to=NUMBERS[0], body="hello")
    async with route_of(stage, first, second) as room:
        if GOES_ON[outcome, scope]:
            receipt = await room.send(message)
            assert (receipt.account, receipt.status) == ("a1", Status.SENT)
        else:
            with pytest.raises(DeliveryError) as caught:
                await room.send(message)
            receipt = receipt_of(caught.value)
            assert receipt.status is (Status.IN_DOUBT if outcome is Outcome.UNKNOWN else Status.FAILED)
    assert len(first.calls) == 1
    assert len(second.calls) == GOES_ON[outcome, scope]
    assert receipt.attempts[0].provider_code == "77"
    assert (receipt.attempts[0].outcome, receipt.attempts[0].scope) == (outcome, scope)
    assert len(receipt.recipients) == 1


async def test_only_those_refused_for_now_go_on_to_the_next_account(stage: ModuleType) -> None:
    first = stage.Script(answering(one=Outcome.ACCEPTED, two=Outcome.TRANSIENT, three=Outcome.PERMANENT))
    second = stage.Script()
    async with route_of(stage, first, second) as room:
        receipt = await room.send(email(to=TO))
    (narrowed,) = second.messages
    assert narrowed.recipients == ("two@example.org",)
    assert [a.email for a in narrowed.to] == list(TO)
    assert [(r.address, r.outcome) for r in receipt.recipients] == [
        (TO[0], Outcome.ACCEPTED),
        (TO[1], Outcome.ACCEPTED),
        (TO[2], Outcome.PERMANENT),
    ]
    assert (receipt.status, receipt.account, receipt.provider_message_id) == (Status.SENT, "a0", "p")
    assert [attempt.recipients for attempt in receipt.attempts] == [TO, TO[1:2]]


async def test_an_account_that_cannot_narrow_an_email_is_passed_over(stage: ModuleType) -> None:
    first = stage.Script(answering(one=Outcome.ACCEPTED, two=Outcome.TRANSIENT))
    second, third = stage.Script(), stage.Script()
    async with route_of(stage, first, second, third, providers=["stage", "stage-whole", "stage"]) as room:
        receipt = await room.send(email(to=TO[:2]))
    assert second.calls == []
    assert third.recipients == ["two@example.org"]
    assert [r.outcome for r in receipt.recipients] == [Outcome.ACCEPTED] * 2


async def test_a_whole_email_may_fail_over_to_an_account_that_cannot_narrow(stage: ModuleType) -> None:
    first, second = stage.Script(raising(ProviderUnavailable("later"))), stage.Script()
    async with route_of(stage, first, second, providers=["stage", "stage-whole"]) as room:
        assert (await room.send(email(to=TO))).account == "a1"
    assert second.recipients == list(TO)


async def test_numbers_of_one_sms_go_their_own_ways(stage: ModuleType) -> None:
    def by_number(answers: dict[str, Accepted | Exception]) -> Act:
        async def act(message: Message) -> Accepted:
            answer = answers[message.recipients[0]]
            if isinstance(answer, Exception):
                raise answer
            return answer

        return act

    first = stage.Script(
        by_number({NUMBERS[0]: Accepted(), NUMBERS[1]: ProviderUnavailable("later"), NUMBERS[2]: OutcomeUnknown("?")})
    )
    second = stage.Script(by_number({NUMBERS[1]: MessageRejected("no")}))
    async with route_of(stage, first, second) as room:
        receipt = await room.send(Sms(to=NUMBERS, body="hello"))
    assert [r.outcome for r in receipt.recipients] == [Outcome.ACCEPTED, Outcome.PERMANENT, Outcome.UNKNOWN]
    assert receipt.status is Status.IN_DOUBT
    assert second.recipients == [NUMBERS[1]]
    assert len(receipt.attempts) == 4


async def test_an_account_may_assume_that_an_unknown_message_was_sent(stage: ModuleType) -> None:
    first, second = stage.Script(raising(OutcomeUnknown("quiet"))), stage.Script()
    async with route_of(stage, first, second, on_unknown="assume_sent") as room:
        receipt = await room.send(email())
    assert receipt.status is Status.SENT
    assert receipt.recipients[0].outcome is Outcome.UNKNOWN
    assert second.calls == []


@pytest.mark.parametrize("on_unknown", ["hold", "retry"])
async def test_an_unknown_message_is_not_sent_again_by_a_direct_send(stage: ModuleType, on_unknown: OnUnknown) -> None:
    first, second = stage.Script(raising(OutcomeUnknown("quiet"))), stage.Script()
    async with route_of(stage, first, second, on_unknown=on_unknown) as room:
        with pytest.raises(OutcomeUnknown):
            await room.send(email())
    assert (len(first.calls), len(second.calls)) == (1, 0)


async def test_a_yes_for_nobody_is_no_yes(stage: ModuleType) -> None:
    async def act(message: Message) -> Accepted:
        return Accepted(
            recipients=tuple(RecipientResult(address=r, outcome=Outcome.TRANSIENT) for r in message.recipients)
        )

    async with route_of(stage, stage.Script(act)) as room:
        with pytest.raises(RecipientsRefused) as caught:
            await room.send(email(to=TO))
    assert caught.value.outcome is Outcome.TRANSIENT
    assert receipt_of(caught.value).status is Status.FAILED


async def test_a_yes_for_nobody_with_a_doubt_in_it_is_unknown(stage: ModuleType) -> None:
    async def act(message: Message) -> Accepted:
        outcomes = [Outcome.UNKNOWN, Outcome.PERMANENT, Outcome.TRANSIENT]
        return Accepted(
            recipients=tuple(
                RecipientResult(address=r, outcome=o) for r, o in zip(message.recipients, outcomes, strict=True)
            )
        )

    second = stage.Script()
    async with route_of(stage, stage.Script(act), second) as room:
        receipt = await room.send(email(to=TO))
    assert second.recipients == [TO[2]]
    assert receipt.status is Status.IN_DOUBT


async def test_an_error_that_admits_an_acceptance_is_not_raised(stage: ModuleType) -> None:
    async def act(message: Message) -> Never:
        results = [RecipientResult(address=message.recipients[0], outcome=Outcome.ACCEPTED)]
        raise RecipientsRefused("some", recipients=tuple(results))

    async with route_of(stage, stage.Script(act)) as room:
        receipt = await room.send(email(to=TO[:2]))
    assert receipt.status is Status.SENT
    assert [r.outcome for r in receipt.recipients] == [Outcome.ACCEPTED, Outcome.PERMANENT]


async def test_a_doubt_outweighs_a_later_refusal(stage: ModuleType) -> None:
    first = stage.Script(answering(one=Outcome.UNKNOWN, two=Outcome.TRANSIENT))
    second = stage.Script(raising(MessageRejected("no")))
    async with route_of(stage, first, second) as room:
        with pytest.raises(DeliveryError) as caught:
            await room.send(email(to=TO[:2]))
    assert caught.value.outcome is Outcome.UNKNOWN
    assert receipt_of(caught.value).status is Status.IN_DOUBT


async def test_an_account_with_wrong_settings_is_passed_over_and_the_receipt_kept(stage: ModuleType) -> None:
    first = stage.Script(answering(one=Outcome.ACCEPTED, two=Outcome.TRANSIENT))
    accounts = {
        "a0": stage.StageSettings(script=first, from_="post@example.org"),
        "a1": {"provider": "stage", "token": {"env": "NOT_SET_AT_ALL"}},
        "a2": stage.StageSettings(script=(third := stage.Script())),
    }
    async with Postroom(accounts=accounts, routes={"r": {"via": ["a0", "a1"]}, "s": {"via": ["a1", "a2"]}}) as room:
        receipt = await room.send(email(to=TO[:2], provider="r"))
        assert [r.outcome for r in receipt.recipients] == [Outcome.ACCEPTED, Outcome.TRANSIENT]
        assert (await room.send(Sms(to=NUMBERS[0], body="x", provider="s"))).account == "a2"
        with pytest.raises(ConfigError, match=r"accounts\.a1\.token"):
            await room.send(Sms(to=NUMBERS[0], body="x", provider="a1"))
    assert len(third.calls) == 1


async def test_an_error_is_raised_with_every_attempt_in_its_receipt(stage: ModuleType) -> None:
    scripts = [stage.Script(raising(AuthenticationFailed("401"))), stage.Script(raising(ProviderUnavailable("503")))]
    async with route_of(stage, *scripts) as room:
        with pytest.raises(ProviderUnavailable) as caught:
            await room.send(email())
    assert [(a.account, a.error) for a in receipt_of(caught.value).attempts] == [
        ("a0", "authentication_failed"),
        ("a1", "provider_unavailable"),
    ]


@dataclass
class World:
    """A route's accounts, each with the fate it deals to a recipient; what really was handed over."""

    fates: list[dict[str, tuple[Outcome, Scope]]]
    handed: list[tuple[int, str]] = field(default_factory=list)

    def act(self, index: int) -> Act:
        async def hand_over(message: Message) -> Accepted:
            self.handed += [(index, r) for r in message.recipients]
            return self.answer(index, message)

        return hand_over

    def answer(self, index: int, message: Message) -> Accepted:
        fates = [self.fates[index][r] for r in message.recipients]
        results = tuple(
            RecipientResult(address=r, outcome=outcome)
            for r, (outcome, _) in zip(message.recipients, fates, strict=True)
        )
        if any(r.outcome is Outcome.ACCEPTED for r in results):
            return Accepted(recipients=results)
        worst = max(fates, key=lambda fate: fate[0] is Outcome.UNKNOWN)
        raise DeliveryError("no", outcome=worst[0], scope=fates[0][1], recipients=results)

    def judge(self, recipients: Sequence[str], receipt: Receipt, error: DeliveryError | None) -> None:
        final: dict[str, Outcome] = {}
        for index, recipient in self.handed:
            before = final.get(recipient)
            assert before not in (Outcome.ACCEPTED, Outcome.UNKNOWN), f"{recipient} was handed over twice"
            final[recipient] = self.fates[index][recipient][0]
        recorded = {r.address: r.outcome for r in receipt.recipients}
        assert len(receipt.recipients) == len(set(recipients))
        assert recorded == final
        assert (error is None) == (Outcome.ACCEPTED in final.values())
        in_doubt = Outcome.UNKNOWN in final.values()
        assert (receipt.status is Status.IN_DOUBT) == in_doubt
        if error is not None and in_doubt:
            assert error.outcome is Outcome.UNKNOWN


FATES = [(outcome, scope) for outcome in Outcome for scope in Scope]


async def fate_of(stage: ModuleType, world: World, message: Email | Sms) -> tuple[Receipt, DeliveryError | None]:
    scripts = [stage.Script(world.act(index)) for index in range(len(world.fates))]
    async with route_of(stage, *scripts) as room:
        try:
            return await room.send(message), None
        except DeliveryError as error:
            return receipt_of(error), error


@pytest.mark.slow
@given(data=st.data())
@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nobody_is_ever_served_twice_and_everybody_ends_with_one_result(stage: ModuleType, data: st.DataObject) -> None:
    recipients = data.draw(st.sampled_from([NUMBERS[:1], NUMBERS, TO[:1], TO[:2], TO]))
    fate = st.fixed_dictionaries({r: st.sampled_from(FATES) for r in recipients})
    world = World(data.draw(st.lists(fate, min_size=1, max_size=3)))
    message = Sms(to=recipients, body="hello") if recipients[0][0] == "+" else email(to=recipients)
    receipt, error = asyncio.run(fate_of(stage, world, message))
    world.judge(recipients, receipt, error)


async def test_every_pair_of_fates_of_one_recipient_on_two_accounts(stage: ModuleType) -> None:
    for first, second in itertools.product(FATES, repeat=2):
        world = World([{TO[0]: first}, {TO[0]: second}])
        receipt, error = await fate_of(stage, world, email())
        world.judge(TO[:1], receipt, error)
        goes_on = first[0] is not Outcome.ACCEPTED and GOES_ON[first]
        assert len(world.handed) == 1 + goes_on


def test_assuming_at_one_account_does_not_hide_a_doubt_at_another() -> None:
    message = Sms(to=["+15005550001", "+15005550002"], body="x")
    progress = DeliveryProgress(message, "0" * 32)
    moment = datetime.now(UTC)
    one, two = Target("one", "stage"), Target("two", "stage")
    progress.record(one, AttemptResult(("+15005550001",), moment, 0.1, OutcomeUnknown("one")), assume_sent=True)
    progress.record(two, AttemptResult(("+15005550002",), moment, 0.1, OutcomeUnknown("two")))

    assert progress.receipt().status is Status.IN_DOUBT
    with pytest.raises(OutcomeUnknown, match="one"):
        raise_for_receipt(progress.receipt(), progress.errors)


def test_a_doubt_beside_an_acceptance_is_still_known_when_the_message_is_taken_up_again() -> None:
    message = email(to=TO[:2], id="m")
    doubtful = RecipientResult(address=TO[1], outcome=Outcome.UNKNOWN)
    progress = DeliveryProgress(message, "m")
    answer = Accepted(recipients=(RecipientResult.accepted(TO[0]), doubtful))
    progress.record(Target("one", "stage"), AttemptResult(message.recipients, datetime.now(UTC), 0.1, answer))

    resumed = DeliveryProgress.resumed(message, progress.receipt(), ())
    assert resumed.doubted_at == progress.doubted_at == {TO[1]: "one"}
    assert resumed.in_doubt == TO[1:2]
    assert resumed.status is Status.IN_DOUBT


def attempted(progress: DeliveryProgress, answer: Accepted | PostroomError, *, at: datetime, **more: Any) -> None:
    recipients = more.pop("recipients", progress.message.recipients)
    progress.record(Target("one", "stage"), AttemptResult(recipients, at, 0.1, answer), **more)


def test_a_message_that_nobody_has_tried_yet_has_not_been_suppressed() -> None:
    progress = DeliveryProgress(email(to=TO), "m")
    assert (progress.status, progress.untouched, progress.results) == (Status.FAILED, True, ())
    assert progress.pending(TO[:2]) == TO[:2]
    assert progress.last_attempt is None


def test_a_doubt_dates_from_the_last_attempt_that_left_it() -> None:
    progress = DeliveryProgress(email(to=TO), "m")
    first, second, third = (datetime(2030, 1, day, tzinfo=UTC) for day in (1, 2, 3))
    assert progress.unknown_since(TO) is None
    attempted(progress, OutcomeUnknown("quiet"), at=first)
    attempted(progress, OutcomeUnknown("quiet"), at=second, recipients=TO[:1])
    attempted(progress, ProviderUnavailable("later"), at=third)
    assert [progress.unknown_since((recipient,)) for recipient in TO] == [second, first, first]
    assert progress.unknown_since(TO) == second


def test_what_a_provider_is_found_to_have_is_served_and_in_doubt_no_more() -> None:
    progress = DeliveryProgress(email(to=TO[:2]), "m")
    attempted(progress, OutcomeUnknown("quiet"), at=datetime.now(UTC))
    progress.record_found(Target("one", "stage"), TO[:1], Accepted(provider_message_id="p"))
    assert progress.in_doubt == TO[1:2]
    found = progress.result(TO[0])
    assert found
    assert (found.outcome, found.provider_message_id) == (Outcome.ACCEPTED, "p")
    assert (progress.receipt().account, progress.receipt().provider_message_id) == ("one", "p")


def test_what_a_provider_has_nothing_of_may_be_tried_anywhere() -> None:
    progress = DeliveryProgress(email(to=TO[:2]), "m")
    attempted(progress, OutcomeUnknown("quiet"), at=datetime.now(UTC))
    progress.record_not_taken(TO[:1])
    assert (progress.pending(TO[:2]), progress.in_doubt, progress.doubted_at) == (TO[:1], TO[1:2], {TO[1]: "one"})
    found = progress.result(TO[0])
    assert found
    assert (found.outcome, found.detail) == (Outcome.TRANSIENT, "the provider has nothing of it")


def test_a_doubt_that_is_released_may_be_tried_again_and_one_that_is_held_may_not() -> None:
    progress = DeliveryProgress(email(to=TO[:2]), "m")
    attempted(progress, OutcomeUnknown("quiet"), at=datetime.now(UTC))
    progress.hold(TO[:1])
    assert (progress.pending(TO[:2]), progress.in_doubt) == ((), TO[:2])
    progress.release(TO[:2])
    progress.hold(TO[1:2])
    assert (progress.pending(TO[:2]), progress.in_doubt) == (TO[:1], TO[1:2])


def test_a_doubt_that_is_taken_for_served_is_sent() -> None:
    progress = DeliveryProgress(email(to=TO[:1]), "m")
    attempted(progress, OutcomeUnknown("quiet"), at=datetime.now(UTC))
    progress.assume_sent(TO[:1])
    assert (progress.status, progress.in_doubt) == (Status.SENT, ())


def test_only_a_message_all_of_whose_recipients_are_suppressed_is() -> None:
    progress = DeliveryProgress(email(to=TO[:2]), "m")
    progress.suppress({TO[0]: Suppressed("asked us to stop"), "nobody@example.org": Suppressed("not of this message")})
    assert (progress.pending(TO[:2]), progress.untouched) == (TO[1:2], False)
    assert [result.address for result in progress.results] == [TO[0]]
    attempted(progress, MessageRejected("no"), at=datetime.now(UTC), recipients=TO[1:2])
    assert progress.status is Status.FAILED
    assert [result.code for result in progress.results] == ["suppressed", "message_rejected"]


def test_an_account_that_did_not_try_takes_no_result_away() -> None:
    progress = DeliveryProgress(email(to=TO[:1]), "m")
    attempted(progress, ProviderUnavailable("later"), at=datetime.now(UTC))
    progress.skip(TO[:1], ConfigError("no token"))
    assert [result.code for result in progress.results] == ["provider_unavailable"]
    assert [error.code for error in progress.errors] == ["provider_unavailable", "config_error"]
    assert progress.receipt(Status.RETRYING).status is Status.RETRYING


def test_a_message_taken_up_again_goes_on_where_its_receipt_ends() -> None:
    message = email(to=TO, id="m")
    progress = DeliveryProgress(message, "m")
    progress.message_id = "<m@example.org>"
    attempted(progress, Accepted(provider_message_id="p"), at=datetime.now(UTC), recipients=TO[:1])
    attempted(progress, ProviderUnavailable("later"), at=datetime.now(UTC), recipients=TO[1:2])
    resumed = DeliveryProgress.resumed(message, progress.receipt(), TO[1:2])
    assert resumed.receipt() == progress.receipt()
    assert (resumed.untouched, resumed.pending(TO), resumed.last_attempt) == (False, TO[1:2], progress.last_attempt)
    assert DeliveryProgress.resumed(message, progress.receipt(), None).pending(TO) == TO


def test_a_message_that_was_passed_over_before_it_was_prepared_keeps_its_own_message_id() -> None:
    message = email(id="m", message_id="<own@example.org>")
    bare = DeliveryProgress(message, "m").receipt().model_copy(update={"message_id": None})
    assert DeliveryProgress.resumed(message, bare, None).message_id == "<own@example.org>"


def test_the_last_attempt_and_those_that_left_a_doubt_are_told_apart_from_the_others() -> None:
    progress = DeliveryProgress(email(to=TO[:2]), "m")
    moments = [datetime(2030, 1, day, tzinfo=UTC) for day in (1, 2, 3, 4)]
    attempted(progress, ProviderUnavailable("later"), at=moments[0])
    attempted(progress, OutcomeUnknown("quiet"), at=moments[1])
    attempted(progress, OutcomeUnknown("quiet"), at=moments[2], recipients=TO[:1])
    attempted(progress, MessageRejected("no"), at=moments[3], recipients=TO[:1])
    assert progress.last_attempt
    assert progress.last_attempt.started_at == moments[3]
    assert [progress.unknown_attempts(recipient) for recipient in TO] == [2, 1, 0]


def test_an_error_with_a_result_for_each_recipient_stays_the_error_it_is() -> None:
    progress = DeliveryProgress(email(to=TO[:1]), "m")
    result = RecipientResult(address=TO[0], outcome=Outcome.PERMANENT, code="550")
    error = AuthenticationFailed("wrong key", provider_code="535", recipients=(result,))
    attempted(progress, error, at=datetime.now(UTC))
    assert progress.errors == [error]
    assert progress.last_attempt
    assert (progress.last_attempt.error, progress.last_attempt.provider_code) == ("authentication_failed", "535")
    assert progress.results == (result,)


@pytest.mark.parametrize(
    ("outcomes", "kind", "outcome"),
    [
        ((Outcome.PERMANENT, Outcome.UNKNOWN), OutcomeUnknown, Outcome.UNKNOWN),
        ((Outcome.TRANSIENT, Outcome.UNKNOWN), OutcomeUnknown, Outcome.UNKNOWN),
        ((Outcome.PERMANENT, Outcome.TRANSIENT), RecipientsRefused, Outcome.TRANSIENT),
        ((Outcome.PERMANENT, Outcome.PERMANENT), RecipientsRefused, Outcome.PERMANENT),
    ],
)
def test_a_yes_for_nobody_is_the_error_that_its_recipients_add_up_to(
    outcomes: tuple[Outcome, Outcome], kind: type[DeliveryError], outcome: Outcome
) -> None:
    progress = DeliveryProgress(email(to=TO[:2]), "m")
    results = tuple(
        RecipientResult(address=address, outcome=each, code="x") for address, each in zip(TO[:2], outcomes, strict=True)
    )
    attempted(progress, Accepted(provider_message_id="p", recipients=results), at=datetime.now(UTC))
    [error] = progress.errors
    assert isinstance(error, kind)
    assert (error.outcome, error.recipients) == (outcome, results)
    assert progress.last_attempt
    assert progress.last_attempt.outcome is outcome
    assert (progress.results, progress.receipt().provider_message_id) == (results, None)


def test_only_who_was_refused_for_good_and_for_a_reason_is_to_be_suppressed() -> None:
    progress = DeliveryProgress(email(to=TO), "m")
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    results = tuple(
        RecipientResult(address=address, outcome=outcome, code="x", suppress=reason)
        for address, outcome, reason in (
            (TO[0], Outcome.PERMANENT, SuppressionReason.BOUNCED),
            (TO[1], Outcome.PERMANENT, None),
            (TO[2], Outcome.TRANSIENT, SuppressionReason.BOUNCED),
        )
    )
    attempted(progress, RecipientsRefused("no", recipients=results), at=moment)
    assert progress.to_suppress == [(moment, results[0])]


def test_an_attempt_keeps_what_the_provider_said_with_its_refusal() -> None:
    progress = DeliveryProgress(email(to=TO[:1]), "m")
    known: dict[str, Any] = {
        "provider_code": "77",
        "status": 503,
        "retry_after": 9.5,
        "request_id": "req-1",
        "detail": "closed today",
    }
    attempted(progress, ProviderUnavailable("later", **known), at=datetime.now(UTC))
    assert {name: getattr(progress.last_attempt, name) for name in known} == known


def test_a_message_all_of_whose_recipients_are_suppressed_is_suppressed() -> None:
    progress = DeliveryProgress(email(to=TO[:2]), "m")
    progress.suppress({recipient: Suppressed("asked us to stop") for recipient in TO[:2]})
    assert progress.status is Status.SUPPRESSED


def test_a_recipient_in_doubt_who_is_tried_again_there_and_accepted_is_served() -> None:
    progress = DeliveryProgress(email(to=TO[:1]), "m")
    attempted(progress, OutcomeUnknown("quiet"), at=datetime.now(UTC))
    progress.release(TO[:1])
    attempted(progress, Accepted(), at=datetime.now(UTC))
    assert (progress.status, progress.doubted_at, progress.pending(TO[:1])) == (Status.SENT, {}, ())


def test_a_refusal_does_not_take_an_earlier_copy_back() -> None:
    progress = DeliveryProgress(email(to=TO[:1]), "m")
    attempted(progress, OutcomeUnknown("first"), at=datetime.now(UTC))
    progress.release(TO[:1])
    attempted(progress, MessageRejected("no"), at=datetime.now(UTC))
    [result] = progress.results
    assert (result.outcome, result.code) == (Outcome.UNKNOWN, "outcome_unknown")
    assert (progress.status, progress.in_doubt) == (Status.IN_DOUBT, TO[:1])


def test_a_refusal_elsewhere_is_not_taken_for_the_doubt_when_the_message_is_taken_up_again() -> None:
    message = email(to=TO[:1], id="m")
    progress = DeliveryProgress(message, "m")
    attempted(progress, OutcomeUnknown("quiet"), at=datetime.now(UTC))
    progress.release(TO[:1])
    refused = AttemptResult(TO[:1], datetime.now(UTC), 0.1, MessageRejected("no"))
    progress.record(Target("two", "stage"), refused)
    assert DeliveryProgress.resumed(message, progress.receipt(), ()).doubted_at == {TO[0]: "one"}


def test_who_is_suppressed_before_a_repeat_stays_in_doubt_and_who_was_only_put_off_does_not() -> None:
    progress = DeliveryProgress(email(to=TO[:2]), "m")
    attempted(progress, OutcomeUnknown("quiet"), at=datetime.now(UTC), recipients=TO[:1])
    attempted(progress, ProviderUnavailable("later"), at=datetime.now(UTC), recipients=TO[1:2])
    progress.release(TO[:1])
    progress.suppress({recipient: Suppressed("listed") for recipient in TO[:2]})
    assert [result.code for result in progress.results] == ["outcome_unknown", "suppressed"]
    assert (progress.in_doubt, progress.pending(TO[:2])) == (TO[:1], ())


def test_a_second_doubt_stays_at_the_account_of_the_first_and_has_the_words_of_the_last() -> None:
    progress = DeliveryProgress(email(to=TO[:1]), "m")
    attempted(progress, OutcomeUnknown("first", detail="first"), at=datetime.now(UTC))
    again = AttemptResult(TO[:1], datetime.now(UTC), 0.1, OutcomeUnknown("second", detail="second"))
    progress.record(Target("two", "stage"), again)
    assert progress.doubted_at == {TO[0]: "one"}
    assert [result.detail for result in progress.results] == ["second"]


def test_the_first_account_that_took_the_message_stands_in_the_receipt() -> None:
    progress = DeliveryProgress(email(to=TO), "m")
    taken = Accepted(provider_message_id="p", request_id="req-1", detail="queued")
    attempted(progress, taken, at=datetime.now(UTC), recipients=TO[:1])
    attempted(progress, OutcomeUnknown("quiet"), at=datetime.now(UTC), recipients=TO[1:2])
    progress.record_found(Target("two", "stage"), TO[1:2], Accepted(provider_message_id="q"))
    receipt = progress.receipt()
    assert (receipt.account, receipt.provider_message_id) == ("one", "p")
    assert (receipt.attempts[0].request_id, receipt.attempts[0].detail) == ("req-1", "queued")
    assert [result.provider_message_id for result in receipt.recipients] == ["p", "q"]
