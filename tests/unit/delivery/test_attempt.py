"""What cannot be narrowed on the wire is never sent: nobody who was served or suppressed gets an e-mail again."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from postroom import (
    Accepted,
    Channel,
    DeliveryError,
    Email,
    Outcome,
    Postroom,
    PostroomError,
    Receipt,
    RecipientResult,
    Status,
)
from postroom.delivery.dispatcher import AccountDispatcher, AttemptResult, Withdrawn
from postroom.outbox.suppression import by_hand
from postroom.plugin import Resources

ANN, BOB, DEAD = "ann@example.org", "bob@example.org", "dead@example.org"
WAYS = ["direct", "outbox"]
KINDS = ["stage", "stage-whole", "stage-batch"]


def room_of(stage: ModuleType, folder: Path, **accounts: Any) -> Postroom:
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
            assert error.receipt
            return error.receipt
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
    async with room_of(
        stage, tmp_path, a=stage.StageSettings(provider=kind, script=script, from_="p@example.org")
    ) as room:
        await room.outbox.suppressions.add(by_hand(Channel.EMAIL, DEAD, "", "asked us", lifted=False))
        given: dict[str, Any] = {"to": [ANN]}
        given[field] = [*given.get(field, ()), DEAD]
        receipt = await sent(room, Email(**given, text="x"), way)
    assert script.recipients == [ANN]
    if kind == "stage-whole":
        assert everybody_named(script.messages) == {ANN}
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
    async with room_of(stage, tmp_path, narrow=narrow, whole=whole) as room:
        receipt = await sent(room, Email(to=[ANN, BOB], text="x"), way)
    assert writes_to_all.calls == []
    assert outcomes(receipt)[ANN] == (Outcome.ACCEPTED, None)
    assert outcomes(receipt)[BOB] == (Outcome.TRANSIENT, "greylisted")


async def test_a_message_all_of_whose_recipients_are_suppressed_goes_nowhere(stage: ModuleType, tmp_path: Path) -> None:
    script = stage.Script()
    async with room_of(stage, tmp_path, a=stage.StageSettings(script=script, from_="p@example.org")) as room:
        await room.outbox.suppressions.add(by_hand(Channel.EMAIL, DEAD, "", None, lifted=False))
        with pytest.raises(PostroomError, match="suppression list"):
            await room.send(Email(to=DEAD, text="x"))
    assert script.calls == []


async def test_what_is_withdrawn_from_a_batch_is_not_sent_with_the_others(stage: ModuleType) -> None:
    script = stage.Script()
    transport = stage.batch.postroom_email_transport()("a", stage.StageSettings(script=script), Resources())
    dispatcher = AccountDispatcher(transport)
    results: list[AttemptResult] = []

    async def withdraw() -> None:
        raise Withdrawn

    async def keep() -> None:
        return

    sends = [
        dispatcher.send(Email(to=to, text="x", from_="p@example.org"), results.append, confirm)
        for to, confirm in ((ANN, keep), (DEAD, withdraw), (BOB, keep))
    ]
    raised = await asyncio.gather(*sends, return_exceptions=True)
    assert [type(error) for error in raised] == [type(None), Withdrawn, type(None)]
    assert sorted(script.recipients) == [ANN, BOB]
    assert len(results) == 2
