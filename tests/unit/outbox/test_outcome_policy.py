"""A doubt stays with the account that may have sent the message: it is tried again there, or settled, never elsewhere."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from types import ModuleType
from typing import Any

import pytest
from engines.process import START, Clock, MakeOutbox, Process

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
    Scope,
    Sms,
    Status,
)
from postroom.config.model import parse_config
from postroom.delivery.accounts import Accounts, Target
from postroom.delivery.dispatcher import AttemptResult
from postroom.delivery.middleware import SendMiddleware
from postroom.delivery.progress import DeliveryProgress
from postroom.delivery.routing import Router
from postroom.errors import OutboxError, PostroomError, UnsupportedFeature
from postroom.outbox.outcome_policy import OutcomePolicy
from postroom.outbox.records import NEVER, ClaimedMessage, Progress, ProviderId, Settlement, UnreadableMessage
from postroom.outbox.retry_policy import QUESTIONS
from postroom.receipts import Channel
from postroom.registry.registry import Registry

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


# --- one decision at a time, without a storage

MakePolicy = Callable[..., OutcomePolicy]
FIRST, REPEAT_AFTER = 10.0, 100.0


@pytest.fixture
def policy_of(stage: ModuleType) -> MakePolicy:
    """Makes the policy of an outbox whose one route has the accounts a0 and a1; `outbox` are settings of it."""

    def make(*, outbox: dict[str, Any] | None = None, defaults: bool = True, **settings: Any) -> OutcomePolicy:
        accounts = {f"a{n}": stage.StageSettings(script=stage.Script(), **settings) for n in range(2)}
        config = parse_config(
            {
                "accounts": accounts,
                "routes": {"r": {"via": list(accounts)}},
                "defaults": {"email": "r"} if defaults else {},
                "outbox": {"retry_first": FIRST, "repeat_after": REPEAT_AFTER, **(outbox or {})},
            }
        )
        registry = Registry()
        made = Accounts(config, registry, SendMiddleware())
        return OutcomePolicy(made, Router(config, registry), config.outbox, clock=Clock(), rng=random.Random(1))

    return make


def claimed(*to: str, queue: str = "a0/email", **known: Any) -> ClaimedMessage:
    """A message in a worker's hands, at the account a0 unless `queue` says otherwise."""
    message = email(*to).stamped(id="m1")
    usual: dict[str, Any] = {"status": Status.SENDING, "attempts": 3, "crashes": 0, "expires_at": NEVER}
    usual |= {"begun_at": START, "created_at": datetime.fromtimestamp(START, UTC)}
    usual |= {"single_round": False, "size": 1, "progress": Progress(), "receipt": None}
    return ClaimedMessage(seq=7, id="m1", queue=queue, route="r", **{"message": message, **usual, **known})


def after(entry: ClaimedMessage, *attempts: tuple[str, Accepted | PostroomError]) -> DeliveryProgress:
    """How far `entry` has come after attempts at accounts that were answered so, each for all who were left."""
    delivery = DeliveryProgress(entry.message, entry.id)
    for account, answer in attempts:
        result = AttemptResult(delivery.pending(entry.message.recipients), datetime.now(UTC), 0.1, answer)
        delivery.record(Target(account, "stage"), result)
        delivery.release(delivery.in_doubt)  # so that a later attempt may be one of a repeat
    delivery.hold(tuple(delivery.doubted_at))
    return delivery


def decided(
    policy: OutcomePolicy, entry: ClaimedMessage, delivery: DeliveryProgress, *, asked: int | None = None
) -> Settlement:
    more = {} if asked is None else {"asked": asked}
    return policy.next(entry, delivery, entry.message.recipients, {}, **more)


def drawn(rounds: int) -> float:
    """The wait that the policy's generator gives after so many rounds, as its first."""
    return random.Random(1).uniform(0, FIRST * 2.0 ** (rounds - 1))


BUSY = ProviderUnavailable("overloaded")
LOST = OutcomeUnknown("no answer")


