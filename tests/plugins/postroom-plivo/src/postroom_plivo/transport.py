"""Plivo's SMS: one request a message."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, ClassVar

from postroom.errors import UnexpectedResponse
from postroom.plugin import Capabilities, CheckReport
from postroom.plugin.http import HttpReply, HttpSmsTransport
from postroom.receipts import Accepted

from postroom_plivo.errors import refusal
from postroom_plivo.payload import payload, refuse_what_is_too_long
from postroom_plivo.settings import PlivoSettings
from postroom_plivo.webhook import read, verify

if TYPE_CHECKING:
    from collections.abc import Mapping

    from postroom.events import Event
    from postroom.messages import Sms
    from postroom.plugin import WebhookRequest


class PlivoSms(HttpSmsTransport[PlivoSettings]):
    """Carries one SMS per request."""

    settings_model = PlivoSettings
    capabilities = Capabilities(features=frozenset({"provider_options"}), max_recipients=1)
    default_base_url = "https://api.plivo.com"
    deviations: ClassVar[Mapping[str, str]] = {
        "test_a_tampered_webhook_is_refused": (
            "Plivo's signature covers the URL and a nonce, not the body; serve webhooks over HTTPS only"
        ),
    }

    @property
    def _basic(self) -> str:
        pair = f"{self.settings.auth_id}:{self.settings.auth_token.get_secret_value()}"
        return base64.b64encode(pair.encode()).decode()

    def secrets(self) -> list[str]:
        return [*super().secrets(), self._basic]

    async def send(self, sms: Sms, /) -> Accepted:
        body = json.dumps(payload(sms, self.settings.status_url)).encode()
        reply = await self._asked("POST", "Message/", body)
        if reply.status >= 300:
            raise refusal(self, reply)
        # 202 with {"message_uuid": ["..."]}: the page of payload.py, "Response"
        identifiers = reply.json_object().get("message_uuid")
        if not isinstance(identifiers, list) or not identifiers:
            raise self.failure(reply, kind=UnexpectedResponse)
        return Accepted(provider_message_id=str(identifiers[0]))

    def validate(self, sms: Sms, /) -> None:
        refuse_what_is_too_long(sms)

    async def check(self) -> CheckReport:
        """Read the account (plivo.com/docs/account/api/account), which says how much credit is left."""
        reply = await self._asked("GET", "")
        if reply.status >= 300:
            return CheckReport(ok=False, summary=str(refusal(self, reply)))
        credit = str(reply.json_object().get("cash_credits", "unknown"))
        return CheckReport(ok=True, summary="credentials accepted", details={"credit": credit})

    def parse_webhook(self, request: WebhookRequest, /) -> list[Event]:
        verify(request, self.settings.auth_token.get_secret_value())
        return read(request.body)

    async def _asked(self, method: str, path: str, body: bytes = b"") -> HttpReply:
        return await self.request(
            method,
            f"{self.base_url}/v1/Account/{self.settings.auth_id}/{path}",
            headers={"Authorization": f"Basic {self._basic}"},
            body=body,
            content_type="application/json",
        )
