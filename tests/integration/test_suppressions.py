"""The suppression list learns from providers over real sockets, from refusals and from reports, on every path of sending.

Each refusal is played to a direct send and to the outbox's worker. What decides is what reaches the provider next.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlencode

import pytest
from twilio.request_validator import RequestValidator

from postroom import DeliveryError, Email, Postroom, Sms, Suppressed
from postroom.outbox.records import Suppression
from postroom.plugin import WebhookRequest
from postroom.testing.http import Answer, HttpRecorder
from postroom.testing.smtp import SmtpRecorder

ANN, BOB = "+447700900123", "+447700900124"
URL = "https://post.example.org/v1/webhooks/it"

ACCOUNTS: dict[str, dict[str, Any]] = {
    "twilio": {"provider": "twilio", "account_sid": "AC1", "auth_token": "token", "from": "+15005550006"},
    "vonage": {"provider": "vonage", "api_key": "k", "api_secret": "s", "from": "447700900001"},
    "vonage-sms": {"provider": "vonage", "api": "sms", "api_key": "k", "api_secret": "s", "from": "447700900001"},
}
YES = {
    "twilio": Answer(201, {"sid": "SM1"}),
    "vonage": Answer(202, {"message_uuid": "uuid-1"}),
    "vonage-sms": Answer(200, {"message-count": "1", "messages": [{"status": "0", "message-id": "1"}]}),
}

Way = Literal["direct", "outbox"]
Rooms = Callable[[dict[str, Any]], Awaitable[Postroom]]

directly_and_from_the_outbox = pytest.mark.parametrize("way", ["direct", "outbox"])


@pytest.fixture
async def web() -> AsyncIterator[HttpRecorder]:
    async with HttpRecorder() as server:
        yield server


@pytest.fixture
async def mail() -> AsyncIterator[SmtpRecorder]:
    async with SmtpRecorder() as server:
        yield server


@pytest.fixture
async def room_with(tmp_path: Path) -> AsyncIterator[Rooms]:
    """Opens a Postroom with one account, and an outbox that is there already."""
    async with AsyncExitStack() as stack:

        async def opening(account: dict[str, Any]) -> Postroom:
            room = Postroom(accounts={"it": account}, outbox={"url": f"sqlite:///{tmp_path}/outbox.db"})
            await stack.enter_async_context(room)
            await room.outbox.suppressions.list()
            return room

        yield opening


async def send(room: Postroom, message: Email | Sms, way: Way) -> None:
    if way == "outbox":
        await room.enqueue(message)
        await room.work(until_empty=True)
        return
    with suppress(DeliveryError):
        await room.send(message)


async def reasons(room: Postroom) -> dict[str, str]:
    return {entry.address: entry.reason for entry in await room.outbox.suppressions.list()}


def twilio_no(code: int) -> Answer:
    return Answer(400, {"code": code, "message": "no", "status": 400})


def vonage_no(code: int) -> Answer:
    return Answer(422, {"type": f"https://developer.vonage.com/api-errors/messages#{code}", "title": "No"})


def vonage_sms_no(status: int) -> Answer:
    part = {"status": str(status), "error-text": "no"}
    return Answer(200, {"message-count": "1", "messages": [part]})


@directly_and_from_the_outbox
@pytest.mark.parametrize(
    ("provider", "refused", "reason"),
    [
        ("twilio", twilio_no(21610), "stopped"),
        ("twilio", twilio_no(21211), "bounced"),
        ("twilio", twilio_no(21614), "bounced"),
        ("twilio", twilio_no(21635), "bounced"),
        ("twilio", twilio_no(21408), None),
        ("twilio", twilio_no(21612), None),
        ("twilio", Answer(429, {"code": 21610, "message": "later"}), None),
        ("vonage", vonage_no(1240), "stopped"),
        ("vonage", vonage_no(1190), "bounced"),
        ("vonage", vonage_no(1050), None),
        ("vonage", vonage_no(1180), None),
        ("vonage", vonage_no(1280), None),
        ("vonage-sms", vonage_sms_no(101), "stopped"),
        ("vonage-sms", vonage_sms_no(33), "bounced"),
        ("vonage-sms", vonage_sms_no(7), None),
        ("vonage-sms", vonage_sms_no(22), None),
    ],
    ids=lambda value: json.dumps(value.body)[-60:] if isinstance(value, Answer) else None,
)
async def test_a_number_that_a_provider_refuses_for_the_persons_sake_is_not_written_to_again(
    web: HttpRecorder, room_with: Rooms, provider: str, refused: Answer, reason: str | None, way: Way
) -> None:
    room = await room_with({**ACCOUNTS[provider], "base_url": web.url})
    answers = iter([refused])
    web.answer_with(lambda _: next(answers, YES[provider]))
    await send(room, Sms(to=ANN, body="x"), way)
    assert await reasons(room) == ({ANN: reason} if reason else {})
    if reason:
        await send(room, Sms(to=BOB, body="x"), way)
        assert len(web.requests) == 2
        with pytest.raises(Suppressed, match="suppression list"):
            await room.send(Sms(to=ANN, body="x"))
        assert len(web.requests) == 2


@directly_and_from_the_outbox
@pytest.mark.parametrize(
    ("reply", "suppressed"),
    [
        ("550 5.1.1 No such user", True),
        ("550 5.1.2 No such domain", True),
        ("553 5.1.3 No address", True),
        ("551 5.1.6 Moved", True),
        ("556 5.1.10 Takes no mail", True),
        ("550 No such user", False),
        ("550 5.1.0 Sender denied", False),
        ("550 5.1.8 Sender's domain", False),
        ("550 5.2.1 Too much at once", False),
        ("552 5.2.2 Mailbox full", False),
        ("550 5.7.1 By policy", False),
        ("450 4.1.1 Not now", False),
        ("450 5.1.1 Nobody knows", False),
    ],
)
async def test_a_mailbox_that_does_not_exist_is_not_written_to_again(
    mail: SmtpRecorder, room_with: Rooms, reply: str, suppressed: bool, way: Way
) -> None:
    room = await room_with({"provider": "smtp", "host": "127.0.0.1", "port": mail.port, "tls": "none"})
    mail.reply("rcpt", reply, match="bob@", times=1)
    to = ["ann@example.org", "bob@example.org"]
    await send(room, Email(to=to, from_="post@example.org", subject="x", text="x"), way)
    assert await reasons(room) == ({"bob@example.org": "bounced"} if suppressed else {})
    assert "ann@example.org" in mail.messages[0].recipients


@pytest.mark.parametrize("stage", ["mail", "data", "dot"])
@directly_and_from_the_outbox
async def test_only_the_answer_about_a_recipient_suppresses(
    mail: SmtpRecorder, room_with: Rooms, stage: str, way: Way
) -> None:
    room = await room_with({"provider": "smtp", "host": "127.0.0.1", "port": mail.port, "tls": "none"})
    mail.reply(stage, "550 5.1.1 Somebody is unknown", times=1)
    to = ["ann@example.org", "bob@example.org"]
    await send(room, Email(to=to, from_="post@example.org", subject="x", text="x"), way)
    assert await reasons(room) == {}


async def test_a_direct_send_without_an_outbox_learns_nothing_and_makes_none(web: HttpRecorder, tmp_path: Path) -> None:
    web.answer_with(lambda _: twilio_no(21610))
    account = {**ACCOUNTS["twilio"], "base_url": web.url}
    async with Postroom(accounts={"it": account}, outbox={"url": f"sqlite:///{tmp_path}/outbox.db"}) as room:
        await send(room, Sms(to=ANN, body="x"), "direct")
    assert list(tmp_path.iterdir()) == []


def by_twilio(status: str, **more: str) -> WebhookRequest:
    fields = {"MessageSid": "SM1", "MessageStatus": status, "To": ANN, "From": "+15005550006", **more}
    headers = {"x-twilio-signature": RequestValidator("token").compute_signature(URL, fields)}
    return WebhookRequest("POST", URL, headers, urlencode(fields).encode())


@pytest.mark.parametrize(
    ("report", "reason"),
    [
        (by_twilio("failed", ErrorCode="30005"), "bounced"),
        (by_twilio("undelivered", ErrorCode="30005"), "bounced"),
        (by_twilio("undelivered", ErrorCode="30006"), "bounced"),
        (by_twilio("undelivered", ErrorCode="30006", From="12345"), None),
        (by_twilio("undelivered", ErrorCode="30003"), None),
        (by_twilio("undelivered", ErrorCode="30007"), None),
        (by_twilio("failed", ErrorCode="21610"), "stopped"),
        (by_twilio("delivered"), None),
    ],
    ids=["30005", "undelivered", "landline", "unreachable from a short code", "away", "filtered", "stop", "delivered"],
)
async def test_what_twilio_reports_of_a_number_counts(
    web: HttpRecorder, room_with: Rooms, report: WebhookRequest, reason: str | None
) -> None:
    room = await room_with({**ACCOUNTS["twilio"], "base_url": web.url})
    web.answer_with(lambda _: YES["twilio"])
    await send(room, Sms(to=ANN, body="x"), "outbox")
    await room.receive("it", report)
    assert await reasons(room) == ({ANN: reason} if reason else {})


async def test_a_report_that_is_not_about_a_message_of_ours_makes_no_number_dead(
    web: HttpRecorder, room_with: Rooms
) -> None:
    room = await room_with({**ACCOUNTS["twilio"], "base_url": web.url})
    await room.receive("it", by_twilio("failed", ErrorCode="30005"))
    assert await reasons(room) == {}


async def test_start_lifts_the_stop_that_a_provider_spoke_of_and_leaves_a_dead_number_dead(
    web: HttpRecorder, room_with: Rooms
) -> None:
    room = await room_with({**ACCOUNTS["twilio"], "base_url": web.url})
    for code, number in ((21610, ANN), (21614, BOB)):
        web.answer(twilio_no(code))
        await send(room, Sms(to=number, body="x"), "direct")
    assert await reasons(room) == {ANN: "stopped", BOB: "bounced"}
    for number, said in ((ANN, "HELP"), (BOB, "HELP"), (ANN, "Start!"), (BOB, "Start!")):
        await room.receive("it", by_twilio("received", MessageSid=f"SM{number}{said}", From=number, Body=said))
        if said == "HELP":
            assert len(await reasons(room)) == 2
    assert await reasons(room) == {BOB: "bounced"}


async def test_a_refusal_and_its_suppression_are_written_together(web: HttpRecorder, room_with: Rooms) -> None:
    """Whoever sees the message failed finds the number on the list: there is no moment between the two to die in."""
    room = await room_with({**ACCOUNTS["twilio"], "base_url": web.url})
    web.answer_with(lambda _: twilio_no(21610))
    receipt = await room.enqueue(Sms(to=ANN, body="x"))
    working = asyncio.create_task(room.work(until_empty=True))
    while not working.done():
        if (await room.outbox.get(receipt.id)).receipt.status == "failed":
            assert await reasons(room) == {ANN: "stopped"}
            break
        await asyncio.sleep(0)
    await working
    assert (await room.outbox.get(receipt.id)).receipt.status == "failed"


def test_an_entry_names_its_reason_where_it_stands_in_the_list() -> None:
    said: dict[str, Any] = {"channel": "sms", "address": ANN, "since": "2026-01-01T00:00:00Z"}
    places = {Suppression.model_validate({**said, "reason": reason}).place for reason in ("stopped", "bounced")}
    assert len(places) == 2
