"""Observers: called after every end of a message, and never in its way."""

from __future__ import annotations

import logging
from types import ModuleType
from typing import Never

import pytest
from tests.unit.delivery.results import receipt_of
from tests.unit.delivery.sending import room_with, sms

from postroom import (
    MessageRejected,
    Outcome,
    OutcomeUnknown,
    Sms,
    Status,
)
from postroom.receipts import Accepted


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
    with caplog.at_level(logging.ERROR):
        assert "'stage-deaf' failed to observe" in caplog.text


async def test_a_doubtful_message_is_in_doubt_for_its_observers_too(stage: ModuleType) -> None:
    async def act(_: object) -> Never:
        raise OutcomeUnknown("quiet")

    async with room_with(stage, stage.Script(act), "observer") as room:
        with pytest.raises(OutcomeUnknown) as caught:
            await room.send(sms())
    assert receipt_of(caught.value).recipients[0].outcome is Outcome.UNKNOWN
    assert [("observed", "in_doubt", receipt_of(caught.value).id)] == stage.LOG
