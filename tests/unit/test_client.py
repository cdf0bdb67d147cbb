"""`Postroom.send`: identity, what is refused before anything is sent, what is kept, the client's own life."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.unit.delivery.results import receipt_of, receipts_of
from tests.unit.delivery.sending import NUMBER, Act, email, raising, route_of, sms

from postroom import (
    Config,
    DeliveryError,
    Email,
    IdempotencyConflict,
    MessageError,
    MessageRejected,
    Outcome,
    Postroom,
    PostroomClosed,
    ProviderNotFound,
    ProviderUnavailable,
    Scope,
    Status,
    UnsupportedFeature,
    WrongEventLoop,
)
from postroom.plugin import WebhookRequest


def later() -> Act:
    return raising(ProviderUnavailable("later"))


async def test_the_message_id_header_stays_over_the_accounts_of_one_send(stage: ModuleType) -> None:
    scripts = [stage.Script(later()), stage.Script(later()), stage.Script()]
    async with route_of(stage, *scripts, from_="post@bücher.example") as room:
        receipt = await room.send(email())
    stamps = {(m.id, m.message_id) for script in scripts for m in script.messages}
    assert stamps == {(receipt.id, receipt.message_id)}
    assert receipt.message_id == f"<{receipt.id}@xn--bcher-kva.example>"


async def test_every_send_has_an_id_and_a_message_id_of_its_own(stage: ModuleType) -> None:
    message = email()
    async with route_of(stage, stage.Script(), from_="post@example.org") as room:
        receipts = receipts_of(await room.send_many([message] * 500))
    assert len({receipt.id for receipt in receipts}) == 500
    assert len({receipt.message_id for receipt in receipts}) == 500
    assert message.id is None
    assert message.message_id is None


async def test_an_id_and_a_message_id_that_are_given_are_kept(stage: ModuleType) -> None:
    script = stage.Script()
    async with route_of(stage, script, from_="post@example.org") as room:
        receipt = await room.send(email(id="mine-1", message_id="<mine@example.org>"))
    assert (receipt.id, receipt.message_id) == ("mine-1", "<mine@example.org>")
    assert (script.messages[0].id, script.messages[0].message_id) == ("mine-1", "<mine@example.org>")


@pytest.mark.parametrize("bad", ["../up", "a/b", "a b", "a>b", "a\\b", ".", "..", "ä", "a\tb"])
def test_an_id_that_could_not_stand_in_a_file_name_or_a_header_is_refused(bad: str) -> None:
    with pytest.raises(MessageError, match="id"):
        email(id=bad)


async def test_an_email_goes_to_the_account_of_the_route_that_has_a_sender(stage: ModuleType) -> None:
    first, second = stage.Script(), stage.Script()
    accounts = {
        "a": stage.StageSettings(script=first),
        "b": stage.StageSettings(script=second, from_="post@example.org"),
    }
    async with Postroom(accounts=accounts, routes={"r": {"via": ["a", "b"]}}) as room:
        assert (await room.send(email(provider="r"))).account == "b"


async def test_an_account_that_cannot_express_the_message_is_passed_over(stage: ModuleType) -> None:
    first, second = stage.Script(), stage.Script()
    async with route_of(stage, first, second, providers=["stage-plain", "stage"], from_="p@example.org") as room:
        receipt = await room.send(email(html="<p>hello"))
    assert receipt.account == "a1"
    assert first.calls == []
    assert [attempt.account for attempt in receipt.attempts] == ["a1"]


async def test_when_no_account_can_express_the_message_nothing_is_sent(stage: ModuleType) -> None:
    first, second = stage.Script(), stage.Script()
    async with route_of(stage, first, second, providers=["stage-plain"] * 2, from_="p@example.org") as room:
        with pytest.raises(UnsupportedFeature, match="html"):
            await room.send(email(html="<p>hello"))
    assert first.calls == second.calls == []


async def test_a_real_attempt_outweighs_an_account_that_did_not_try(stage: ModuleType) -> None:
    first, second = stage.Script(later()), stage.Script()
    async with route_of(stage, first, second, providers=["stage", "stage-plain"], from_="p@example.org") as room:
        with pytest.raises(ProviderUnavailable) as caught:
            await room.send(email(html="<p>hello"))
    assert receipt_of(caught.value).recipients[0].outcome is Outcome.TRANSIENT


def kept_room(stage: ModuleType, tmp_path: Path, script: Any, **settings: Any) -> Postroom:
    """A room with one account, whose outbox is in the test's own folder."""
    account = stage.StageSettings(script=script, from_="p@example.org", **settings)
    return Postroom(accounts={"a": account}, outbox={"url": f"sqlite:///{tmp_path}/outbox.db"})


async def test_a_direct_send_needs_no_outbox_and_makes_none(stage: ModuleType, bare_surroundings: Path) -> None:
    async with route_of(stage, stage.Script(), from_="p@example.org") as room:
        await room.send(email())
    assert list(bare_surroundings.iterdir()) == []


