"""The conformance kit, over SendGrid's Mail Send API."""

from __future__ import annotations

import json
import time
from base64 import b64encode

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from postroom.events import EventType
from postroom.plugin import WebhookRequest
from postroom.testing.conformance import EmailConformance, FakeHttpProvider, WebhookSample
from postroom.testing.http import Answer, RecordedRequest
from postroom_sendgrid.settings import SendGridSettings
from postroom_sendgrid.transport import SendGridEmail


class SendGridWire(FakeHttpProvider):
    def accepted(self, request: RecordedRequest, identifier: str) -> Answer:
        return Answer(202, b"", {"X-Message-Id": identifier})

    def rejected(self, request: RecordedRequest) -> Answer:
        return Answer(400, {"errors": [{"message": "The subject is required.", "field": "subject", "help": None}]})

    def unauthorised(self, request: RecordedRequest) -> Answer:
        return Answer(401, {"errors": [{"message": "The provided authorization grant is invalid", "field": None}]})

    def forbidden(self, request: RecordedRequest) -> Answer:
        return Answer(403, {"errors": [{"message": "access forbidden", "field": None, "help": None}]})

    def too_large(self, request: RecordedRequest) -> Answer:
        return Answer(413, {"errors": [{"message": "Request entity too large", "field": None, "help": None}]})

    def rate_limited(self, request: RecordedRequest, seconds: int) -> Answer:
        return Answer(429, {"errors": [{"message": "too many requests"}]}, {"Retry-After": str(seconds)})


KEY = ec.generate_private_key(ec.SECP256R1())
PUBLIC = b64encode(KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()
ABOUT = {"email": "ann@example.org", "timestamp": 1_700_000_000, "sg_message_id": "Q2HhzZs7.recvd-5f54-1"}


def body(*names: str) -> bytes:
    return json.dumps([{**ABOUT, "event": name} for name in names]).encode()


class TestSendGrid(EmailConformance):
    provider = "sendgrid"
    transport = SendGridEmail
    fake_provider = SendGridWire
    provider_options = {"ip_pool_name": "pool-of-the-kit"}

    def settings(self, wire: SendGridWire) -> dict[str, str]:
        return {"api_key": "SG.canary-key-never-to-be-shown", "webhook_public_key": PUBLIC, "base_url": wire.url}

    webhooks = (
        WebhookSample(body("processed", "delivered"), (EventType.SENT, EventType.DELIVERED)),
        WebhookSample(body("bounce", "spamreport"), (EventType.BOUNCED, EventType.COMPLAINED)),
    )
    unknown_webhook = body("levitated")

    def signed(self, settings: SendGridSettings, body: bytes) -> WebhookRequest:
        now = str(int(time.time()))
        signature = KEY.sign(now.encode() + body, ec.ECDSA(SHA256()))
        headers = {
            "content-type": "application/json",
            "x-twilio-email-event-webhook-timestamp": now,
            "x-twilio-email-event-webhook-signature": b64encode(signature).decode(),
        }
        return WebhookRequest("POST", "https://post.example.org/v1/webhooks/kit-account", headers, body)
