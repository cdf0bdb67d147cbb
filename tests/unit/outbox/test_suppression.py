"""Who must not be written to: what puts an address on the list, what lifts it, and that every way of sending heeds it."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from engines.process import Clock, Engine, MakeOutbox
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from postroom import (
    Email,
    Event,
    EventType,
    Outcome,
    Postroom,
    PostroomError,
    ProviderUnavailable,
    Receipt,
    RecipientsRefused,
    Scope,
    Sms,
    Status,
    Suppressed,
    SuppressionReason,
)
from postroom.config.outbox import OutboxSettings
from postroom.outbox.records import Addressee, ClaimLimit, Settlement, Suppression
from postroom.outbox.states import SETTLED
from postroom.outbox.suppression import by_hand, learned
from postroom.receipts import Accepted, Channel

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


IN_74_YEARS = 60 * 24 * 365 * 74


async def test_what_is_dated_in_the_future_is_lifted_by_what_is_said_after_it_came(make_outbox: MakeOutbox) -> None:
    async with make_outbox() as post:
        await post.outbox.record(event(EventType.COMPLAINED, at=IN_74_YEARS, recipient="ann@example.org"))
        await post.outbox.record(text("STOP", at=IN_74_YEARS))
        assert await post.outbox.suppressed(email())
        assert await post.outbox.suppressed(Sms(to="+447700900123", body="x"))
        await post.outbox.suppressions.add(by_hand(Channel.EMAIL, "ann@example.org", "", "forged", lifted=True))
        await post.outbox.record(text("START").model_copy(update={"occurred_at": datetime.now(UTC)}))
        assert not await post.outbox.suppressed(email())
        assert not await post.outbox.suppressed(Sms(to="+447700900123", body="x"))


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
            Suppression(channel=Channel.EMAIL, address="ben@example.org", reason=SuppressionReason.MANUAL, since=NOON)
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


NUMBER = "+447700900123"
SAID = {
    "stop": text("STOP", at=0),
    "dead": event(EventType.BOUNCED, at=1, channel=Channel.SMS, recipient=NUMBER, permanent=True, message_id="m"),
    "start": text("START", at=2),
    "by hand": None,
    "dead again": event(
        EventType.REJECTED, at=4, channel=Channel.SMS, recipient=NUMBER, permanent=True, message_id="m"
    ),
}
"""In the order in which it was said; a person lifts what there is by then."""


@given(st.lists(st.sampled_from(sorted(SAID)), unique=True, max_size=5).flatmap(st.permutations))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
async def test_what_holds_is_what_was_said_last_of_each_reason_whatever_order_it_arrives_in(
    engine: Engine, tmp_path_factory: pytest.TempPathFactory, arrives: list[str]
) -> None:
    lifts = Suppression(
        channel=Channel.SMS,
        address=NUMBER,
        reason=SuppressionReason.MANUAL,
        since=NOON + timedelta(minutes=3),
        lifted=True,
    )
    store = type(engine)().store(OutboxSettings(url=f"sqlite:///{tmp_path_factory.mktemp('list')}/outbox.db"), Clock())
    for name in arrives:
        entry = learned(said) if (said := SAID[name]) else lifts
        assert entry
        await store.add_suppression(entry)
    held = {entry.reason for entry in await store.list_suppressions(None, "", 10)}
    by_hand = "by hand" in arrives
    stopped = "stop" in arrives and "start" not in arrives and not by_hand
    dead = "dead again" in arrives or ("dead" in arrives and not by_hand)
    assert held == ({"stopped"} if stopped else set()) | ({"bounced"} if dead else set())
    found = await store.match_suppressions([Addressee(Channel.SMS, NUMBER, "transactional")])
    assert bool(found) is bool(held)
    await store.close()


async def test_help_is_kept_and_changes_nothing(make_outbox: MakeOutbox) -> None:
    async with make_outbox() as post:
        await post.outbox.record(text("STOP", at=0))
        await post.outbox.record(text("HELP", at=1))
        assert await post.outbox.suppressed(Sms(to=NUMBER, body="x"))


async def test_the_languages_of_the_configuration_count(make_outbox: MakeOutbox) -> None:
    async with make_outbox(outbox={"stop_languages": ["es", "fr"]}) as post:
        await post.outbox.record(text("Désabonner!", sender="+33700900123"))
        await post.outbox.record(text("afmelden", sender="+31700900123"))
        assert await post.outbox.suppressed(Sms(to="+33700900123", body="x"))
        assert not await post.outbox.suppressed(Sms(to="+31700900123", body="x"))


def refusing(reason: str, **more: Any) -> Any:
    async def act(_: Any) -> Accepted:
        raise RecipientsRefused("no", suppress=SuppressionReason(reason), **more)

    return act


@pytest.mark.parametrize(
    ("reason", "category", "goes"),
    [
        ("bounced", "transactional", False),
        ("unsubscribed", "transactional", True),
        ("unsubscribed", "marketing", False),
    ],
)
async def test_a_refusal_counts_for_the_messages_that_its_reason_is_about(
    make_outbox: MakeOutbox, stage: ModuleType, reason: str, category: str, goes: bool
) -> None:
    async with make_outbox(stage.Script(refusing(reason))) as post:
        await post.add(email())
        await post.work()
        assert (not await post.outbox.suppressed(email(category=category))) is goes


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(email(to=["ann@example.org", "ben@example.org"]), id="of several recipients"),
        pytest.param(email(), id="for now"),
    ],
)
async def test_what_may_be_about_another_or_pass_suppresses_nobody(
    make_outbox: MakeOutbox, stage: ModuleType, message: Email
) -> None:
    for_now = {"outcome": Outcome.TRANSIENT} if len(message.recipients) == 1 else {}
    async with make_outbox(stage.Script(refusing("bounced", **for_now))) as post:
        await post.add(message)
        await post.work()
        assert await post.outbox.suppressions.list() == []


async def test_what_a_worker_learned_is_kept_though_its_message_is_another_workers(
    make_outbox: MakeOutbox,
) -> None:
    async with make_outbox() as post:
        await post.add(email())
        worker = await post.store.register("w")
        [claimed] = (await post.store.exchange(worker, [], [], {"a0/email": ClaimLimit(1, 10)})).claimed
        settled = Settlement(
            seq=claimed.seq,
            attempts=claimed.attempts,
            status=Status.FAILED,
            receipt=Receipt(id=claimed.id, channel=Channel.EMAIL, status=Status.FAILED),
            queue=claimed.queue,
            route=claimed.route,
            suppressions=(
                Suppression(
                    channel=Channel.EMAIL, address="ann@example.org", reason=SuppressionReason.BOUNCED, since=NOON
                ),
            ),
        )
        other = await post.store.register("other")
        assert (await post.store.exchange(other, [settled], [], {})).kept == (False,)
        assert await post.outbox.suppressed(email())


WAYS = ("send", "send_many", "send_each", "send required", "enqueue", "enqueue, and again after a refusal for now")
PEOPLE = [f"{name}@example.org" for name in ("ann", "ben", "eve")]


async def sent_by(way: str, room: Postroom, message: Email) -> None:
    if way.startswith("enqueue"):
        receipt = await room.enqueue(message)
        while (await room.outbox.get(receipt.id)).receipt.status not in SETTLED:
            await room.work(until_empty=True)
    elif way == "send_many":
        await room.send_many([message])
    elif way == "send_each":
        await room.send_each([message], lambda *_: None)
    else:
        with suppress(PostroomError):
            await room.send(message.model_copy(update={"required": "required" in way}))


@given(
    listed=st.lists(
        st.tuples(st.sampled_from(PEOPLE), st.sampled_from(["", "marketing", "transactional"]), st.booleans()),
        max_size=4,
    ),
    category=st.sampled_from(["marketing", "transactional"]),
    way=st.sampled_from(WAYS),
    whole=st.booleans(),
)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
async def test_no_way_of_sending_reaches_whom_the_list_names(
    stage: ModuleType,
    tmp_path_factory: pytest.TempPathFactory,
    listed: list[tuple[str, Any, bool]],
    category: Any,
    way: str,
    whole: bool,
) -> None:
    """By an account that can narrow an e-mail to some of its recipients, and by one that cannot."""
    script = stage.Script()
    later: list[Any] = []

    async def put_off_once(message: Any) -> Accepted:
        if "again" in way and not later:
            later.append(script.calls.pop())
            await write_list()
            raise ProviderUnavailable("not now", scope=Scope.MESSAGE, retry_after=0.001)
        accepted: Accepted = await stage.accept(message)
        return accepted

    async def write_list() -> None:
        for number, (address, about, lifted) in enumerate(listed):
            entry = by_hand(Channel.EMAIL, address, about, None, lifted=lifted)
            await room.outbox.suppressions.add(entry.model_copy(update={"since": NOON + timedelta(minutes=number)}))

    script.act = put_off_once
    provider = "stage-whole" if whole else "stage"
    account = stage.StageSettings(provider=provider, script=script, from_="post@example.org")
    url = f"sqlite:///{tmp_path_factory.mktemp('ways')}/outbox.db"
    message = email(to=PEOPLE[0], cc=PEOPLE[1], bcc=PEOPLE[2], category=category)
    async with Postroom(accounts={"a": account}, outbox={"url": url, "retry_first": 0.001}) as room:
        if "again" not in way:
            await write_list()
        await sent_by(way, room, message)
    held = {(address, about): lifted for address, about, lifted in listed}
    barred = {address for (address, about), lifted in held.items() if not lifted and about in {"", category}}
    assert set(script.recipients) == set(PEOPLE) - barred
    named = {address.email for sent in script.messages for address in (*sent.to, *sent.cc, *sent.bcc)}
    assert not whole or not named & barred


async def test_a_direct_send_makes_no_outbox_to_look_into(stage: ModuleType, tmp_path: Path) -> None:
    account = stage.StageSettings(script=stage.Script(), from_="post@example.org")
    async with Postroom(accounts={"a": account}, outbox={"url": f"sqlite:///{tmp_path}/outbox.db"}) as room:
        await room.send(email())
    assert list(tmp_path.iterdir()) == []
