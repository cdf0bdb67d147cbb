"""What providers report later, from the signed request to the state of the message in the outbox."""

from __future__ import annotations

import hashlib
import json
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from twilio.request_validator import RequestValidator

from postroom import Email, Postroom, Receipt, Sms
from postroom.plugin import Resources, Transport, WebhookRequest
from postroom.registry.registry import Registry
from postroom.testing.http import Answer, HttpRecorder
from postroom.testing.smtp import SmtpRecorder

KEY = ec.generate_private_key(ec.SECP256R1())
PUBLIC = b64encode(KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()
SECRET = "signature-secret-of-thirty-two-bytes"
URL = "https://post.example.org/v1/webhooks/it"

EMAIL = Email(to="ann@example.com", subject="Hello", text="Hi")
SMS = Sms(to="+447700900000", body="Hi")


def by_sendgrid(message_id: str, what: str) -> WebhookRequest:
    told = [{"email": "ann@example.com", "event": what, "timestamp": 1_700_000_000}]
    told[0] |= {"postroom_id": message_id, "sg_message_id": "x1.recvd-5f-1-6.0"}
    body = json.dumps(told).encode()
    now = str(int(time.time()))
    signature = b64encode(KEY.sign(now.encode() + body, ec.ECDSA(SHA256()))).decode()
    name = "x-twilio-email-event-webhook"
    return WebhookRequest("POST", URL, {f"{name}-signature": signature, f"{name}-timestamp": now}, body)


def by_twilio(_: str, what: str) -> WebhookRequest:
    fields = {"MessageSid": "SM1", "MessageStatus": what, "To": "+447700900000"}
    headers = {"x-twilio-signature": RequestValidator("token").compute_signature(URL, fields)}
    return WebhookRequest("POST", URL, headers, urlencode(fields).encode())


def by_vonage(message_id: str, what: str) -> WebhookRequest:
    told = {"message_uuid": "another", "client_ref": message_id, "to": "447700900000", "status": what}
    body = json.dumps({**told, "timestamp": "2026-01-01T14:00:00Z"}).encode()
    claims = {"iat": int(time.time()), "payload_hash": hashlib.sha256(body).hexdigest()}
    headers = {"authorization": f"Bearer {jwt.encode(claims, SECRET, algorithm='HS256')}"}
    return WebhookRequest("POST", URL, headers, body)


def by_mail(message_id: str, what: str) -> WebhookRequest:
    lines = [
        "From: MAILER-DAEMON@example.com",
        "Date: Thu, 1 Jan 2026 14:00:00 +0000",
        'Content-Type: multipart/report; report-type=delivery-status; boundary="b"',
        *("", "--b", "Content-Type: message/delivery-status", "", "Reporting-MTA: dns; mx.example.com", ""),
        *("Final-Recipient: rfc822; ann@example.com", f"Action: {what}", "Status: 5.1.1"),
        *("", "--b", "Content-Type: text/rfc822-headers", "", f"Message-ID: <{message_id}@example.org>", "", "--b--"),
    ]
    return _mailed(lines)


def _mailed(lines: list[str]) -> WebhookRequest:
    headers = {"content-type": "message/rfc822", "authorization": f"Bearer {SECRET}"}
    return WebhookRequest("POST", URL, headers, "\r\n".join(lines).encode())


Sending = Callable[..., Awaitable[tuple[Postroom, Receipt, Transport[Any, Any]]]]

PROVIDERS: dict[str, tuple[Callable[[str, str], WebhookRequest], Email | Sms, dict[str, Any]]] = {
    "sendgrid": (by_sendgrid, EMAIL, {"api_key": "SG.x", "webhook_public_key": PUBLIC, "from": "post@example.org"}),
    "twilio": (by_twilio, SMS, {"account_sid": "AC1", "auth_token": "token", "from": "+15005550006"}),
    "vonage": (by_vonage, SMS, {"api_key": "k", "api_secret": "s", "signature_secret": SECRET, "from": "447700900001"}),
    "smtp": (by_mail, EMAIL, {"tls": "none", "bounce_secret": SECRET, "from": "post@example.org"}),
}
YES: dict[str, Answer] = {
    "sendgrid": Answer(202, b"", {"X-Message-Id": "x1"}),
    "twilio": Answer(201, {"sid": "SM1"}),
    "vonage": Answer(202, {"message_uuid": "uuid-1"}),
}


@pytest.fixture
async def sent(tmp_path: Path) -> AsyncIterator[Sending]:
    """Sends a message through a provider's account out of an outbox; the room, its receipt, and the account."""
    async with HttpRecorder() as web, SmtpRecorder() as mail:

        async def sending(provider: str, **changed: Any) -> tuple[Postroom, Receipt, Transport[Any, Any]]:
            _, message, given = PROVIDERS[provider]
            message = message.model_copy(update=changed)
            web.answer_with(lambda _: YES[provider])
            where = {"host": "127.0.0.1", "port": mail.port} if provider == "smtp" else {"base_url": web.url}
            account = {"provider": provider, **given, **where}
            url = f"sqlite:////{str(tmp_path / 'outbox.db').lstrip('/')}"
            room = Postroom(accounts={"it": account}, outbox={"url": url})
            receipt = await room.enqueue(message)
            await room.work(until_empty=True)
            transport = Registry().transport(provider, message.channel_name)
            return room, receipt, transport("it", transport.settings_model(**account), Resources())

        yield sending


@pytest.mark.parametrize(
    ("provider", "told", "status"),
    [
        ("sendgrid", ["processed", "delivered"], "delivered"),
        ("sendgrid", ["delivered", "delivered", "processed"], "delivered"),
        ("sendgrid", ["deferred", "bounce"], "bounced"),
        ("sendgrid", ["dropped"], "bounced"),
        ("sendgrid", ["open", "levitated"], "sent"),
        ("twilio", ["queued", "sent", "delivered", "sent"], "delivered"),
        ("twilio", ["undelivered"], "bounced"),
        ("vonage", ["submitted", "delivered"], "delivered"),
        ("vonage", ["rejected"], "bounced"),
        ("smtp", ["delayed", "failed"], "bounced"),
        ("smtp", ["delivered"], "delivered"),
    ],
)
async def test_a_report_moves_the_message_it_is_about(
    sent: Sending, provider: str, told: list[str], status: str
) -> None:
    room, receipt, transport = await sent(provider)
    async with room:
        assert (await room.outbox.get(receipt.id)).receipt.status == "sent"
        for what in told:
            for event in transport.parse_webhook(PROVIDERS[provider][0](receipt.id, what)):
                await room.outbox.record(event)
        shown = await room.outbox.get(receipt.id)
    assert shown.receipt.status == status
    assert len(shown.events) == len(set(told))
    await transport.resources.close()


def complaint(message_id: str, *about: str) -> WebhookRequest:
    """An abuse report (RFC 5965) as anybody could write it."""
    lines = [
        "From: abuse@example.net",
        "Date: Thu, 1 Jan 2026 14:00:00 +0000",
        'Content-Type: multipart/report; report-type=feedback-report; boundary="b"',
        *("", "--b", "Content-Type: message/feedback-report", "", "Feedback-Type: abuse", "Version: 1"),
        *(f"Original-Rcpt-To: <{address}>" for address in about),
        *("", "--b", "Content-Type: text/rfc822-headers", "", f"Message-ID: <{message_id}@example.org>", "", "--b--"),
    ]
    return _mailed(lines)


STRANGERS = [f"victim{number}@example.net" for number in range(5)]


async def test_a_forged_report_puts_nobody_on_the_list_who_did_not_get_the_message_it_names(sent: Sending) -> None:
    room, receipt, transport = await sent("smtp")
    dsn = by_mail(receipt.id, "failed")
    swapped = _mailed(dsn.body.decode().replace("ann@example.com", "victim@example.net").split("\r\n"))
    async with room:
        for forged in (complaint("0" * 32, *STRANGERS), complaint(receipt.id, *STRANGERS), swapped):
            for event in transport.parse_webhook(forged):
                await room.outbox.record(event)
        assert await room.outbox.suppressions.list() == []
        assert (await room.outbox.get(receipt.id)).receipt.status == "sent"
        for event in transport.parse_webhook(complaint(receipt.id, "Ann@example.com")):
            await room.outbox.record(event)
        [learned] = await room.outbox.suppressions.list()
    assert (learned.address, learned.reason) == ("ann@example.com", "complained")
    await transport.resources.close()


@pytest.mark.parametrize("provider", ["sendgrid", "vonage"])
async def test_a_report_finds_a_message_by_an_id_of_the_callers_own(sent: Sending, provider: str) -> None:
    room, receipt, transport = await sent(provider, id="order-17")
    async with room:
        for event in transport.parse_webhook(PROVIDERS[provider][0]("order-17", "delivered")):
            await room.outbox.record(event)
        assert (await room.outbox.get(receipt.id)).receipt.status == "delivered"
    await transport.resources.close()


async def test_a_bounce_of_another_message_of_the_same_call_moves_only_that_one(sent: Sending) -> None:
    room, receipt, transport = await sent("sendgrid")
    async with room:
        [event] = transport.parse_webhook(by_sendgrid("sent-directly", "bounce"))
        assert event.provider_message_id == "x1", "the id of the call, which the one in the outbox has too"
        assert await room.outbox.record(event) is None
        assert (await room.outbox.get(receipt.id)).receipt.status == "sent"
    await transport.resources.close()