def test_an_account_that_did_not_take_a_message_is_followed_by_the_next_at_once(policy_of: MakePolicy) -> None:
    entry = claimed()
    found = decided(policy_of(), entry, after(entry, ("a0", BUSY)))
    assert (found.seq, found.attempts, found.status, found.crashes) == (7, 3, Status.RETRYING, 0)
    assert (found.queue, found.route, found.due_at) == ("a1/email", "r", START)
    assert found.progress == Progress(tried={"a0": [ANN]})
    assert (found.receipt.status, found.receipt.account) == (Status.RETRYING, "a0")


def test_the_last_account_of_a_round_is_followed_by_a_wait_and_the_first_of_the_next_round(
    policy_of: MakePolicy,
) -> None:
    entry = claimed(queue="a1/email", progress=Progress(tried={"a0": [ANN]}, rounds=2))
    found = decided(policy_of(), entry, after(entry, ("a0", BUSY), ("a1", BUSY)))
    assert (found.status, found.queue) == (Status.RETRYING, "a0/email")
    assert found.progress == Progress(rounds=3)
    assert found.due_at == START + drawn(3)


def test_within_a_round_the_count_of_rounds_stays(policy_of: MakePolicy) -> None:
    entry = claimed(progress=Progress(tried={"gone": [ANN]}, rounds=2))
    found = decided(policy_of(), entry, after(entry, ("a0", BUSY)))
    assert found.progress == Progress(tried={"gone": [ANN], "a0": [ANN]}, rounds=2)


def test_only_those_who_are_left_go_on(policy_of: MakePolicy) -> None:
    entry = claimed(ANN, BOB)
    answers = tuple(
        RecipientResult(address=address, outcome=outcome)
        for address, outcome in ((ANN, Outcome.ACCEPTED), (BOB, Outcome.TRANSIENT))
    )
    found = decided(policy_of(), entry, after(entry, ("a0", Accepted(recipients=answers))))
    assert (found.queue, found.due_at) == ("a1/email", START)
    assert found.progress == Progress(pending=(BOB,), recipients=(BOB,), tried={"a0": [ANN, BOB]})


@pytest.mark.parametrize(("scope", "more"), [(Scope.MESSAGE, 30.0), (Scope.ACCOUNT, 0.0)])
def test_a_message_waits_for_what_the_provider_asked_of_it_and_not_for_what_it_asked_of_the_account(
    policy_of: MakePolicy, scope: Scope, more: float
) -> None:
    entry = claimed(queue="a1/email", progress=Progress(tried={"a0": [ANN]}))
    asks = ProviderUnavailable("later", retry_after=30.0, scope=scope)
    assert decided(policy_of(), entry, after(entry, ("a1", asks))).due_at == START + drawn(1) + more


def test_no_wait_outlasts_the_message(policy_of: MakePolicy) -> None:
    entry = claimed(queue="a1/email", progress=Progress(tried={"a0": [ANN]}), expires_at=START + 0.5)
    asks = ProviderUnavailable("later", retry_after=30.0, scope=Scope.MESSAGE)
    assert decided(policy_of(), entry, after(entry, ("a1", asks))).due_at == START + 0.5


@pytest.mark.parametrize(
    ("known", "ends"),
    [
        ({"progress": Progress(tried={"a0": [ANN]}, rounds=3)}, False),
        ({"progress": Progress(tried={"a0": [ANN]}, rounds=4)}, True),
        ({"progress": Progress(tried={"a0": [ANN]}), "single_round": True}, True),
    ],
)
def test_after_its_last_round_a_message_has_failed(policy_of: MakePolicy, known: dict[str, Any], ends: bool) -> None:
    entry = claimed(queue="a1/email", **known)
    found = decided(policy_of(outbox={"attempts": 5}), entry, after(entry, ("a1", BUSY)))
    assert found.status is (Status.FAILED if ends else Status.RETRYING)
    assert (found.due_at == NEVER) is ends