@pytest.mark.parametrize("more", [{"required": True}, {"idempotency_key": "k"}])
async def test_a_message_to_be_kept_is_stored_and_delivered_in_one_call(
    stage: ModuleType, tmp_path: Path, more: Any
) -> None:
    script = stage.Script()
    async with kept_room(stage, tmp_path, script) as room:
        receipt = await room.send(email(**more))
        assert (receipt.status, receipt.account, len(receipt.attempts)) == (Status.SENT, "a", 1)
        assert (await room.outbox.get(receipt.id)).receipt == receipt
    assert [message.message_id for message in script.messages] == [receipt.message_id]


async def test_a_required_message_that_cannot_be_delivered_now_is_kept_and_raises_nothing(
    stage: ModuleType, tmp_path: Path
) -> None:
    async with kept_room(stage, tmp_path, stage.Script(later())) as room:
        receipt = await room.send(email(required=True))
        assert receipt.status is Status.RETRYING
    taking = stage.Script()
    async with kept_room(stage, tmp_path, taking) as room:
        await room.outbox.retry(receipt.id)
        await room.work(until_empty=True)
        assert (await room.outbox.get(receipt.id)).receipt.status is Status.SENT
    assert [message.id for message in taking.messages] == [receipt.id]


async def test_a_required_message_that_is_refused_for_good_raises_what_a_direct_send_raises(
    stage: ModuleType, tmp_path: Path
) -> None:
    async with kept_room(stage, tmp_path, stage.Script(raising(MessageRejected("no", provider_code="9")))) as room:
        with pytest.raises(MessageRejected) as caught:
            await room.send(email(required=True))
    assert (caught.value.provider_code, receipt_of(caught.value).status) == ("9", Status.FAILED)


async def test_the_same_key_gives_the_first_receipt_again_and_sends_once(stage: ModuleType, tmp_path: Path) -> None:
    script = stage.Script()
    async with kept_room(stage, tmp_path, script) as room:
        first = await room.send(email(idempotency_key="order-7"))
        assert await room.send(email(idempotency_key="order-7")) == first
        with pytest.raises(IdempotencyConflict, match="order-7"):
            await room.send(email(idempotency_key="order-7", subject="another"))
    assert len(script.calls) == 1


async def test_twenty_senders_with_one_key_make_one_message(stage: ModuleType, tmp_path: Path) -> None:
    script = stage.Script()
    async with kept_room(stage, tmp_path, script) as room:
        receipts = await asyncio.gather(*(room.send(email(idempotency_key="k")) for _ in range(20)))
    assert len({receipt.id for receipt in receipts}) == 1
    assert len(script.calls) == 1


async def test_a_keyed_message_that_is_not_required_is_tried_in_one_round_only(
    stage: ModuleType, tmp_path: Path
) -> None:
    async with kept_room(stage, tmp_path, stage.Script(later())) as room:
        with pytest.raises(ProviderUnavailable):
            await room.send(email(idempotency_key="k"))
        assert (await room.outbox.stats()).states == {Status.FAILED: 1}


async def test_an_expired_message_is_not_sent(stage: ModuleType) -> None:
    script = stage.Script()
    now = datetime.now(UTC)
    async with route_of(stage, script, from_="p@example.org") as room:
        with pytest.raises(MessageError, match=r"expired at .*; nothing was sent"):
            await room.send(email(expires_at=now - timedelta(seconds=1)))
        await room.send(email(expires_at=now + timedelta(hours=1)))
    assert len(script.calls) == 1


async def test_a_time_that_is_past_is_now_and_one_to_come_needs_the_feature(stage: ModuleType) -> None:
    script, now = stage.Script(), datetime.now(UTC)
    async with route_of(stage, script, providers=["stage-plain"], from_="p@example.org") as room:
        await room.send(email(send_at=now - timedelta(minutes=1)))
        assert script.messages[0].send_at is None
        with pytest.raises(UnsupportedFeature, match="send_at"):
            await room.send(email(send_at=now + timedelta(minutes=1)))


async def test_what_can_never_be_sent_is_raised_by_enqueue_for_one_and_is_a_result_for_many(
    stage: ModuleType, tmp_path: Path
) -> None:
    async with kept_room(stage, tmp_path, stage.Script()) as room:
        with pytest.raises(ProviderNotFound, match="nobody"):
            await room.enqueue(sms(provider="nobody"))
        wrong, _ = await room.enqueue_many([sms(provider="nobody"), sms()])
    assert isinstance(wrong, ProviderNotFound)


NO_MESSAGES = [None, "text", {"to": "a@example.org"}, 7, Email, object()]


@pytest.mark.parametrize("thing", NO_MESSAGES)
async def test_anything_but_a_message_is_a_type_error(stage: ModuleType, tmp_path: Path, thing: Any) -> None:
    async with kept_room(stage, tmp_path, stage.Script()) as room:
        for use in (room.send, room.enqueue):
            with pytest.raises(TypeError, match="takes an Email or an Sms, not "):
                await use(thing)
        with pytest.raises(TypeError, match="takes an Email or an Sms, not "):
            room.preview(thing)


