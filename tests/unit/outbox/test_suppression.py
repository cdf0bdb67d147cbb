"""Who must not be written to: what puts an address on the list, what lifts it, and that every way of sending heeds it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from engines.process import MakeOutbox

from postroom import Email, Event, EventType, Postroom, Sms, Status, Suppressed
from postroom.outbox.records import Suppression
from postroom.receipts import Channel

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def event(type_: EventType, *, at: float = 0, channel: Channel = Channel.EMAIL, **more: Any) -> Event:
    return Event(type=type_, channel=channel, provider="stage", occurred_at=NOON + timedelta(minutes=at), **more)


def text(said: str, *, at: float = 0, sender: str = "+447700900123") -> Event:
    return event(EventType.INBOUND, at=at, channel=Channel.SMS, sender=sender, recipient="+447700900001", text=said)


def email(to: str | list[str] = "ann@example.org", **more: Any) -> Email:
    return Email(**{"to": to, "subject": "x", "text": "x", **more})


@pytest.mark.parametrize(
    ("report", "transactional", "marketing"),
    [
        (event(EventType.COMPLAINED, recipient="Ann@Example.org"), False, False),
        (event(EventType.UNSUBSCRIBED, recipient="ann@example.org"), True, False),
        (event(EventType.BOUNCED, recipient="ann@example.org", permanent=False), True, True),
        (event(EventType.BOUNCED, recipient="ann@example.org", permanent=True), True, True),
        (event(EventType.DELIVERED, recipient="ann@example.org"), True, True),
    ],
    ids=["complaint", "unsubscribe", "soft bounce", "bounce of a mail nobody knows", "delivery"],
)
async def test_a_report_keeps_the_messages_back_that_it_should(
    make_outbox: MakeOutbox, report: Event, transactional: bool, marketing: bool
) -> None:
    async with make_outbox() as post:
        await post.outbox.record(report)
        goes = [not await post.outbox.suppressed(email(category=c)) for c in ("transactional", "marketing")]
        assert goes == [transactional, marketing]


async def test_a_bounce_of_a_message_of_ours_ends_mail_to_a_dead_address(make_outbox: MakeOutbox) -> None:
    async with make_outbox() as post:
        receipt = await post.add(email())
        await post.work()
        await post.outbox.record(
            event(EventType.BOUNCED, recipient="ann@example.org", permanent=True, message_id=receipt.id, code="5.1.1")
        )
        assert "bounced" in str((await post.outbox.suppressed(email()))["ann@example.org"])


@pytest.mark.parametrize("permanent", [False, None], ids=["soft", "of unknown kind"])
async def test_a_bounce_that_may_pass_keeps_nothing_back(make_outbox: MakeOutbox, permanent: bool | None) -> None:
    async with make_outbox() as post:
        receipt = await post.add(email())
        await post.work()
        bounce = event(
            EventType.BOUNCED, recipient="ann@example.org", permanent=permanent, message_id=receipt.id, code="4.2.2"
        )
        moved = await post.outbox.record(bounce)
        assert moved is not None
        assert moved.status is Status.BOUNCED
        assert not await post.outbox.suppressed(email())


@pytest.mark.parametrize("word", ["STOP", " stop. ", "Unsubscribe!", "stop all", "QUIT"])
async def test_a_stop_word_alone_ends_every_sms(make_outbox: MakeOutbox, word: str) -> None:
    async with make_outbox() as post:
        await post.outbox.record(text(word))
        assert await post.outbox.suppressed(Sms(to="+447700900123", body="x"))
        assert not await post.outbox.suppressed(Sms(to="+447700900124", body="x"))


@pytest.mark.parametrize("said", ["please stop calling me names", "", "stopp", "don't stop"])
async def test_a_stop_word_within_a_text_is_just_a_word(make_outbox: MakeOutbox, said: str) -> None:
    async with make_outbox() as post:
        await post.outbox.record(text(said))
        assert not await post.outbox.suppressed(Sms(to="+447700900123", body="x"))


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_what_was_said_later_counts_whatever_comes_first(make_outbox: MakeOutbox, order: tuple[int, int]) -> None:
    said = [text("STOP", at=0), text("START", at=5)]
    async with make_outbox() as post:
        for index in order:
            await post.outbox.record(said[index])
        assert not await post.outbox.suppressed(Sms(to="+447700900123", body="x"))


async def test_only_those_on_the_list_are_left_out(stage: ModuleType, tmp_path: Path) -> None:
    script = stage.Script()
    account = stage.StageSettings(script=script, from_="post@example.org")
    async with Postroom(accounts={"a": account}, outbox={"url": f"sqlite:///{tmp_path}/outbox.db"}) as room:
        await room.outbox.suppressions.add(
            Suppression(channel=Channel.EMAIL, address="ben@example.org", reason="manual", since=NOON)
        )
        both = email(to=["ann@example.org", "ben@example.org"])
        queued = await room.enqueue(both)
        await room.work(until_empty=True)
        stored = (await room.outbox.get(queued.id)).receipt
        for receipt in (stored, await room.send(both)):
            assert receipt.status is Status.SENT
            assert {r.address: r.code for r in receipt.recipients} == {
                "ann@example.org": None,
                "ben@example.org": "suppressed",
            }
        with pytest.raises(Suppressed, match="suppression list"):
            await room.send(email(to="ben@example.org"))
    assert script.recipients == ["ann@example.org", "ann@example.org"]


async def test_a_direct_send_makes_no_outbox_to_look_into(stage: ModuleType, tmp_path: Path) -> None:
    account = stage.StageSettings(script=stage.Script(), from_="post@example.org")
    async with Postroom(accounts={"a": account}, outbox={"url": f"sqlite:///{tmp_path}/outbox.db"}) as room:
        await room.send(email())
    assert list(tmp_path.iterdir()) == []