IMPOSSIBLE = UnsupportedFeature("no attachments", feature="attachments", provider="stage")
REVOKED = AuthenticationFailed("the key was revoked")


@pytest.mark.parametrize(
    ("ann", "bob", "ends"),
    [
        (IMPOSSIBLE, IMPOSSIBLE, True),
        (IMPOSSIBLE, REVOKED, False),
        (REVOKED, REVOKED, False),
        (IMPOSSIBLE, BUSY, False),
        (IMPOSSIBLE, None, False),
    ],
)
def test_what_no_account_can_ever_deliver_fails_at_once(
    policy_of: MakePolicy, ann: PostroomError, bob: PostroomError | None, ends: bool
) -> None:
    entry = claimed(ANN, BOB, queue="a1/email", progress=Progress(tried={"a0": [ANN, BOB]}))
    delivery = DeliveryProgress(entry.message, entry.id)
    delivery.skip((ANN,), ann)
    if bob:
        delivery.skip((BOB,), bob)
    found = decided(policy_of(), entry, delivery)
    assert found.status is (Status.FAILED if ends else Status.RETRYING)


def test_credentials_of_a_message_itself_that_are_refused_end_it(policy_of: MakePolicy) -> None:
    own = Email(to=ANN, text="x", options={"api_key": "its own"}).stamped(id="m1")
    entry = claimed(message=own, queue="a1/email", progress=Progress(tried={"a0": [ANN]}))
    assert decided(policy_of(), entry, after(entry, ("a1", REVOKED))).status is Status.FAILED


def test_without_an_account_by_the_configuration_a_message_waits_where_it_is(policy_of: MakePolicy) -> None:
    entry = claimed(ANN, BOB)
    found = decided(policy_of(defaults=False), entry, after(entry, ("a0", BUSY)))
    assert (found.status, found.queue, found.route) == (Status.RETRYING, "a0/email", "r")
    assert found.progress == Progress(rounds=1)
    assert found.due_at == START + drawn(1)


def test_whose_doubt_is_an_account_that_is_gone_waits_for_a_person(policy_of: MakePolicy) -> None:
    entry = claimed()
    delivery = after(entry, ("gone", LOST))
    delivery.release((ANN,))
    found = decided(policy_of(on_unknown="retry"), entry, delivery)
    assert (found.status, found.due_at, found.progress) == (Status.IN_DOUBT, NEVER, Progress(pending=()))


def test_whose_doubt_is_another_accounts_stays_to_be_tried_there_while_others_go_on_here(policy_of: MakePolicy) -> None:
    entry = claimed(ANN, BOB, progress=Progress(tried={"a1": [ANN, BOB]}))
    delivery = DeliveryProgress(entry.message, entry.id)
    delivery.record(Target("a1", "stage"), AttemptResult((ANN,), datetime.now(UTC), 0.1, LOST))
    delivery.release((ANN,))
    delivery.record(Target("a0", "stage"), AttemptResult((BOB,), datetime.now(UTC), 0.1, BUSY))
    found = policy_of(on_unknown="retry").next(entry, delivery, (BOB,), {})
    assert (found.status, found.queue) == (Status.RETRYING, "a0/email")
    assert found.progress == Progress(recipients=(BOB,), rounds=1)


@pytest.mark.parametrize("deduplicates", [False, True])
def test_a_repeat_goes_to_the_same_account_once_no_provider_can_be_at_work_on_the_first_copy(
    policy_of: MakePolicy, stage: ModuleType, monkeypatch: pytest.MonkeyPatch, deduplicates: bool
) -> None:
    kind = stage.full.postroom_email_transport()
    monkeypatch.setattr(kind, "capabilities", replace(kind.capabilities, deduplicates=deduplicates))
    entry = claimed()
    found = decided(policy_of(on_unknown="retry"), entry, after(entry, ("a0", LOST)))
    assert (found.status, found.queue, found.route) == (Status.RETRYING, "a0/email", "r")
    assert found.progress == Progress(rounds=1)
    assert found.due_at == START + drawn(1) + (0 if deduplicates else REPEAT_AFTER)


