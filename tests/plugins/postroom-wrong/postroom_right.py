"""SMS through the (invented) Right API, done right: the conformance kit passes it whole."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from pydantic import SecretStr

from postroom.errors import DeliveryError, PayloadInvalid, SignatureInvalid, UnexpectedResponse
from postroom.events import Event, EventType
from postroom.messages import Sms
from postroom.plugin import Capabilities, HttpAccountSettings, UnknownAttempt, WebhookRequest, hookimpl
from postroom.plugin.http import HttpReply, HttpSmsTransport
from postroom.receipts import Accepted, Channel, NotTaken

EVENTS = {"delivered": EventType.DELIVERED, "failed": EventType.BOUNCED}


class RightSettings(HttpAccountSettings):
    env_vars: ClassVar[dict[str, str]] = {"api_key": "RIGHT_API_KEY"}

    provider: str = "right"
    api_key: SecretStr
    webhook_secret: SecretStr


class RightSms(HttpSmsTransport[RightSettings]):
    settings_model = RightSettings
    capabilities = Capabilities(
        features=frozenset({"media", "provider_options"}),
        max_recipients=1,
        max_batch=10,
        deduplicates=True,
        reconciles=True,
    )
    default_base_url = "https://api.right.example"

    async def send(self, sms: Sms, /) -> Accepted:
        body = json.dumps(self.payload(sms)).encode()
        headers = {**self._headers(), **self.stamp(sms)}
        reply = await self.request(
            "POST", f"{self.base_url}/sms", headers=headers, body=body, content_type="application/json"
        )
        return self.accepted(reply)

    async def send_many(self, batch: Any, /) -> list[Accepted | DeliveryError]:
        return await asyncio.gather(*(self.one(sms) for sms in batch))

    async def one(self, sms: Sms) -> Accepted | DeliveryError:
        try:
            return await self.send(sms)
        except DeliveryError as error:
            return error

    async def reconcile(self, attempt: UnknownAttempt[Sms], /) -> Accepted | NotTaken | None:
        reply = await self.request("GET", f"{self.base_url}/sms/{attempt.message.id}", headers=self._headers())
        if reply.status == 404:
            surely = datetime.now(UTC) - attempt.started_at > timedelta(hours=1)
            return NotTaken(detail="no such message") if surely else None
        return self.accepted(reply)

    def stamp(self, sms: Sms) -> dict[str, str]:
        return {"Idempotency-Key": sms.id or ""}

    def payload(self, sms: Sms) -> dict[str, Any]:
        return {"to": sms.to[0], "from": sms.from_, "text": sms.body, "media": sms.media, **sms.provider_options}

    def accepted(self, reply: HttpReply) -> Accepted:
        answer = reply.json_object()
        if reply.status >= 300:
            raise self.failure(reply, detail=str(answer.get("message", "")))
        if not answer.get("id"):
            raise self.failure(reply, kind=UnexpectedResponse)
        return Accepted(provider_message_id=str(answer["id"]))

    def parse_webhook(self, request: WebhookRequest, /) -> list[Event]:
        expected = hmac.new(self.settings.webhook_secret.get_secret_value().encode(), request.body, hashlib.sha256)
        if not hmac.compare_digest(expected.hexdigest(), request.headers.get("x-signature", "")):
            raise SignatureInvalid(f"{self.account}: the webhook is not signed with webhook_secret")
        return self.read(request.body)

    def read(self, body: bytes) -> list[Event]:
        try:
            return [self.event(given) for given in json.loads(body)["events"]]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise PayloadInvalid(f"{self.account}: the webhook cannot be read: {type(error).__name__}") from error

    def event(self, given: dict[str, Any]) -> Event:
        return Event(
            type=EVENTS.get(given["what"], EventType.OTHER),
            channel=Channel.SMS,
            provider=self.settings.provider,
            account=self.account,
            occurred_at=datetime.fromtimestamp(given["at"], UTC),
            provider_message_id=given["id"],
        )

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.settings.api_key.get_secret_value()}"}


@hookimpl
def postroom_sms_transport() -> type[RightSms]:
    return RightSms
