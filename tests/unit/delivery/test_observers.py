"""Observers: called after every end of a message, and never in its way."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from types import ModuleType
from typing import Never

import pytest
from tests.unit.delivery.results import receipt_of
from tests.unit.delivery.sending import room_with, sms

from postroom import (
    Channel,
    EventType,
    MessageRejected,
    Outcome,
    OutcomeUnknown,
    Receipt,
    Sms,
    Status,
)
from postroom.delivery.observers import event_of
from postroom.receipts import Accepted, Attempt


async def test_observers_hear_of_every_end(stage: ModuleType) -> None:
    async def act(message: Sms) -> Accepted:
        if message.body == "no":
            raise MessageRejected("no")
        if message.body == "doubt":
            raise OutcomeUnknown("doubt")
        return Accepted()

    async with room_with(stage, stage.Script(act), "observer") as room:
        for body in ("yes", "no", "doubt"):
            await room.send_many([sms(body)])
    assert [entry[1] for entry in stage.LOG] == ["sent", "failed", "in_doubt"]


async def test_an_observer_that_breaks_is_logged_and_the_next_is_called(
    stage: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    async with room_with(stage, stage.Script(), "deaf", "observer") as room:
        receipt = await room.send(sms())
    assert receipt.status is Status.SENT
    assert [("observed", "sent", receipt.id)] == stage.LOG
    [record] = caplog.records
    assert (record.name, record.levelno) == ("postroom.plugins", logging.ERROR)
    assert "'stage-deaf' failed to observe" in record.getMessage()


async def test_a_doubtful_message_is_in_doubt_for_its_observers_too(stage: ModuleType) -> None:
    async def act(_: object) -> Never:
        raise OutcomeUnknown("quiet")

    async with room_with(stage, stage.Script(act), "observer") as room:
        with pytest.raises(OutcomeUnknown) as caught:
            await room.send(sms())
    assert receipt_of(caught.value).recipients[0].outcome is Outcome.UNKNOWN
    assert [("observed", "in_doubt", receipt_of(caught.value).id)] == stage.LOG


EVENTS = {
    Status.SENT: EventType.SENT,
    Status.DELIVERED: EventType.SENT,
    Status.BOUNCED: EventType.SENT,
    Status.IN_DOUBT: EventType.IN_DOUBT,
    Status.RETRYING: EventType.DEFERRED,
    Status.FAILED: EventType.FAILED,
    Status.EXPIRED: EventType.FAILED,
    Status.SUPPRESSED: EventType.FAILED,
}


@pytest.mark.parametrize("status", EVENTS)
def test_an_event_says_how_the_message_stands_and_what_its_last_attempt_was(status: Status) -> None:
    now = datetime.now(UTC)
    tries = [
        Attempt(account="a", provider="stage", outcome=Outcome.TRANSIENT, started_at=now, duration=0.1, **known)
        for known in ({"error": "rate_limited", "detail": "slow"}, {"error": "quota_exhausted", "detail": "empty"})
    ]
    receipt = Receipt(
        id="m",
        channel=Channel.SMS,
        status=status,
        provider="stage",
        account="a",
        provider_message_id="p",
        attempts=tries,
    )
    event = event_of(receipt)
    assert event.type is EVENTS[status]
    assert (event.message_id, event.provider_message_id, event.channel) == ("m", "p", Channel.SMS)
    assert (event.provider, event.account, event.code, event.detail) == ("stage", "a", "quota_exhausted", "empty")
    assert now <= event.occurred_at <= datetime.now(UTC)


def test_an_event_of_a_message_that_nobody_tried_names_no_provider() -> None:
    event = event_of(Receipt(id="m", channel=Channel.EMAIL, status=Status.SUPPRESSED))
    assert (event.provider, event.account, event.code, event.detail) == ("", None, None, None)