def test_a_repeat_is_for_those_in_doubt_before_the_others_go_on(policy_of: MakePolicy) -> None:
    entry = claimed(ANN, BOB)
    both = tuple(
        RecipientResult(address=address, outcome=outcome)
        for address, outcome in ((ANN, Outcome.UNKNOWN), (BOB, Outcome.TRANSIENT))
    )
    found = decided(policy_of(on_unknown="retry"), entry, after(entry, ("a0", OutcomeUnknown("half", recipients=both))))
    assert (found.status, found.queue) == (Status.RETRYING, "a0/email")
    assert found.progress == Progress(recipients=(ANN,), rounds=1)


def test_each_recipient_is_repeated_only_as_often_as_the_outbox_says(policy_of: MakePolicy) -> None:
    entry = claimed(ANN, BOB)
    delivery = DeliveryProgress(entry.message, entry.id)
    for recipients in ((ANN, BOB), (ANN,)):
        delivery.record(Target("a0", "stage"), AttemptResult(recipients, datetime.now(UTC), 0.1, LOST))
    found = decided(policy_of(on_unknown="retry", outbox={"repeats": 1}), entry, delivery)
    assert found.status is Status.RETRYING
    assert found.progress == Progress(pending=(BOB,), recipients=(BOB,), rounds=1)


def test_a_doubt_under_hold_waits_for_a_person(policy_of: MakePolicy) -> None:
    entry = claimed()
    found = decided(policy_of(), entry, after(entry, ("a0", LOST)))
    assert (found.status, found.due_at, found.progress) == (Status.IN_DOUBT, NEVER, Progress(pending=()))


def test_a_doubt_at_an_account_that_is_gone_waits_for_a_person(policy_of: MakePolicy) -> None:
    entry = claimed(queue="gone/email")
    found = decided(policy_of(on_unknown="retry"), entry, after(entry, ("gone", LOST)))
    assert (found.status, found.due_at) == (Status.IN_DOUBT, NEVER)


