"""A report counts whenever it comes: before its message's answer, before its id is known, in any order, for whom it is about."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from types import ModuleType
from typing import Any, Never

import pytest
from engines.process import MakeOutbox, Process

from postroom import Accepted, Email, Event, EventType, Outcome, Receipt, RecipientResult, Sms, Status
from postroom.errors import MessageRejected, OutcomeUnknown, StateConflict
from postroom.outbox.executor import MessageExecutor
from postroom.outbox.records import (
    NEVER,
    NOW,
    ClaimedMessage,
    ClaimLimit,
    IdKind,
    Progress,
    ProviderId,
    Settlement,
    StoredMessage,
)
from postroom.outbox.reports import after_reports, disproven, subject
from postroom.receipts import Attempt, Channel

ANN, BOB, CID = "ann@example.org", "bob@example.org", "cid@example.org"
WHEN = datetime(2027, 1, 1, tzinfo=UTC)
ONE = {"a0/email": ClaimLimit(1, 10)}

Act = Callable[[Any], Awaitable[Accepted]]


def email(**more: Any) -> Email:
    return Email(**{"to": ANN, "subject": "hello", "text": "hello", **more})


def report(type_: EventType | str, **more: Any) -> Event:
    given = {"type": type_, "channel": "email", "provider": "stage", "account": "a0", "occurred_at": WHEN}
    return Event.model_validate({**given, **more})


def lost() -> OutcomeUnknown:
    return OutcomeUnknown("a0: no answer", detail="no answer")


class Reporting:
    """A provider that reports while it is handed a message, and then answers, or is never heard of again."""

    def __init__(self, *reports: Callable[[Any], Event], answers: bool) -> None:
        self.post: Process | None = None
        self._reports = reports
        self._answers = answers

    async def __call__(self, message: Any) -> Accepted:
        for made in self._reports:
            assert self.post
            await self.post.outbox.record(made(message))
        if self._answers:
            return Accepted(provider_message_id=f"stage-{message.id}")
        raise lost()


def by_name(type_: EventType, **more: Any) -> Callable[[Any], Event]:
    return lambda message: report(type_, message_id=message.id, **more)


def by_id(type_: EventType, **more: Any) -> Callable[[Any], Event]:
    return lambda message: report(type_, provider_message_id=f"stage-{message.id}", **more)


async def results(post: Process, receipt: Receipt) -> dict[str, Outcome]:
    return {result.address: result.outcome for result in (await post.receipt(receipt)).recipients}


@pytest.mark.parametrize("on_unknown", ["hold", "retry", "assume_sent"])
@pytest.mark.parametrize("answers", [True, False], ids=["answered", "lost"])
@pytest.mark.parametrize(
    ("type_", "status"), [(EventType.SENT, "sent"), (EventType.DELIVERED, "delivered"), (EventType.BOUNCED, "bounced")]
)
async def test_what_is_reported_before_the_answer_is_what_the_message_ends_as(
    make_outbox: MakeOutbox, stage: ModuleType, type_: EventType, status: str, answers: bool, on_unknown: str
) -> None:
    reporting = Reporting(by_name(type_), answers=answers)
    script = stage.Script(reporting)
    async with make_outbox(script, on_unknown=on_unknown) as post:
        reporting.post = post
        receipt = await post.add(email())
        await post.work()
        await post.work(after=100_000)
        shown = await post.outbox.get(receipt.id)
    assert (shown.receipt.status, len(shown.events)) == (status, 1)
    assert len(script.calls) == 1, "the provider has it, so nothing is sent again"


@pytest.mark.parametrize(("type_", "status"), [(EventType.DELIVERED, "delivered"), (EventType.BOUNCED, "bounced")])
async def test_a_report_that_comes_after_the_claim_of_a_repeat_still_stops_it(
    make_outbox: MakeOutbox, stage: ModuleType, type_: EventType, status: str
) -> None:
    async def lose(_: Any) -> Never:
        raise lost()

    script = stage.Script(lose)
    async with make_outbox(script, on_unknown="retry") as post:
        receipt = await post.add(email())
        await post.work()
        assert len(script.calls) == 1

        async def report_comes() -> None:
            await post.outbox.record(report(type_, message_id=receipt.id, recipient=ANN))

        script.opening = report_comes  # which a worker awaits when it has claimed, and before the first byte
        async with Process(post.config, post.engine, post.clock) as other:
            await other.work(after=100_000)
            shown = await other.outbox.get(receipt.id)
    assert (shown.receipt.status, len(shown.events)) == (status, 1)
    assert len(script.calls) == 1


async def test_a_repeat_that_no_report_makes_needless_goes_out(make_outbox: MakeOutbox, stage: ModuleType) -> None:
    fates: list[Exception] = [lost()]

    async def act(message: Any) -> Accepted:
        if fates:
            raise fates.pop()
        return Accepted(provider_message_id=message.id)

    script = stage.Script(act)
    async with make_outbox(script, on_unknown="retry") as post:
        receipt = await post.add(email())
        await post.work()
        await post.outbox.record(report(EventType.DELIVERED, message_id="another"))
        await post.work(after=100_000)
        assert (await post.receipt(receipt)).status is Status.SENT
    assert len(script.calls) == 2


@pytest.mark.parametrize(("type_", "status"), [(EventType.DELIVERED, "delivered"), (EventType.BOUNCED, "bounced")])
async def test_a_report_by_an_id_that_is_not_known_yet_waits_for_it(
    make_outbox: MakeOutbox, stage: ModuleType, type_: EventType, status: str
) -> None:
    reporting = Reporting(by_id(type_), answers=True)
    async with make_outbox(stage.Script(reporting)) as post:
        reporting.post = post
        receipt = await post.add(email())
        await post.work()
        shown = await post.outbox.get(receipt.id)
    assert (shown.receipt.status, [event.type for event in shown.events]) == (status, [type_])


async def test_a_bounce_that_waited_for_its_message_teaches_once_it_is_known_to_be_ours(
    make_outbox: MakeOutbox, stage: ModuleType
) -> None:
    script = stage.Script(Reporting(by_id(EventType.BOUNCED, recipient=ANN, permanent=True), answers=True))
    async with make_outbox(script) as post:
        script.act.post = post
        await post.outbox.record(report(EventType.BOUNCED, recipient=BOB, permanent=True, provider_message_id="no"))
        await post.add(email())
        await post.work()
        assert [entry.address for entry in await post.outbox.suppressions.list()] == [ANN]


async def test_the_report_of_a_message_that_is_not_here_is_kept_as_long_as_texts_are(
    make_outbox: MakeOutbox, stage: ModuleType
) -> None:
    async def answer(message: Any) -> Accepted:
        return Accepted(provider_message_id=message.subject)

    async with make_outbox(stage.Script(answer), outbox={"retention": "1d"}) as post:
        early, late = (report("delivered", provider_message_id=name) for name in ("early", "late"))
        incoming = report("inbound", provider_message_id="early", sender=BOB)
        for each in (early, incoming):
            await post.outbox.record(each)
        await post.work(after=86_000)
        await post.outbox.record(late)
        await post.work(after=1000)
        receipts = [await post.add(email(subject=name)) for name in ("early", "late")]
        await post.work()
        assert [(await post.receipt(receipt)).status for receipt in receipts] == ["sent", "delivered"]
        assert await post.store.forget_orphans(post.clock.now, 10) == 0, "what came in is none"


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_each_recipient_in_doubt_is_settled_by_what_is_said_of_them_alone(
    make_outbox: MakeOutbox, stage: ModuleType, order: tuple[int, int]
) -> None:
    said = [("delivered", ANN, Outcome.ACCEPTED), ("bounced", BOB, Outcome.PERMANENT)]
    async with make_outbox(stage.Script(Reporting(answers=False)), on_unknown="hold") as post:
        receipt = await post.add(email(to=[ANN, BOB]))
        await post.work()
        expected = dict.fromkeys((ANN, BOB), Outcome.UNKNOWN)
        for number in order:
            assert (await post.receipt(receipt)).status is Status.IN_DOUBT
            type_, address, outcome = said[number]
            await post.outbox.record(report(type_, message_id=receipt.id, recipient=address.upper()))
            expected[address] = outcome
            assert await results(post, receipt) == expected
        assert (await post.receipt(receipt)).status is Status.BOUNCED


async def test_a_repeat_leaves_out_whom_the_provider_has_reported_of(
    make_outbox: MakeOutbox, stage: ModuleType
) -> None:
    script = stage.Script(Reporting(answers=False))
    async with make_outbox(script, on_unknown="retry") as post:
        receipt = await post.add(email(to=[ANN, BOB, CID]))
        await post.work()
        assert (await post.receipt(receipt)).status is Status.RETRYING
        await post.outbox.record(report("deferred", message_id=receipt.id, recipient=ANN))
        await post.outbox.record(report("bounced", message_id=receipt.id, recipient=BOB))
        await post.work(after=100_000)
    assert [message.recipients for message in script.messages] == [(ANN, BOB, CID), (CID,)]


async def test_a_message_that_waits_to_be_repeated_ends_when_all_of_it_is_reported(
    make_outbox: MakeOutbox, stage: ModuleType
) -> None:
    script = stage.Script(Reporting(answers=False))
    async with make_outbox(script, on_unknown="retry") as post:
        receipt = await post.add(email())
        await post.work()
        moved = await post.outbox.record(report("delivered", message_id=receipt.id))
        assert moved is not None
        assert moved.status is Status.DELIVERED
        await post.work(after=100_000)
    assert len(script.calls) == 1


async def test_a_killed_workers_message_of_which_a_report_came_is_not_in_doubt(make_outbox: MakeOutbox) -> None:
    async with make_outbox() as post:
        receipt = await post.add(email())
        dead, heir = await post.store.register("dead"), await post.store.register("heir")
        await post.store.exchange(dead, [], [], ONE)
        told = await post.outbox.record(report("delivered", message_id=receipt.id))
        assert told is not None
        assert told.status is Status.SENDING, "nobody else knows yet what its worker does"
        [message] = await post.store.rescue(dead, 0, heir)
        executor = MessageExecutor(post.accounts, post.router, post.settings, clock=post.clock)
        await post.store.exchange(heir, [executor.crashed(message, {})], [], {})
        assert (await post.receipt(receipt)).status is Status.DELIVERED


async def test_a_person_sends_again_only_to_whom_nothing_is_reported_of(
    make_outbox: MakeOutbox, stage: ModuleType
) -> None:
    script = stage.Script(Reporting(answers=False))
    async with make_outbox(script, on_unknown="hold") as post:
        receipt = await post.add(email(to=[ANN, BOB, CID]))
        await post.work()
        await post.outbox.record(report("delivered", message_id=receipt.id, recipient=ANN))
        await post.outbox.record(report("bounced", message_id=receipt.id, recipient=BOB))
        await post.outbox.retry(receipt.id)
        await post.work()
    assert script.messages[-1].recipients == (CID,)


async def test_a_person_is_told_that_the_provider_has_a_message_that_was_given_up(
    make_outbox: MakeOutbox, stage: ModuleType
) -> None:
    async def refuse(message: Any) -> Accepted:
        raise stage_error(message)

    async with make_outbox(stage.Script(refuse)) as post:
        receipt = await post.add(email())
        await post.work()
        assert (await post.receipt(receipt)).status is Status.FAILED
        await post.outbox.record(report("delivered", message_id=receipt.id))
        assert (await post.receipt(receipt)).status is Status.FAILED, "a part may be there: a person looks"
        with pytest.raises(StateConflict, match="has reported that it has message"):
            await post.outbox.retry(receipt.id)
        assert (await post.receipt(receipt)).status is Status.FAILED


def stage_error(message: Any) -> Exception:
    return MessageRejected(f"a0: {message.id} is not welcome", detail="not welcome")


async def test_what_a_person_gave_up_is_delivered_when_the_provider_says_so(
    make_outbox: MakeOutbox, stage: ModuleType
) -> None:
    script = stage.Script(Reporting(answers=False))
    async with make_outbox(script, on_unknown="hold") as post:
        receipt = await post.add(email())
        await post.work()
        await post.outbox.resolve(receipt.id, "failed")
        await post.outbox.record(report("delivered", message_id=receipt.id))
        assert (await post.receipt(receipt)).status is Status.DELIVERED


async def test_a_report_about_a_message_that_was_never_handed_over_is_about_another(make_outbox: MakeOutbox) -> None:
    async with make_outbox() as post:
        receipt = await post.add(email(id="order-17"))
        assert await post.outbox.record(report("delivered", message_id="order-17")) is None
        await post.work()
        assert (await post.receipt(receipt)).status is Status.SENT


class TestSharedIds:
    """A provider that takes several messages in one call gives them one id."""

    @pytest.fixture
    async def pair(self, make_outbox: MakeOutbox, stage: ModuleType) -> tuple[Process, list[Receipt]]:
        async def many(batch: Any) -> list[Accepted]:
            return [Accepted(provider_message_id="x1") for _ in batch]

        async def one(message: Any) -> Accepted:
            del message
            return Accepted(provider_message_id="x1")

        account = {"provider": "stage-batch", "script": stage.Script(one, many=many), "from": "p@example.org"}
        post = make_outbox(accounts={"many": account})
        receipts = [await post.add(email(provider="many", subject=subject_)) for subject_ in ("one", "two")]
        await post.work()
        return post, receipts

    async def statuses(self, post: Process, receipts: list[Receipt]) -> list[Status]:
        return [(await post.receipt(receipt)).status for receipt in receipts]

    async def test_a_report_that_names_a_message_moves_only_that_one(self, pair: tuple[Process, list[Receipt]]) -> None:
        post, receipts = pair
        async with post:
            about = {"account": "many", "provider_message_id": "x1"}
            assert await post.outbox.record(report("bounced", message_id="sent-directly", **about)) is None
            assert await self.statuses(post, receipts) == ["sent", "sent"]
            await post.outbox.record(report("bounced", message_id=receipts[0].id, **about))
            assert await self.statuses(post, receipts) == ["bounced", "sent"]

    async def test_a_report_that_names_none_of_several_moves_none(self, pair: tuple[Process, list[Receipt]]) -> None:
        post, receipts = pair
        async with post:
            assert await post.outbox.record(report("bounced", account="many", provider_message_id="x1")) is None
            assert await self.statuses(post, receipts) == ["sent", "sent"]


async def test_an_id_of_one_message_alone_says_more_than_a_reference_that_is_no_id_of_ours(
    make_outbox: MakeOutbox,
) -> None:
    async with make_outbox() as post:
        receipt = await post.add(email())
        await post.work()
        moved = await post.outbox.record(
            report("delivered", message_id="campaign-1", provider_message_id=f"stage-{receipt.id}")
        )
        assert moved is not None
        assert moved.id == receipt.id


def result(
    message: ClaimedMessage, status: Status, *ids: ProviderId, otherwise: Settlement | None = None
) -> Settlement:
    accepted = tuple(RecipientResult.accepted(ANN, each.value) for each in ids)
    doubted = (RecipientResult(address=ANN, outcome=Outcome.UNKNOWN),)
    value = ids[0].value if ids else None
    receipt = Receipt(
        id=message.id,
        channel=Channel.EMAIL,
        status=status,
        account="a0",
        recipients=accepted or doubted,
        provider_message_id=value,
    )
    return Settlement(
        message.seq,
        message.attempts,
        status,
        receipt,
        message.queue,
        message.route,
        due_at=NOW if status is Status.IN_DOUBT else NEVER,
        provider_ids=ids,
        recipients=(ANN,),
        otherwise=otherwise,
    )


class TestOneIdIsOneMessages:
    """Two equal messages, one of which the provider has: its id settles one of them."""

    @pytest.fixture
    async def doubts(self, make_outbox: MakeOutbox) -> tuple[Process, int, list[ClaimedMessage]]:
        """Two messages in doubt, in the hands of a worker that asks about them."""
        post = make_outbox()
        worker = await post.store.register("w")
        for _ in range(2):
            await post.add(email())
        both = (await post.store.exchange(worker, [], [], {"a0/email": ClaimLimit(2, 10)})).claimed
        await post.store.exchange(worker, [result(each, Status.IN_DOUBT) for each in both], [], {})
        return post, worker, list(await post.store.claim_in_doubt(worker, 10))

    def found(self, message: ClaimedMessage) -> Settlement:
        doubt = result(message, Status.IN_DOUBT)
        return result(message, Status.SENT, ProviderId("a0", "SM1", IdKind.FOUND), otherwise=doubt)

    @pytest.mark.parametrize("together", [True, False])
    async def test_whoever_comes_second_keeps_its_doubt(
        self, doubts: tuple[Process, int, list[ClaimedMessage]], together: bool
    ) -> None:
        post, worker, (first, second) = doubts
        async with post:
            if together:
                await post.store.exchange(worker, [self.found(first), self.found(second)], [], {})
            else:
                await post.store.exchange(worker, [self.found(first)], [], {})
                [written] = (await post.store.exchange(worker, [self.found(second)], [], {})).settled
                assert written is not None
                assert written.status is Status.IN_DOUBT, "observers hear of what was written"
            assert [(await post.outbox.get(each.id)).receipt.status for each in (first, second)] == ["sent", "in_doubt"]
            await post.outbox.record(report("delivered", provider_message_id="SM1"))
            assert [(await post.outbox.get(each.id)).receipt.status for each in (first, second)] == [
                "delivered",
                "in_doubt",
            ]

    async def test_the_answer_to_a_hand_over_takes_an_id_from_what_was_only_found_by_it(
        self, doubts: tuple[Process, int, list[ClaimedMessage]]
    ) -> None:
        post, worker, (first, second) = doubts
        async with post:
            await post.store.exchange(worker, [self.found(first)], [], {})
            await post.outbox.record(report("delivered", provider_message_id="SM1"))
            answered = result(second, Status.SENT, ProviderId("a0", "SM1"))
            await post.store.exchange(worker, [answered], [], {})
            shown = [await post.outbox.get(each.id) for each in (first, second)]
        assert [(each.receipt.status, len(each.events)) for each in shown] == [("in_doubt", 0), ("delivered", 1)]
        assert shown[0].receipt.provider_message_id is None

    async def test_a_provider_that_answers_everything_with_one_id_is_believed(
        self, doubts: tuple[Process, int, list[ClaimedMessage]]
    ) -> None:
        post, worker, both = doubts
        async with post:
            await post.store.exchange(
                worker, [result(each, Status.SENT, ProviderId("a0", "SM1")) for each in both], [], {}
            )
            assert [(await post.outbox.get(each.id)).receipt.status for each in both] == ["sent", "sent"]

    async def test_the_ids_of_another_account_are_others(
        self, doubts: tuple[Process, int, list[ClaimedMessage]]
    ) -> None:
        post, worker, (first, second) = doubts
        elsewhere = result(second, Status.SENT, ProviderId("a1", "SM1", IdKind.FOUND))
        async with post:
            await post.store.exchange(worker, [self.found(first), elsewhere], [], {})
            assert [(await post.outbox.get(each.id)).receipt.status for each in (first, second)] == ["sent", "sent"]


def attempt(outcome: Outcome, *recipients: str) -> Attempt:
    return Attempt(
        account="a0", provider="stage", outcome=outcome, started_at=WHEN, duration=1.0, recipients=recipients
    )


def stored(
    status: Status, *given: RecipientResult, pending: tuple[str, ...] | None = None, **more: Any
) -> StoredMessage:
    receipt = Receipt(id="m", channel=Channel.EMAIL, status=status, account="a0", recipients=given, **more)
    return StoredMessage(1, "m", "a0/email", receipt, Progress(pending=pending), recipients=(ANN, BOB))


def unknown(address: str) -> RecipientResult:
    return RecipientResult(address=address, outcome=Outcome.UNKNOWN)


def test_a_bounce_says_of_whom_and_why() -> None:
    message = stored(Status.SENT, RecipientResult.accepted(ANN, "x"), RecipientResult.accepted(BOB, "x"))
    after = after_reports(message, [report("bounced", recipient=BOB, code="550", detail="no such user")])
    assert after is not None
    ann, bob = after.receipt.recipients
    assert (ann.outcome, bob.outcome, bob.provider_code, bob.detail) == ("accepted", "permanent", "550", "no such user")
    assert (after.status, bob.provider_message_id) == (Status.BOUNCED, "x")


@pytest.mark.parametrize("type_", ["failed", "in_doubt", "inbound", "other", "subscribed"])
def test_what_proves_nothing_changes_nothing(type_: str) -> None:
    assert after_reports(stored(Status.IN_DOUBT, unknown(ANN), unknown(BOB)), [report(type_, recipient=ANN)]) is None


@pytest.mark.parametrize("status", [Status.SENDING, Status.SUPPRESSED])
def test_nothing_is_applied_in_these_states(status: Status) -> None:
    assert after_reports(stored(status, unknown(ANN), unknown(BOB)), [report("delivered", recipient=ANN)]) is None


def test_a_report_that_names_nobody_of_several_settles_nobody() -> None:
    message = stored(Status.IN_DOUBT, unknown(ANN), unknown(BOB))
    assert after_reports(message, [report("delivered"), report("delivered", recipient="list@example.org")]) is None
    sent = stored(Status.SENT, RecipientResult.accepted(ANN), RecipientResult.accepted(BOB))
    after = after_reports(sent, [report("bounced", recipient="forwarded@example.org")])
    assert after is not None
    assert after.status is Status.BOUNCED
    assert after.receipt.recipients == sent.receipt.recipients


def test_a_report_that_names_nobody_is_about_whoever_has_its_id() -> None:
    message = stored(Status.SENT, RecipientResult.accepted(ANN, "x"), RecipientResult.accepted(BOB, "y"))
    after = after_reports(message, [report("bounced", provider_message_id="y")])
    assert after is not None
    assert [each.outcome for each in after.receipt.recipients] == ["accepted", "permanent"]


def test_whom_the_provider_refused_in_its_answer_stays_refused() -> None:
    refused = RecipientResult(address=BOB, outcome=Outcome.PERMANENT, code="recipients_refused")
    failed = stored(Status.FAILED, refused, attempts=(attempt(Outcome.PERMANENT, BOB),))
    assert after_reports(failed, [report("delivered", recipient=BOB)]) is None


def test_whoever_was_never_tried_is_not_proven_to_be_served() -> None:
    message = stored(Status.RETRYING, unknown(ANN), pending=(ANN, BOB))
    assert after_reports(message, [report("delivered", recipient=BOB)]) is None
    after = after_reports(message, [report("delivered", recipient=ANN)])
    assert after is not None
    assert (after.status, after.progress.pending) == (Status.RETRYING, (BOB,))


def test_a_worker_decides_at_once_what_becomes_of_those_in_doubt_when_nobody_is_left_to_be_tried() -> None:
    message = stored(Status.RETRYING, unknown(ANN), unknown(BOB), pending=(ANN,))
    after = after_reports(message, [report("delivered", recipient=ANN)])
    assert after is not None
    assert (after.status, after.progress.pending, after.due_at) == (Status.RETRYING, (), NOW)


def test_a_message_that_was_cancelled_half_way_stays_so() -> None:
    message = stored(Status.CANCELLED, RecipientResult.accepted(ANN))
    assert after_reports(message, [report("delivered", recipient=ANN)]) is None


@pytest.mark.parametrize(
    ("named", "holders", "found"),
    [
        (None, [], None),
        (1, [], 1),
        (1, [(2, IdKind.OWN)], 2),
        (1, [(2, IdKind.SHARED)], 1),
        (None, [(2, IdKind.SHARED)], None),
        (None, [(2, IdKind.FOUND)], 2),
        (None, [(2, IdKind.SHARED), (3, IdKind.SHARED)], None),
    ],
)
def test_which_message_a_report_is_about(
    named: int | None, holders: list[tuple[int, IdKind]], found: int | None
) -> None:
    assert subject(report("delivered", message_id="some"), named, holders) == found


def test_a_shared_id_is_enough_for_a_report_that_names_nothing_else() -> None:
    assert subject(report("delivered"), None, [(2, IdKind.SHARED)]) == 2
    assert subject(report("delivered"), None, [(2, IdKind.SHARED), (3, IdKind.SHARED)]) is None


def test_only_what_rests_on_an_id_is_in_doubt_again_without_it() -> None:
    message = stored(Status.SENT, RecipientResult.accepted(ANN, "x"), RecipientResult.accepted(BOB, "y"))
    after = disproven(message, "x")
    assert after is not None
    assert [each.outcome for each in after.receipt.recipients] == ["unknown", "accepted"]
    assert (after.status, after.due_at) == (Status.IN_DOUBT, NOW)
    assert disproven(message, "z") is None
    assert disproven(stored(Status.FAILED, RecipientResult.accepted(ANN, "x")), "x") is None


def test_numbers_are_compared_with_and_without_their_plus() -> None:
    sms = Sms(to=["+447700900000", "+447700900001"], body="x")
    results_ = tuple(RecipientResult(address=each, outcome=Outcome.UNKNOWN) for each in sms.to)
    receipt = Receipt(id="m", channel=Channel.SMS, status=Status.IN_DOUBT, account="a0", recipients=results_)
    message = StoredMessage(1, "m", "a0/sms", receipt, Progress(pending=()), recipients=sms.to)
    after = after_reports(message, [report("delivered", channel="sms", recipient="447700900001")])
    assert after is not None
    assert [each.outcome for each in after.receipt.recipients] == ["unknown", "accepted"]
