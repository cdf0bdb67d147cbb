"""Vonage's SMS API: a form to `/sms/json`, and an answer that is 200 even when it is a no.

Fields and limits are those of the SDK's SmsMessage (vonage-sms 1.2.0); a test holds the form to its output.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

from postroom.errors import DeliveryError, MessageRejected, Outcome, Scope, UnexpectedResponse
from postroom.plugin.http import FORM, form_body
from postroom.receipts import Accepted, RecipientResult
from postroom.segments import is_gsm7
from postroom_vonage.addressing import recipient, sender
from postroom_vonage.auth import basic, signed
from postroom_vonage.errors import part_refusal, refusal
from postroom_vonage.options import fields_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from postroom.messages import Sms
    from postroom.plugin.http import HttpReply, HttpTransport
    from postroom_vonage.settings import VonageSettings

HOST = "https://rest.nexmo.com"

SHORTEST_TTL, LONGEST_TTL = 20_000, 604_800_000
"""Milliseconds."""

Part = dict[str, Any]
_STATUS = re.compile(r"[0-9]{1,4}")


def fields(sms: Sms, now: datetime) -> dict[str, str]:
    """Return the form's fields without credentials; `provider_options` win. Raises InvalidOption.

    Vonage replaces what GSM 7-bit cannot hold unless `type` is `unicode`.
    """
    found = {"from": sender(sms), "to": recipient(sms), "text": sms.body}
    if not is_gsm7(sms.body):
        found["type"] = "unicode"
    if sms.id:
        found["client-ref"] = sms.id
    if sms.expires_at:
        left = int((sms.expires_at - now).total_seconds() * 1000)
        found["ttl"] = str(min(max(left, SHORTEST_TTL), LONGEST_TTL))
    if sms.provider_options:
        found |= {name: _text(value) for name, value in fields_for("sms-api", sms.provider_options).items()}
    return found


class SmsApi:
    """The requests of one account to the SMS API."""

    content_type = FORM

    def __init__(self, settings: VonageSettings) -> None:
        self.url = f"{settings.base_url or HOST}/sms/json"
        self._settings = settings
        self._signs = bool(settings.signature_secret)
        self._basic = basic(*settings.basic_credentials) if settings.basic_credentials else ""

    async def open(self) -> None:
        """Nothing has to be made ready."""

    def problems(self, sms: Sms) -> Iterator[str]:
        """What Vonage would refuse."""
        if sms.provider_options:
            fields_for("sms-api", sms.provider_options)
        if not (sms.body or "body" in sms.provider_options):
            yield "it has no body"

    def request(self, sms: Sms, now: datetime) -> tuple[dict[str, str], bytes]:
        """Return headers and body: signed fields where the account has a signature secret, else Basic."""
        form = fields(sms, now)
        if not self._signs:
            return {"Authorization": self._basic}, form_body(form)
        secret = self._settings.signature_secret
        assert secret
        form["api_key"] = self._settings.api_key or ""
        method = self._settings.signature_method
        form = signed(form, secret.get_secret_value(), method, timestamp=int(time.time()))
        return {}, form_body(form)

    def read(self, transport: HttpTransport[Any, Any], sms: Sms, reply: HttpReply) -> Accepted:
        """Return what was accepted; a long text is several parts, each with a status of its own.

        Raises DeliveryError: by the first part's status when every part was refused, UnexpectedResponse when the
        answer does not list every part. When only some were refused the rest is on its way and billed: that is
        permanent for this message, whatever the reason, so that nothing sends those parts a second time.
        """
        if reply.status // 100 != 2:
            raise refusal(transport, sms, reply)
        parts = _parts(reply)
        if not parts:
            raise transport.failure(reply, kind=UnexpectedResponse, detail="a success that does not list its parts")
        refused = [part for part in parts if str(part["status"]) != "0"]
        if len(refused) == len(parts):
            raise part_refusal(transport, sms, reply, refused[0])
        if refused:
            raise _partly_sent(transport, sms, reply, parts)
        return _accepted(sms, parts)


def _parts(reply: HttpReply) -> list[Part]:
    """Return the parts the answer lists, or none when it is not a whole list."""
    answer = reply.json_object()
    parts = answer.get("messages")
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        return []
    if not all(_STATUS.fullmatch(str(part.get("status"))) for part in parts):
        return []
    counted = str(answer.get("message-count", len(parts)))
    return parts if counted == str(len(parts)) else []


def _ids(parts: list[Part]) -> list[str]:
    return [str(part["message-id"]) for part in parts if str(part["status"]) == "0" and part.get("message-id")]


def _accepted(sms: Sms, parts: list[Part]) -> Accepted:
    ids = _ids(parts)
    first = ids[0] if ids else None
    result = RecipientResult.accepted(sms.to[0], first, segments=len(parts))
    detail = f"parts {', '.join(ids)}" if len(ids) > 1 else None
    return Accepted(provider_message_id=first, recipients=(result,), detail=detail)


def _partly_sent(transport: HttpTransport[Any, Any], sms: Sms, reply: HttpReply, parts: list[Part]) -> DeliveryError:
    refused = next(part for part in parts if str(part["status"]) != "0")
    ids = _ids(parts)
    sent = sum(str(part["status"]) == "0" for part in parts)
    error = transport.failure(
        reply,
        kind=MessageRejected,
        outcome=Outcome.PERMANENT,
        scope=Scope.MESSAGE,
        code=str(refused["status"]),
        detail=f"only {sent} of {len(parts)} parts were accepted ({', '.join(ids)}): {refused.get('error-text')}",
        advice="part of the text was sent and billed, so look at what arrived before sending it again by hand",
    )
    result = RecipientResult.failed(sms.to[0], error).model_copy(
        update={"provider_message_id": ids[0] if ids else None}
    )
    return error.with_recipients((result,))


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
