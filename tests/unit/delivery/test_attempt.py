"""One attempt: prepared for its account, split as its transport needs it, and nobody written to who must not be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any, Never

import pytest
from tests.growth import FACTOR, MOST, TRIES, measured
from tests.unit.delivery.results import receipt_of
from tests.unit.delivery.sending import (
    email,
    raising,
    room_of,
    route_of,
    sms,
)

from postroom import (
    Attachment,
    Channel,
    Config,
    ContractViolation,
    DeliveryError,
    Email,
    MessageError,
    MessageRejected,
    Outcome,
    OutcomeUnknown,
    Postroom,
    PostroomError,
    ProviderUnavailable,
    Receipt,
    RecipientResult,
    Sms,
    Status,
    Suppressed,
    UnsupportedFeature,
)
from postroom.addresses import Address
from postroom.delivery.accounts import Accounts, Target
from postroom.delivery.attempt import attempt, check_sendable, message_id_for, split_for_transport
from postroom.delivery.middleware import SendMiddleware
from postroom.delivery.progress import DeliveryProgress
from postroom.outbox.suppression import by_hand
from postroom.plugin import Withdrawn
from postroom.receipts import Accepted
from postroom.registry.registry import Registry

ANN, BOB, DEAD = "ann@example.org", "bob@example.org", "dead@example.org"
WAYS = ["direct", "outbox"]
KINDS = ["stage", "stage-whole", "stage-batch"]


def outbox_room(stage: ModuleType, folder: Path, **accounts: Any) -> Postroom:
    return Postroom(
        accounts=accounts,
        routes={"r": {"via": list(accounts)}},
        defaults={"email": "r"},
        outbox={"url": f"sqlite:///{folder}/outbox.db", "attempts": 1},
    )


async def sent(room: Postroom, email: Email, way: str) -> Receipt:
    """Send directly or through the outbox; the receipt, whatever it says."""
    if way == "direct":
        try:
            return await room.send(email)
        except DeliveryError as error:
            return receipt_of(error)
    receipt = await room.enqueue(email)
    await room.work(until_empty=True)
    return (await room.outbox.get(receipt.id)).receipt


def everybody_named(messages: list[Email]) -> set[str]:
    return {address.email for message in messages for address in (*message.to, *message.cc, *message.bcc)}


def outcomes(receipt: Receipt) -> dict[str, tuple[Outcome, str | None]]:
    return {result.address: (result.outcome, result.code) for result in receipt.recipients}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("field", ["to", "cc", "bcc"])
async def test_a_suppressed_recipient_is_left_out_and_the_others_are_served_on_every_provider(
    stage: ModuleType, tmp_path: Path, way: str, kind: str, field: str
) -> None:
    script = stage.Script()
    async with outbox_room(
        stage, tmp_path, a=stage.StageSettings(provider=kind, script=script, from_="p@example.org")
    ) as room:
        await room.outbox.suppressions.add(by_hand(Channel.EMAIL, DEAD, "", "asked us", lifted=False))
        given: dict[str, Any] = {"to": [ANN]}
        given[field] = [*given.get(field, ()), DEAD]
        receipt = await sent(room, Email(**given, text="x"), way)
    assert script.recipients == [ANN]
    assert everybody_named(script.messages) == ({ANN} if kind == "stage-whole" else {ANN, DEAD})
    assert receipt.status is Status.SENT
    assert outcomes(receipt) == {ANN: (Outcome.ACCEPTED, None), DEAD: (Outcome.PERMANENT, "suppressed")}


@pytest.mark.parametrize("way", WAYS)
async def test_an_account_that_writes_to_all_is_not_tried_once_somebody_was_served(
    stage: ModuleType, tmp_path: Path, way: str
) -> None:
    async def takes_ann_only(message: Email) -> Accepted:
        results = (
            RecipientResult(address=ANN, outcome=Outcome.ACCEPTED),
            RecipientResult(address=BOB, outcome=Outcome.TRANSIENT, code="greylisted"),
        )
        return Accepted(provider_message_id="1", recipients=results)

    narrow = stage.StageSettings(script=stage.Script(takes_ann_only), from_="p@example.org")
    writes_to_all = stage.Script()
    whole = stage.StageSettings(provider="stage-whole", script=writes_to_all, from_="p@example.org")
    async with outbox_room(stage, tmp_path, narrow=narrow, whole=whole) as room:
        receipt = await sent(room, Email(to=[ANN, BOB], text="x"), way)
    assert writes_to_all.calls == []
    assert outcomes(receipt)[ANN] == (Outcome.ACCEPTED, None)
    assert outcomes(receipt)[BOB] == (Outcome.TRANSIENT, "greylisted")


async def test_a_message_all_of_whose_recipients_are_suppressed_goes_nowhere(stage: ModuleType, tmp_path: Path) -> None:
    script = stage.Script()
    async with outbox_room(stage, tmp_path, a=stage.StageSettings(script=script, from_="p@example.org")) as room:
        await room.outbox.suppressions.add(by_hand(Channel.EMAIL, DEAD, "", None, lifted=False))
        with pytest.raises(PostroomError, match="suppression list"):
            await room.send(Email(to=DEAD, text="x"))
    assert script.calls == []


async def test_a_validation_that_breaks_is_the_plugins_fault_and_sends_nothing(stage: ModuleType) -> None:
    def validate(message: Sms) -> Never:
        raise KeyError("oh")

    script = stage.Script(validate=validate)
    async with room_of(stage, script) as room:
        with pytest.raises(ContractViolation, match="KeyError when it validated the message") as caught:
            await room.send(sms())
        assert isinstance(caught.value.__cause__, KeyError)
    assert script.calls == []


async def test_an_sms_to_several_numbers_is_split_and_each_has_its_own_result(stage: ModuleType) -> None:
    async def act(message: Sms) -> Accepted:
        (number,) = message.recipients
        if number.endswith("2"):
            raise MessageRejected("no", provider_code="22")
        if number.endswith("3"):
            raise OutcomeUnknown("gone quiet")
        return Accepted(provider_message_id=number)

    script = stage.Script(act)
    numbers = ["+442079460951", "+442079460952", "+442079460953", "+442079460954", "+442079460951"]
    async with room_of(stage, script) as room:
        receipt = await room.send(sms(to=numbers))
    assert sorted(script.recipients) == sorted(set(numbers))
    assert all(message.to == message.recipients for message in script.messages)
    results = {
        r.address[-1]: (r.outcome, r.provider_message_id and r.provider_message_id[-1]) for r in receipt.recipients
    }
    assert results == {
        "1": (Outcome.ACCEPTED, "1"),
        "2": (Outcome.PERMANENT, None),
        "3": (Outcome.UNKNOWN, None),
        "4": (Outcome.ACCEPTED, "4"),
    }
    assert [r.address for r in receipt.recipients] == numbers[:4]
    assert receipt.status is Status.IN_DOUBT


async def test_an_sms_is_split_as_finely_as_the_provider_needs(stage: ModuleType) -> None:
    script = stage.Script()
    numbers = [f"+44207946095{n}" for n in range(5)]
    async with room_of(stage, script, "stage-pairs") as room:
        await room.send(sms(to=numbers))
    assert [message.to for message in script.messages] == [tuple(numbers[:2]), tuple(numbers[2:4]), tuple(numbers[4:])]


async def test_the_unsupported_is_refused_or_warned_about_as_the_account_says(
    stage: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    email = Email(
        to="b@example.org",
        from_="a@example.org",
        html="<p>hello",
        tags=("x",),
        attachments=[Attachment(filename="x.txt", content=b"x")],
        metadata={"a": "b"},
        reply_to=["c@example.org"],
    )
    script = stage.Script()
    async with room_of(stage, script, "stage-plain") as room:
        with pytest.raises(UnsupportedFeature, match="attachments, html, metadata, reply_to, tags") as caught:
            await room.send(email)
    assert (caught.value.feature, caught.value.provider) == ("attachments", "stage-plain")
    assert script.calls == []
    async with room_of(stage, script, "stage-plain", unsupported="warn") as room:
        assert (await room.send(email)).status is Status.SENT
    assert "without attachments, html, metadata, reply_to, tags" in caplog.text


async def test_an_sms_to_thousands_costs_no_more_for_each_of_them(stage: ModuleType) -> None:
    numbers = tuple(f"+4420{70000000 + n}" for n in range(FACTOR * 400))
    for _ in range(TRIES):
        few = await _cost_of_an_sms(stage, numbers[:400])
        many = await _cost_of_an_sms(stage, numbers)
        if many < MOST * few:
            return
    pytest.fail(f"{FACTOR} times as many recipients cost {many / few:.0f} times as much")


async def _cost_of_an_sms(stage: ModuleType, numbers: tuple[str, ...]) -> float:
    """Seconds of processor time to send one to all of them."""
    script, message = stage.Script(), sms(to=numbers)
    async with room_of(stage, script, "stage-batch") as room:
        with measured() as spent:
            receipt = await room.send(message)
    assert [result.address for result in receipt.recipients] == list(numbers)
    assert sorted(script.recipients) == sorted(numbers)
    return spent[0]


async def test_an_email_to_more_recipients_than_the_provider_takes_is_refused(stage: ModuleType) -> None:
    script = stage.Script()
    everyone = [f"a{number}@example.org" for number in range(3)]
    async with route_of(stage, script, providers=["stage-pairs"], from_="post@example.org") as room:
        with pytest.raises(MessageError, match="at most 2 recipients a message, this has 3; nothing was sent"):
            await room.send(email(to=everyone))
        await room.send(email(to=everyone[:2]))
    assert len(script.calls) == 1


async def test_the_message_own_sender_goes_before_the_accounts(stage: ModuleType) -> None:
    script = stage.Script()
    async with room_of(stage, script, from_="Post <post@example.org>") as room:
        await room.send(email())
        await room.send(email(from_="ann@example.org"))
        await room.send(email(from_name="The Post"))
        await room.send(email(from_="Ann <ann@example.org>", from_name="The Post"))
    senders = [
        "Post <post@example.org>",
        "ann@example.org",
        "The Post <post@example.org>",
        "The Post <ann@example.org>",
    ]
    assert [str(message.from_) for message in script.messages] == senders


async def test_all_accounts_get_an_email_of_one_message_id_and_one_date(stage: ModuleType) -> None:
    scripts = [stage.Script(raising(ProviderUnavailable("later"))), stage.Script()]
    before = datetime.now(UTC)
    async with route_of(stage, *scripts, from_="p@example.org") as room:
        for message in (email(), email(message_id="<own@example.org>")):
            await room.send(message)
    for number in range(2):
        [first, second] = [script.messages[number] for script in scripts]
        assert first.message_id == second.message_id
        assert first.date == second.date
        assert before <= first.date <= datetime.now(UTC)
    assert scripts[0].messages[1].message_id == "<own@example.org>"


async def test_an_sms_of_several_parts_that_is_withdrawn_is_withdrawn_as_a_whole(stage: ModuleType) -> None:
    async def confirm() -> Never:
        raise Withdrawn("it belongs to somebody else")

    script = stage.Script()
    config = Config.model_validate({"accounts": {"a": stage.StageSettings(script=script)}})
    accounts = Accounts(config, Registry(), SendMiddleware())
    message = sms(id="m-1", to=["+442079460951", "+442079460952"])
    progress = DeliveryProgress(message, "m-1")
    with pytest.raises(Withdrawn):
        await attempt(accounts, Target("a", "stage"), message, message.recipients, progress, confirm=confirm)
    assert script.calls == []
    assert progress.untouched
    await accounts.close()


async def test_only_those_who_are_still_suppressed_are_left_out_of_the_headers(stage: ModuleType) -> None:
    script = stage.Script()
    config = Config.model_validate({"accounts": {"a": stage.StageSettings(provider="stage-whole", script=script)}})
    accounts = Accounts(config, Registry(), SendMiddleware())
    message = email(id="m-1", to=[ANN, BOB, DEAD], from_="p@example.org")
    progress = DeliveryProgress(message, "m-1")
    progress.suppress({BOB: Suppressed("asked us"), DEAD: Suppressed("asked us")})
    progress.release((BOB,))
    await attempt(accounts, Target("a", "stage-whole"), message, (ANN, BOB), progress)
    assert everybody_named(script.messages) == {ANN, BOB}
    assert script.recipients == [ANN, BOB]
    await accounts.close()


async def test_an_email_without_any_sender_is_a_clear_error(stage: ModuleType) -> None:
    script = stage.Script()
    async with room_of(stage, script) as room:
        with pytest.raises(MessageError, match=r"no sender: .* from_, or set from on account 'a'; nothing was sent"):
            await room.send(email())
    assert script.calls == []


def test_an_email_for_some_of_its_recipients_needs_a_provider_that_can_narrow_it(stage: ModuleType) -> None:
    message = email(id="m-1", to=[ANN, BOB], from_="p@example.org")
    for provider, narrows in (("stage", True), ("stage-whole", False)):
        config = Config.model_validate({"accounts": {"a": stage.StageSettings(provider=provider)}})
        dispatcher = Accounts(config, Registry(), SendMiddleware()).unopened(Target("a", provider), message)
        if narrows:
            assert [part.recipients for part in split_for_transport(message, (BOB,), dispatcher)] == [(BOB,)]
        else:
            with pytest.raises(UnsupportedFeature, match="a: stage-whole cannot send to only some") as caught:
                split_for_transport(message, (BOB,), dispatcher)
            assert (caught.value.feature, caught.value.provider) == ("partial_envelope", "stage-whole")
        assert split_for_transport(message, (ANN, BOB), dispatcher) == [message]


async def test_those_who_are_left_after_one_account_are_grouped_for_the_next(stage: ModuleType) -> None:
    numbers = tuple(f"+44207946095{n}" for n in range(5))

    async def act(message: Sms) -> Accepted:
        if message.recipients[0] != numbers[1]:
            raise ProviderUnavailable("later")
        return Accepted()

    first, second = stage.Script(act), stage.Script()
    async with route_of(stage, first, second, providers=["stage", "stage-pairs"]) as room:
        receipt = await room.send(sms(to=numbers))
    assert sorted(first.recipients) == sorted(numbers)
    assert [message.to for message in second.messages] == [(numbers[0], numbers[2]), (numbers[3], numbers[4])]
    assert [message.recipients for message in second.messages] == [message.to for message in second.messages]
    assert {message.id for message in second.messages} == {receipt.id}
    assert [result.outcome for result in receipt.recipients] == [Outcome.ACCEPTED] * 5


async def test_one_number_of_many_that_is_left_is_the_only_one_in_the_message(stage: ModuleType) -> None:
    numbers = ("+442079460951", "+442079460952")

    async def act(message: Sms) -> Accepted:
        results = (
            RecipientResult.accepted(numbers[0]),
            RecipientResult(address=numbers[1], outcome=Outcome.TRANSIENT, code="x"),
        )
        return Accepted(recipients=results)

    second = stage.Script()
    async with route_of(stage, stage.Script(act), second, providers=["stage-pairs", "stage-pairs"]) as room:
        await room.send(sms(to=numbers))
    assert [message.to for message in second.messages] == [numbers[1:]]


@pytest.mark.parametrize("before", [timedelta(0), timedelta(microseconds=1)])
def test_a_message_expires_at_its_moment_and_is_due_at_its_moment(before: timedelta) -> None:
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    due = sms(send_at=moment, expires_at=moment + timedelta(hours=1))
    assert check_sendable(due, moment - before).send_at == (moment if before else None)
    expiring = sms(expires_at=moment)
    if before:
        assert check_sendable(expiring, moment - before) is expiring
    else:
        with pytest.raises(MessageError, match=r"expired at 2030-01-01T00:00:00\+00:00; nothing was sent"):
            check_sendable(expiring, moment)


def test_a_message_id_is_the_same_whenever_it_is_made_and_has_the_senders_domain() -> None:
    sender = Address(email="jörg@bücher.example")
    assert message_id_for("m-1", sender) == message_id_for("m-1", sender) == "<m-1@xn--bcher-kva.example>"