@pytest.mark.parametrize("thing", NO_MESSAGES)
async def test_anything_but_a_message_among_many_is_its_own_result(
    stage: ModuleType, tmp_path: Path, thing: Any
) -> None:
    async with kept_room(stage, tmp_path, stage.Script()) as room:
        for use in (room.send_many, room.enqueue_many):
            before, wrong, after = await use([sms(), thing, sms()])
            assert isinstance(wrong, MessageError)
            assert "takes an Email or an Sms, not " in str(wrong)
            receipts_of([before, after])


USES: dict[str, Callable[[Postroom], Awaitable[object]]] = {
    "send": lambda room: room.send(sms()),
    "send, required": lambda room: room.send(sms(required=True)),
    "send_many": lambda room: room.send_many([sms()]),
    "send_each": lambda room: room.send_each([sms()], lambda *_: None),
    "enqueue": lambda room: room.enqueue(sms()),
    "enqueue_many": lambda room: room.enqueue_many([sms()]),
    "work": lambda room: room.work(until_empty=True),
    "receive": lambda room: room.receive(
        "a", WebhookRequest(method="POST", url="https://x.example/", headers={}, body=b"")
    ),
    "check": lambda room: room.check(),
    "async with": lambda room: room.__aenter__(),
}


@pytest.mark.parametrize("use", USES)
async def test_a_closed_client_does_nothing_more(stage: ModuleType, tmp_path: Path, use: str) -> None:
    script = stage.Script()
    room = kept_room(stage, tmp_path, script)
    await room.send(sms())
    await room.close()
    await room.close()
    with pytest.raises(PostroomClosed, match="closed; make a new one"):
        await USES[use](room)
    assert (len(script.calls), script.opened, script.closed) == (1, 1, 1)


async def test_a_closed_client_opens_no_outbox_that_nobody_would_close(stage: ModuleType, tmp_path: Path) -> None:
    room = kept_room(stage, tmp_path, stage.Script())
    await room.close()
    with pytest.raises(PostroomClosed, match="make a new one to use its outbox"):
        _ = room.outbox


@pytest.mark.parametrize("use", USES)
def test_a_client_belongs_to_one_loop(stage: ModuleType, tmp_path: Path, use: str) -> None:
    script = stage.Script()
    room = kept_room(stage, tmp_path, script)
    asyncio.run(sent(room))
    with pytest.raises(WrongEventLoop, match="another event loop; make one in each loop"):
        asyncio.run(awaited(USES[use](room)))
    assert len(script.calls) == 1


async def sent(room: Postroom) -> None:
    await room.send(sms())


async def awaited(use: Awaitable[object]) -> None:
    await use


async def test_a_client_that_was_never_used_closes(stage: ModuleType) -> None:
    room = Postroom()
    await room.close()
    with pytest.raises(PostroomClosed):
        await room.send(sms())


async def test_rules_that_lead_nowhere_send_nothing_to_anybody(stage: ModuleType) -> None:
    script = stage.Script()
    config = Config.model_validate(
        {
            "accounts": {"a": stage.StageSettings(script=script)},
            "rules": [{"country": "GB", "use": "a"}, {"country": "US", "use": "gone"}],
        }
    )
    async with Postroom(config) as room:
        with pytest.raises(ProviderNotFound, match="gone"):
            await room.send(sms(to=[NUMBER, "+12025550123"]))
    assert script.calls == []


async def test_a_code_config_and_parts_together_are_refused(stage: ModuleType) -> None:
    with pytest.raises(TypeError, match="not both"):
        Postroom(Config(), accounts={"a": {"provider": "memory"}})


async def test_a_preview_of_the_targets_opens_nothing_and_moves_no_rotation(stage: ModuleType) -> None:
    script = stage.Script()
    accounts = {n: stage.StageSettings(script=script) for n in "abc"}
    routes = {"r": {"strategy": "round_robin", "via": list("abc")}}
    async with Postroom(accounts=accounts, routes=routes) as room:
        shown = [room.targets(sms(provider="r")) for _ in range(3)]
        assert [[t.name for t in targets] for targets in shown] == [list("abc")] * 3
        assert script.opened == 0
        assert (await room.send(sms(provider="r"))).account == "a"
        assert [t.name for t in room.targets(sms(provider="r"))] == list("bca")


async def test_an_account_failure_moves_on_but_says_so(stage: ModuleType, caplog: pytest.LogCaptureFixture) -> None:
    first = stage.Script(raising(DeliveryError("no", outcome=Outcome.PERMANENT, scope=Scope.ACCOUNT)))
    async with route_of(stage, first, stage.Script()) as room:
        receipt = await room.send(sms())
    assert [a.outcome for a in receipt.attempts] == [Outcome.PERMANENT, Outcome.ACCEPTED]


def test_an_error_with_the_outcome_of_a_success_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="accepted"):
        DeliveryError("fine", outcome=Outcome.ACCEPTED)
