"""What a transition does to a message; and a worker that was taken for dead and answers after all.

Of such a worker only that a message was sent is news, and only in time.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from engines.process import MakeOutbox, Process

from postroom import Email, Event, EventType, Outcome, Receipt, RecipientResult, Status
from postroom.errors import StateConflict
from postroom.outbox.records import NEVER, NOW, ClaimedMessage, ClaimLimit, Progress, Settlement, StoredMessage
from postroom.outbox.reports import after_reports
from postroom.outbox.states import Transition
from postroom.outbox.transitions import expired, teaches, transitioned
from postroom.receipts import Channel

ONE = {"a0/email": ClaimLimit(1, 10)}


async def claimed(post: Process, worker: int) -> ClaimedMessage:
    [message] = (await post.store.exchange(worker, [], [], ONE)).claimed
    assert isinstance(message, ClaimedMessage)
    return message


async def rescued(post: Process, dead: int, heir: int) -> ClaimedMessage:
    [message] = await post.store.rescue(dead, 0, heir)
    assert isinstance(message, ClaimedMessage)
    return message


def result(message: ClaimedMessage, status: Status, *, due_at: float = 9e15) -> Settlement:
    receipt = Receipt(id=message.id, channel=Channel.EMAIL, status=status, account="a0")
    return Settlement(message.seq, message.attempts, status, receipt, message.queue, message.route, due_at)


async def kept(post: Process, worker: int, settlement: Settlement) -> bool:
    [was_kept] = (await post.store.exchange(worker, [settlement], [], {})).kept
    return bool(was_kept)


@pytest.fixture
async def post(make_outbox: MakeOutbox) -> Process:
    return make_outbox()


@pytest.mark.parametrize("now", [Status.IN_DOUBT, Status.RETRYING])
async def test_that_it_was_sent_after_all_is_news(post: Process, now: Status) -> None:
    async with post:
        receipt = await post.add(Email(to="ann@example.org", text="x"))
        frozen, heir = await post.store.register("frozen"), await post.store.register("heir")
        message = await claimed(post, frozen)
        taken = await rescued(post, frozen, heir)
        assert await kept(post, heir, result(taken, now))
        assert await kept(post, frozen, result(message, Status.SENT))
        assert (await post.receipt(receipt)).status is Status.SENT


@pytest.mark.parametrize("late", [Status.RETRYING, Status.FAILED, Status.IN_DOUBT, Status.SUPPRESSED, Status.QUEUED])
async def test_anything_else_is_none(post: Process, late: Status) -> None:
    async with post:
        receipt = await post.add(Email(to="ann@example.org", text="x"))
        frozen, heir = await post.store.register("frozen"), await post.store.register("heir")
        message = await claimed(post, frozen)
        await kept(post, heir, result(await rescued(post, frozen, heir), Status.IN_DOUBT))
        assert not await kept(post, frozen, result(message, late))
        assert (await post.receipt(receipt)).status is Status.IN_DOUBT


async def test_nor_is_anything_while_another_worker_has_it_in_hand(post: Process) -> None:
    async with post:
        receipt = await post.add(Email(to="ann@example.org", text="x"))
        frozen, heir = await post.store.register("frozen"), await post.store.register("heir")
        message = await claimed(post, frozen)
        await rescued(post, frozen, heir)
        assert not await kept(post, frozen, result(message, Status.SENT))
        assert (await post.receipt(receipt)).status is Status.SENDING


async def test_nor_once_it_was_handed_over_again(post: Process) -> None:
    async with post:
        receipt = await post.add(Email(to="ann@example.org", text="x"))
        frozen, heir = await post.store.register("frozen"), await post.store.register("heir")
        message = await claimed(post, frozen)
        taken = await rescued(post, frozen, heir)
        await kept(post, heir, result(taken, Status.RETRYING, due_at=0.0))
        again = await claimed(post, heir)
        await kept(post, heir, result(again, Status.RETRYING))
        assert not await kept(post, frozen, result(message, Status.SENT))
        assert (await post.receipt(receipt)).status is Status.RETRYING


async def test_nor_when_a_person_has_settled_it(post: Process) -> None:
    async with post:
        receipt = await post.add(Email(to="ann@example.org", text="x"))
        frozen, heir = await post.store.register("frozen"), await post.store.register("heir")
        message = await claimed(post, frozen)
        await kept(post, heir, result(await rescued(post, frozen, heir), Status.IN_DOUBT))
        await post.outbox.resolve(receipt.id, "failed")
        assert not await kept(post, frozen, result(message, Status.SENT))
        assert (await post.receipt(receipt)).status is Status.FAILED


ANN, BOB, CID = "ann@example.org", "bob@example.org", "cid@example.org"


def stored(status: Status, **outcomes: Outcome) -> StoredMessage:
    """A message in a state, with the outcomes of ann, bob and cid as far as they are known."""
    addresses = {"ann": ANN, "bob": BOB, "cid": CID}
    results = tuple(RecipientResult(address=addresses[name], outcome=outcome) for name, outcome in outcomes.items())
    receipt = Receipt(id="m", channel=Channel.EMAIL, status=status, account="a0", recipients=results)
    return StoredMessage(1, "m", "a0/email", receipt, Progress(rounds=3), has_body=True)


@pytest.mark.parametrize(
    ("transition", "outcome"),
    [
        (Transition.LEARN_SENT, Outcome.ACCEPTED),
        (Transition.LEARN_FAILED, Outcome.PERMANENT),
        (Transition.LEARN_NOT_TAKEN, Outcome.TRANSIENT),
    ],
)
def test_what_settles_a_doubt_is_said_of_those_in_doubt_only(transition: Transition, outcome: Outcome) -> None:
    message = stored(Status.IN_DOUBT, ann=Outcome.UNKNOWN, bob=Outcome.PERMANENT)
    after = transitioned(message, transition, "seen in its log")
    assert [(result.outcome, result.detail) for result in after.receipt.recipients] == [
        (outcome, "seen in its log"),
        (Outcome.PERMANENT, None),
    ]
    assert after.receipt.status is after.status


def test_without_a_note_the_detail_stays() -> None:
    message = stored(Status.IN_DOUBT, ann=Outcome.UNKNOWN)
    assert transitioned(message, Transition.LEARN_SENT).receipt.recipients[0].detail is None


@pytest.mark.parametrize("transition", [Transition.CANCEL, Transition.HOLD])
def test_a_transition_that_settles_no_doubt_changes_no_result(transition: Transition) -> None:
    message = stored(Status.RETRYING, ann=Outcome.UNKNOWN, bob=Outcome.TRANSIENT)
    after = transitioned(message, transition, "a note")
    assert after.receipt.recipients == message.receipt.recipients
    assert after.progress == message.progress


@pytest.mark.parametrize("transition", [Transition.REQUEUE, Transition.LEARN_NOT_TAKEN])
def test_who_is_sent_to_again_begins_afresh_and_whoever_was_accepted_is_left_out(transition: Transition) -> None:
    nobody = transitioned(stored(Status.IN_DOUBT, ann=Outcome.UNKNOWN, bob=Outcome.TRANSIENT), transition)
    assert nobody.progress == Progress()
    some = transitioned(stored(Status.IN_DOUBT, ann=Outcome.UNKNOWN, bob=Outcome.ACCEPTED), transition)
    assert some.progress == Progress(pending=(ANN,))
    assert nobody.due_at == some.due_at == NOW


@pytest.mark.parametrize(
    ("transition", "status", "due_at"),
    [
        (Transition.REQUEUE, Status.FAILED, NOW),
        (Transition.HOLD, Status.QUEUED, NEVER),
        (Transition.CANCEL, Status.QUEUED, NEVER),
        (Transition.BOUNCE, Status.SENT, NEVER),
    ],
)
def test_what_waits_is_due_at_once_unless_it_is_held(transition: Transition, status: Status, due_at: float) -> None:
    after = transitioned(stored(status), transition)
    assert after.due_at == due_at
    assert after.settled is (after.status in {Status.CANCELLED, Status.BOUNCED})


def test_only_what_is_sent_again_needs_its_text() -> None:
    message = replace(stored(Status.SENT), has_body=False)
    assert transitioned(message, Transition.DELIVER).status is Status.DELIVERED
    with pytest.raises(StateConflict, match="its text removed"):
        transitioned(replace(stored(Status.FAILED), has_body=False), Transition.REQUEUE)


@pytest.mark.parametrize(
    ("outcomes", "status"),
    [
        ({}, Status.EXPIRED),
        ({"ann": Outcome.TRANSIENT}, Status.EXPIRED),
        ({"ann": Outcome.ACCEPTED, "bob": Outcome.TRANSIENT}, Status.SENT),
        ({"ann": Outcome.ACCEPTED, "bob": Outcome.UNKNOWN}, Status.IN_DOUBT),
        ({"ann": Outcome.TRANSIENT, "bob": Outcome.UNKNOWN}, Status.IN_DOUBT),
    ],
)
def test_what_expires_is_what_its_recipients_say(outcomes: dict[str, Outcome], status: Status) -> None:
    after = expired(stored(Status.RETRYING, **outcomes))
    assert (after.status, after.receipt.status, after.due_at) == (status, status, NEVER)


def report(type_: EventType, **more: Any) -> Event:
    when = datetime(2027, 1, 1, tzinfo=UTC)
    return Event(**{"type": type_, "channel": Channel.EMAIL, "provider": "stage", "occurred_at": when, **more})


def ours(*addresses: str) -> StoredMessage:
    results = tuple(RecipientResult(address=address, outcome=Outcome.ACCEPTED) for address in addresses)
    receipt = Receipt(id="m", channel=Channel.EMAIL, status=Status.SENT, account="a0", recipients=results)
    return StoredMessage(1, "m", "a0/email", receipt, Progress())


OURS = ours("ann@example.org", "bob@bücher.example")


@pytest.mark.parametrize("type_", EventType)
@pytest.mark.parametrize("recipient", [None, "", "eve@example.org", "ann@example.org.evil.example", "nn@example.org"])
def test_an_unsigned_report_about_anybody_but_a_recipient_of_its_message_changes_nothing(
    type_: EventType, recipient: str | None
) -> None:
    event = report(type_, verified=False, recipient=recipient)
    assert not teaches(event, OURS)
    assert not teaches(event, None)
    assert after_reports(OURS, [event]) is None


@pytest.mark.parametrize(
    "recipient", ["ann@example.org", " ANN@Example.Org", "bob@bücher.example", "bob@xn--bcher-kva.example"]
)
def test_an_unsigned_report_about_a_recipient_of_its_message_counts(recipient: str) -> None:
    event = report(EventType.BOUNCED, verified=False, recipient=recipient)
    assert teaches(event, OURS)
    after = after_reports(OURS, [event])
    assert after is not None
    assert after.status is Status.BOUNCED
    assert not teaches(event, None)


def test_whether_a_report_is_signed_makes_it_no_other_report() -> None:
    signed, unsigned = (report(EventType.BOUNCED, verified=verified) for verified in (True, False))
    assert signed.fingerprint == unsigned.fingerprint


@pytest.mark.parametrize("type_", [EventType.SENT, EventType.BOUNCED, EventType.COMPLAINED, EventType.UNSUBSCRIBED])
def test_anybody_can_write_a_bounce_of_something_that_was_never_sent(type_: EventType) -> None:
    assert teaches(report(type_), OURS)
    assert teaches(report(type_), None) is (type_ not in {EventType.BOUNCED, EventType.REJECTED})


def test_whoever_was_never_tried_is_not_forgotten_when_a_message_is_sent_again() -> None:
    message = stored(Status.CANCELLED, ann=Outcome.ACCEPTED, bob=Outcome.TRANSIENT)
    after = transitioned(replace(message, recipients=(ANN, BOB, CID)), Transition.REQUEUE)
    assert after.progress == Progress(pending=(BOB, CID))
