"""Vonage's Messages API: JSON to `/v1/messages`, for SMS, MMS and WhatsApp.

Fields and limits: developer.vonage.com/api/messages, and the SDK's models (vonage-messages 1.8.1).
"""

from __future__ import annotations

import json
import mimetypes
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from postroom.errors import UnexpectedResponse
from postroom.receipts import Accepted
from postroom_vonage.auth import Tokens, basic
from postroom_vonage.errors import problem_refusal
from postroom_vonage.options import fields_for

if TYPE_CHECKING:
    from postroom.messages import Sms
    from postroom.plugin.http import HttpTransport, Reply
    from postroom_vonage.options import Kind
    from postroom_vonage.settings import VonageSettings

HOST = "https://api.nexmo.com"
LONGEST_TEXT = {"sms": 3200, "whatsapp": 4096}
SHORTEST_TTL, LONGEST_TTL = 20, 604_800
"""Seconds."""


def fields(sms: Sms) -> dict[str, Any]:
    """Return the JSON object of one message."""
    found: dict[str, Any] = {
        "to": sms.to[0].removeprefix("+"),
        "from": (sms.from_ or "").removeprefix("+"),
        "channel": channel_of(sms),
    }
    if sms.id:
        found["client_ref"] = sms.id
    if sms.media:
        found |= _media(sms)
    else:
        found |= {"message_type": "text", "text": sms.body}
    if sms.expires_at and sms.channel == "sms":
        left = int((sms.expires_at - datetime.now(UTC)).total_seconds())
        found["ttl"] = min(max(left, SHORTEST_TTL), LONGEST_TTL)
    if sms.provider_options:
        found |= fields_for(channel_of(sms), sms.provider_options)
    return found


def channel_of(sms: Sms) -> Kind:
    """Return Vonage's channel: SMS with media is MMS."""
    if sms.channel == "whatsapp":
        return "whatsapp"
    return "mms" if sms.media else "sms"


class MessagesApi:
    """The requests of one account to the Messages API."""

    def __init__(self, settings: VonageSettings) -> None:
        self.url = f"{settings.base_url or HOST}/v1/messages"
        self._tokens = self._basic = None
        if settings.application_id and settings.private_key:
            self._tokens = Tokens(settings.application_id, settings.private_key.get_secret_value())
        elif settings.api_key and settings.api_secret:
            self._basic = basic(settings.api_key, settings.api_secret.get_secret_value())

    async def open(self) -> None:
        """Parse the private key, once."""
        if self._tokens:
            await self._tokens.open()

    def request(self, sms: Sms) -> tuple[dict[str, str], bytes, str]:
        """Return headers, body and content type."""
        return {"Authorization": self.authorization()}, json.dumps(fields(sms)).encode(), "application/json"

    def authorization(self) -> str:
        """Return the Authorization value to send now."""
        return self._tokens.authorization() if self._tokens else self._basic or ""

    def read(self, transport: HttpTransport[Any, Any], sms: Sms, reply: Reply) -> Accepted:
        """Return what was accepted; raises DeliveryError."""
        del sms
        if reply.status not in {200, 202}:
            raise problem_refusal(transport, reply)
        identifier = reply.json_object().get("message_uuid")
        if not identifier:
            raise transport.failure(reply, kind=UnexpectedResponse, detail="a yes without a message_uuid")
        return Accepted(provider_message_id=str(identifier))


def _media(sms: Sms) -> dict[str, Any]:
    kind = media_kind(sms.media[0])
    resource = {"url": sms.media[0]}
    if sms.body:
        resource["caption"] = sms.body
    return {"message_type": kind, kind: resource}


def media_kind(url: str) -> str:
    """Return `image`, `audio`, `video` or `vcard` by the URL's ending; `image` when it has none to tell by."""
    guessed = mimetypes.guess_type(urlsplit(url).path)[0] or "image"
    if guessed in {"text/vcard", "text/x-vcard"}:
        return "vcard"
    kind = guessed.split("/")[0]
    return kind if kind in {"audio", "video"} else "image"