@pytest.fixture
def reconciling(stage: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """The provider can be asked what became of a message."""
    kind = stage.full.postroom_email_transport()
    monkeypatch.setattr(kind, "capabilities", replace(kind.capabilities, reconciles=True))


@pytest.mark.usefixtures("reconciling")
@pytest.mark.parametrize("on_unknown", ["hold", "retry", "assume_sent"])
@pytest.mark.parametrize("asked", [None, 0, 3, len(QUESTIONS) - 1])
def test_a_provider_that_can_be_asked_is_asked_first(policy_of: MakePolicy, on_unknown: str, asked: int | None) -> None:
    entry = claimed(status=Status.IN_DOUBT if asked else Status.SENDING)
    found = decided(policy_of(on_unknown=on_unknown), entry, after(entry, ("a0", LOST)), asked=asked)
    assert (found.status, found.due_at) == (Status.IN_DOUBT, START + QUESTIONS[asked or 0])
    assert found.progress == Progress(pending=(), asked=asked or 0)


@pytest.mark.usefixtures("reconciling")
@pytest.mark.parametrize(
    ("on_unknown", "status"),
    [("hold", Status.IN_DOUBT), ("retry", Status.RETRYING), ("assume_sent", Status.SENT)],
)
def test_one_that_was_asked_in_vain_leaves_it_to_the_accounts_policy(
    policy_of: MakePolicy, on_unknown: str, status: Status
) -> None:
    entry = claimed(status=Status.IN_DOUBT)
    delivery = after(entry, ("a0", LOST))
    found = decided(policy_of(on_unknown=on_unknown), entry, delivery, asked=len(QUESTIONS))
    assert (found.status, found.receipt.status) == (status, status)
    assert (found.due_at == NEVER) is (status is not Status.RETRYING)


def test_a_message_that_is_put_back_is_as_it_was(policy_of: MakePolicy) -> None:
    progress = Progress(tried={"a0": [ANN]}, rounds=2, recipients=(ANN,))
    entry = claimed(crashes=2, progress=progress)
    found = policy_of().put_back(entry, after(entry))
    assert (found.status, found.due_at, found.progress, found.crashes) == (Status.QUEUED, START, progress, 2)
    doubted = replace(entry, status=Status.IN_DOUBT)
    assert policy_of().put_back(doubted, after(doubted)).status is Status.IN_DOUBT


@pytest.mark.parametrize(("crashes", "waits"), [(1, 0.0), (2, drawn(1)), (3, drawn(2)), (4, drawn(3))])
def test_what_a_worker_died_with_before_it_began_waits_longer_each_time(
    policy_of: MakePolicy, crashes: int, waits: float
) -> None:
    entry = claimed(crashes=crashes)
    found = policy_of(outbox={"crashes": 5}).never_begun(entry, after(entry))
    assert (found.status, found.due_at, found.crashes) == (Status.QUEUED, START + waits, crashes)
    soon = replace(entry, expires_at=START)
    assert policy_of(outbox={"crashes": 5}).never_begun(soon, after(soon)).due_at == START


def test_what_as_many_workers_died_with_as_may_is_set_aside(policy_of: MakePolicy) -> None:
    entry = claimed(ANN, BOB, crashes=5)
    found = policy_of(outbox={"crashes": 5}).never_begun(entry, after(entry))
    assert (found.status, found.due_at, found.crashes) == (Status.FAILED, NEVER, 5)
    assert {r.address for r in found.receipt.recipients if "5 workers died" in (r.detail or "")} == {ANN, BOB}


@pytest.mark.parametrize(
    ("in_doubt", "status", "outcome"),
    [(False, Status.FAILED, Outcome.PERMANENT), (True, Status.IN_DOUBT, Outcome.UNKNOWN)],
)
def test_what_nobody_can_read_is_set_aside_with_the_reason(
    policy_of: MakePolicy, in_doubt: bool, status: Status, outcome: Outcome
) -> None:
    error = OutboxError("its key is gone")
    lost = UnreadableMessage(7, "m1", Channel.EMAIL, "a0/email", "r", 3, error, in_doubt=in_doubt)
    found = policy_of().unreadable(lost)
    assert (found.seq, found.attempts, found.status, found.queue, found.route) == (7, 3, status, "a0/email", "r")
    assert (found.receipt.id, found.receipt.channel, found.receipt.status) == ("m1", Channel.EMAIL, status)
    assert found.receipt.account == "a0"
    [note] = found.receipt.recipients
    assert (note.address, note.outcome, note.code, note.detail) == ("", outcome, error.code, "its key is gone")


@pytest.mark.parametrize(
    ("attempts", "status"),
    [
        ((), Status.EXPIRED),
        ((("a0", BUSY),), Status.EXPIRED),
        ((("a0", LOST),), Status.IN_DOUBT),
        ((("a0", Accepted(provider_message_id="p1")),), Status.SENT),
    ],
)
def test_a_message_that_expires_ends_as_what_is_known_of_it(
    policy_of: MakePolicy, attempts: tuple[tuple[str, Accepted | PostroomError], ...], status: Status
) -> None:
    entry = claimed()
    found = policy_of().expired(entry, after(entry, *attempts))
    assert (found.status, found.due_at) == (status, NEVER)


def test_each_id_that_the_provider_gave_is_kept_once(policy_of: MakePolicy) -> None:
    entry = claimed(ANN, BOB)
    given = tuple(RecipientResult.accepted(address, "p1") for address in (ANN, BOB))
    found = decided(policy_of(), entry, after(entry, ("a0", Accepted(provider_message_id="p1", recipients=given))))
    assert (found.status, found.provider_ids) == (Status.SENT, (ProviderId("a0", "p1"),))
