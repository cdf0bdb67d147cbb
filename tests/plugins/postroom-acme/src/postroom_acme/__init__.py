"""SMS through the (invented) Acme API: all that a third party writes to add a provider."""

from __future__ import annotations

import json
from typing import ClassVar

from pydantic import SecretStr

from postroom.errors import AuthenticationFailed, DeliveryError, Outcome, RecipientsRefused, Scope, UnexpectedResponse
from postroom.messages import Sms
from postroom.plugin import Capabilities, HttpAccountSettings, hookimpl
from postroom.plugin.http import HttpReply, HttpSmsTransport
from postroom.receipts import Accepted

postroom_interface = 1

ERRORS: dict[str, tuple[type[DeliveryError], Outcome, Scope]] = {
    "E10": (AuthenticationFailed, Outcome.PERMANENT, Scope.ACCOUNT),
    "E21": (RecipientsRefused, Outcome.PERMANENT, Scope.RECIPIENT),
}
"""Acme's error codes; whatever is not here is judged by its HTTP status."""


class AcmeSettings(HttpAccountSettings):
    """`api_key` is the key from Acme's console."""

    env_vars: ClassVar[dict[str, str]] = {"api_key": "ACME_API_KEY"}
    url_fields: ClassVar[dict[str, str]] = {"password": "api_key"}

    provider: str = "acme"
    api_key: SecretStr


class AcmeSms(HttpSmsTransport[AcmeSettings]):
    """Carries one SMS per request."""

    settings_model = AcmeSettings
    capabilities = Capabilities(features=frozenset({"media", "provider_options"}), max_recipients=1)
    default_base_url = "https://api.acme.example"

    async def send(self, sms: Sms, /) -> Accepted:
        headers = {"Authorization": f"Bearer {self.settings.api_key.get_secret_value()}"}
        payload = {"to": sms.to[0], "from": sms.from_, "text": sms.body, "media": sms.media, **sms.provider_options}
        body = json.dumps(payload).encode()
        reply = await self.request(
            "POST", f"{self.base_url}/v1/sms", headers=headers, body=body, content_type="application/json"
        )
        return self._accepted(reply)

    def _accepted(self, reply: HttpReply) -> Accepted:
        answer = reply.json_object()
        if reply.status == 201 and "id" in answer:
            return Accepted(provider_message_id=str(answer["id"]))
        if reply.status < 300:
            raise self.failure(reply, kind=UnexpectedResponse)
        code = str(answer.get("code", ""))
        kind, outcome, scope = ERRORS.get(code, (None, None, None))
        detail = str(answer.get("message", ""))
        raise self.failure(reply, code=code or None, detail=detail, kind=kind, outcome=outcome, scope=scope)


@hookimpl
def postroom_sms_transport() -> type[AcmeSms]:
    return AcmeSms
