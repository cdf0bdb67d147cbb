"""An (invented) e-mail and an SMS API, their providers done right, and their suites of the kit, for tests of single rules.

A test derives a provider with one mistake, and calls the one test of the kit that must see it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic import SecretStr

from postroom.errors import DeliveryError, Outcome, SignatureInvalid, UnexpectedResponse
from postroom.events import Event, EventType
from postroom.messages import Email, Sms
from postroom.plugin import EMAIL_FEATURES, Capabilities, HttpAccountSettings, UnknownAttempt, WebhookRequest
from postroom.plugin.http import HttpEmailTransport, HttpReply, HttpSmsTransport
from postroom.receipts import Accepted, Channel, NotTaken, RecipientResult
from postroom.testing.conformance import (
    EmailConformance,
    FakeHttpProvider,
    SmsConformance,
    WebhookSample,
)
from postroom.testing.http import Answer, RecordedRequest


class AcmeSettings(HttpAccountSettings):
    provider: str = "acme"
    api_key: SecretStr
    webhook_secret: SecretStr | None = None


class FakeAcme(FakeHttpProvider):
    def accepted(self, request: RecordedRequest, identifier: str) -> Answer:
        many = request.json() if request.body.startswith(b"[") else [None]
        return Answer(200, {"ids": [f"{identifier}-{number}" for number in range(len(many))], "id": identifier})

    def found(self, request: RecordedRequest, identifier: str) -> Answer:
        return Answer(200, {"id": identifier, "to": self.sent[-1].json()["to"]})

    def rejected_among(self, request: RecordedRequest, recipient: str, identifier: str) -> Answer:
        return Answer(200, {"id": identifier, "refused": [recipient]})


class AcmeSms(HttpSmsTransport[AcmeSettings]):
    """One request a message; batches in one request each."""

    settings_model = AcmeSettings
    capabilities = Capabilities(features=frozenset({"media"}), max_recipients=1, max_batch=20, reconciles=True)

    def payload(self, sms: Sms) -> dict[str, Any]:
        return {"to": sms.to[0], "from": sms.from_, "text": sms.body, "media": list(sms.media)}

    def key(self) -> str:
        return self.settings.api_key.get_secret_value()

    async def post(self, payload: Any) -> HttpReply:
        headers = {"Authorization": f"Bearer {self.key()}"}
        return await self.request("POST", f"{self.base_url}/sms", headers=headers, body=json.dumps(payload).encode())

    async def send(self, sms: Sms, /) -> Accepted:
        reply = await self.post(self.payload(sms))
        if reply.status >= 300 or not reply.json_object().get("id"):
            raise self.failure(reply, kind=None if reply.status >= 300 else UnexpectedResponse)
        return Accepted(provider_message_id=reply.json_object()["id"])

    async def send_many(self, batch: Sequence[Sms], /) -> list[Accepted | DeliveryError]:
        try:
            reply = await self.post([self.payload(sms) for sms in batch])
        except DeliveryError as error:
            return [error] * len(batch)
        if reply.status >= 300:
            return [self.failure(reply)] * len(batch)
        return [Accepted(provider_message_id=each) for each in reply.json_object()["ids"]]

    async def reconcile(self, attempt: UnknownAttempt[Sms], /) -> Accepted | NotTaken | None:
        reply = await self.ask("GET", f"{self.base_url}/sms/{attempt.message.id}", headers={})
        if reply.status == 404 or not self.is_ours(attempt, reply):
            return None
        return Accepted(provider_message_id=reply.json_object()["id"])

    def is_ours(self, attempt: UnknownAttempt[Sms], reply: HttpReply) -> bool:
        return reply.json_object().get("to") == attempt.message.to[0]

    def parse_webhook(self, request: WebhookRequest, /) -> list[Event]:
        if not self.is_signed(request):
            raise SignatureInvalid(f"{self.account}: not signed")
        fields = json.loads(request.body)
        return [
            Event(
                type=EventType.DELIVERED,
                channel=Channel.SMS,
                provider="acme",
                account=self.account,
                occurred_at=datetime.fromtimestamp(fields["at"], UTC),
            )
        ]

    def is_signed(self, request: WebhookRequest) -> bool:
        if self.settings.webhook_secret is None:
            return False
        return self.same(self.signature(request.body), request.headers.get("x-signature", ""))

    def signature(self, body: bytes) -> str:
        assert self.settings.webhook_secret
        return hmac.new(self.settings.webhook_secret.get_secret_value().encode(), body, hashlib.sha256).hexdigest()

    def same(self, expected: str, given: str) -> bool:
        return hmac.compare_digest(expected, given)


class AcmeEmail(HttpEmailTransport[AcmeSettings]):
    """One request a message, with a part for each recipient."""

    settings_model = AcmeSettings
    capabilities = Capabilities(features=EMAIL_FEATURES - {"amp", "calendar"}, max_recipients=100)

    def payload(self, email: Email) -> dict[str, Any]:
        return {
            "from": str(email.from_),
            "subject": email.subject,
            "text": email.text,
            "template": email.template,
            "cc": [each.email for each in email.cc],
            "bcc": [each.email for each in email.bcc],
            "tags": list(email.tags),
            "headers": email.headers,
            "metadata": email.metadata,
            "files": [[file.filename, file.content.decode("latin-1")] for file in email.attachments],
            "people": [self.person(email, each.email) for each in email.to],
        }

    def person(self, email: Email, address: str) -> dict[str, Any]:
        return {"to": address, "data": email.merge_data.get(address, {})}

    async def send(self, email: Email, /) -> Accepted:
        body = json.dumps(self.payload(email)).encode()
        headers = {"Authorization": f"Bearer {self.settings.api_key.get_secret_value()}"}
        reply = await self.request("POST", f"{self.base_url}/mail", headers=headers, body=body)
        if reply.status >= 300 or not reply.json_object().get("id"):
            raise self.failure(reply, kind=None if reply.status >= 300 else UnexpectedResponse)
        return Accepted(provider_message_id=reply.json_object()["id"], recipients=self.results(email, reply))

    def results(self, email: Email, reply: HttpReply) -> tuple[RecipientResult, ...]:
        refused = reply.json_object().get("refused", ())
        return tuple(
            RecipientResult(address=to, outcome=Outcome.PERMANENT if to in refused else Outcome.ACCEPTED)
            for to in email.recipients
        )


def sms_suite(transport: type[AcmeSms]) -> Any:
    """The kit's suite for a provider of the SMS API."""

    class Suite(SmsConformance[FakeAcme, AcmeSettings]):
        provider = "acme"
        fake_provider = FakeAcme
        webhooks = (WebhookSample(b'{"at": 1700000000}', (EventType.DELIVERED,)),)

        def settings(self, fake: FakeAcme) -> dict[str, Any]:
            return {"api_key": "canary-key-0123", "webhook_secret": "canary-hook-0123", "base_url": fake.url}

        def signed(self, settings: AcmeSettings, body: bytes) -> WebhookRequest:
            assert settings.webhook_secret
            key = settings.webhook_secret.get_secret_value().encode()
            headers = {"x-signature": hmac.new(key, body, hashlib.sha256).hexdigest()}
            return WebhookRequest("POST", "https://app.example.org/hooks", headers, body)

    return type("TestAcme", (Suite,), {"transport": transport, "__module__": __name__})()


def email_suite(transport: type[AcmeEmail]) -> Any:
    """The kit's suite for a provider of the e-mail API."""

    class Suite(EmailConformance[FakeAcme, AcmeSettings]):
        provider = "acme"
        fake_provider = FakeAcme

        def settings(self, fake: FakeAcme) -> dict[str, Any]:
            return {"api_key": "canary-key-0123", "base_url": fake.url}

    return type("TestAcme", (Suite,), {"transport": transport, "__module__": __name__})()
