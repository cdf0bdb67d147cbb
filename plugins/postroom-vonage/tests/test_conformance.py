"""The conformance kit, over both of Vonage's APIs and the ways to sign in that take webhooks too."""

from __future__ import annotations

import hashlib
import json
import time
from functools import cache
from urllib.parse import parse_qsl, urlencode

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from postroom.events import EventType
from postroom.plugin import WebhookRequest
from postroom.testing.conformance import FakeHttpProvider, SmsConformance, WebhookSample
from postroom.testing.http import Answer, RecordedRequest
from postroom_vonage.auth import signature
from postroom_vonage.settings import VonageSettings
from postroom_vonage.transport import VonageSms

from .conftest import parts, problem


@cache
def pem() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


class MessagesWire(FakeHttpProvider):
    def accepted(self, request: RecordedRequest, identifier: str) -> Answer:
        return Answer(202, {"message_uuid": identifier})

    def rejected(self, request: RecordedRequest) -> Answer:
        return Answer(422, problem(1150, "Invalid params", detail="The value of one or more parameters is invalid."))

    def unauthorised(self, request: RecordedRequest) -> Answer:
        return Answer(401, problem("unauthorized", "You did not provide correct credentials."))

    def rate_limited(self, request: RecordedRequest, seconds: int) -> Answer:
        return Answer(429, problem(1010, "Throttled"), {"Retry-After": str(seconds)})


class SmsWire(FakeHttpProvider):
    retry_after = None

    def accepted(self, request: RecordedRequest, identifier: str) -> Answer:
        part = {"status": "0", "message-id": identifier, "to": "442079460000"}
        return Answer(200, {"message-count": "1", "messages": [part]})

    def rejected(self, request: RecordedRequest) -> Answer:
        return Answer(200, parts("3"))

    def unauthorised(self, request: RecordedRequest) -> Answer:
        return Answer(200, parts("4"))

    def forbidden(self, request: RecordedRequest) -> Answer:
        return Answer(200, parts("8"))

    def rate_limited(self, request: RecordedRequest, seconds: int) -> Answer:
        return Answer(200, parts("1"))

    def server_error(self, request: RecordedRequest) -> Answer:
        return Answer(200, parts("5"))


URL = "https://post.example.org/v1/webhooks/kit-account"
WEBHOOK_SECRET = {"signature_secret": "canary-signature-secret-never-shown", "signature_method": "sha256"}
STATUS = {"message_uuid": "uuid-1", "to": "447700900000", "timestamp": "2026-01-01T14:00:00Z", "status": "delivered"}
DLR = {"messageId": "0A1", "msisdn": "447700900000", "status": "failed", "message-timestamp": "2026-01-01 14:00:00"}


class SignedByToken(SmsConformance):
    webhooks = (WebhookSample(json.dumps(STATUS).encode(), (EventType.DELIVERED,)),)
    unknown_webhook = json.dumps(STATUS | {"status": "levitated"}).encode()

    def signed(self, settings: VonageSettings, body: bytes) -> WebhookRequest:
        claims = {"iss": "Vonage", "iat": int(time.time()), "payload_hash": hashlib.sha256(body).hexdigest()}
        token = jwt.encode(claims, settings.signature_secret.get_secret_value(), algorithm="HS256")  # type: ignore[union-attr]
        headers = {"content-type": "application/json", "authorization": f"Bearer {token}"}
        return WebhookRequest("POST", URL, headers, body)


class SignedByFields(SmsConformance):
    webhooks = (WebhookSample(urlencode(DLR).encode(), (EventType.BOUNCED,)),)
    unknown_webhook = urlencode(DLR | {"status": "levitated"}).encode()

    def signed(self, settings: VonageSettings, body: bytes) -> WebhookRequest:
        fields = dict(parse_qsl(body.decode(errors="replace"))) | {"timestamp": str(int(time.time()))}
        secret = settings.signature_secret.get_secret_value()  # type: ignore[union-attr]
        sig = signature(fields, secret, settings.signature_method)
        headers = {"content-type": "application/x-www-form-urlencoded"}
        return WebhookRequest("POST", URL, headers, body + f"&timestamp={fields['timestamp']}&sig={sig}".encode())

    def unsigned(self, request: WebhookRequest) -> WebhookRequest:
        return WebhookRequest("POST", URL, request.headers, request.body.rpartition(b"&sig=")[0])


class TestVonageMessages(SignedByToken):
    provider = "vonage"
    transport = VonageSms
    fake_provider = MessagesWire
    provider_options = {"webhook_url": "https://example.org/kit"}

    def settings(self, wire: MessagesWire) -> dict[str, str]:
        credentials = {"api_key": "abcd1234", "api_secret": "canary-secret-never-shown"}
        return {**credentials, **WEBHOOK_SECRET, "base_url": wire.url}


@pytest.mark.slow
class TestVonageMessagesByToken(SignedByToken):
    provider = "vonage"
    transport = VonageSms
    fake_provider = MessagesWire
    provider_options = {"webhook_url": "https://example.org/kit"}

    def settings(self, wire: MessagesWire) -> dict[str, str]:
        return {"application_id": "app-1", "private_key": pem(), **WEBHOOK_SECRET, "base_url": wire.url}


@pytest.mark.slow
class TestVonageSmsBySignature(SignedByFields):
    provider = "vonage"
    transport = VonageSms
    fake_provider = SmsWire
    provider_options = {"callback": "https://example.org/kit"}

    def settings(self, wire: SmsWire) -> dict[str, str]:
        secret = {"signature_secret": "canary-signature-secret-never-shown", "signature_method": "sha256"}
        return {"api": "sms", "api_key": "abcd1234", **secret, "base_url": wire.url}
