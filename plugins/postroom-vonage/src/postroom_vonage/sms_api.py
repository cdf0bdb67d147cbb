"""Vonage's SMS API: a form to `/sms/json`, and an answer that is 200 even when it is a no.

Fields and limits: developer.vonage.com/api/sms, and the SDK's SmsMessage (vonage-sms 1.2.0).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from postroom.errors import DeliveryError, Outcome, OutcomeUnknown, UnexpectedResponse
from postroom.receipts import Accepted, RecipientResult
from postroom_vonage.auth import basic, signed
from postroom_vonage.errors import http_refusal, part_refusal
from postroom_vonage.options import fields_for

if TYPE_CHECKING:
    from postroom.messages import Sms
    from postroom.plugin.http import HttpTransport, Reply
    from postroom_vonage.settings import VonageSettings

HOST = "https://rest.nexmo.com"
SHORTEST_TTL, LONGEST_TTL = 20_000, 604_800_000
"""Milliseconds."""


def fields(sms: Sms) -> dict[str, str]:
    """Return the form's fields, without credentials. `type` follows postroom's own segment count."""
    found = {"from": (sms.from_ or "").removeprefix("+"), "to": sms.to[0].removeprefix("+"), "text": sms.body}
    if sms.segments.encoding == "ucs2":
        found["type"] = "unicode"
    if sms.id:
        found["client-ref"] = sms.id
    if sms.expires_at:
        left = int((sms.expires_at - datetime.now(UTC)).total_seconds() * 1000)
        found["ttl"] = str(min(max(left, SHORTEST_TTL), LONGEST_TTL))
    if sms.provider_options:
        found |= {name: _text(value) for name, value in fields_for("sms-api", sms.provider_options).items()}
    return found


class SmsApi:
    """The requests of one account to the SMS API."""

    def __init__(self, settings: VonageSettings) -> None:
        self._settings = settings
        self.url = f"{settings.base_url or HOST}/sms/json"
        secret = settings.api_secret
        self._headers = {"Authorization": basic(settings.api_key or "", secret.get_secret_value())} if secret else {}

    async def open(self) -> None:
        """Nothing to make ready."""

    def request(self, sms: Sms) -> tuple[dict[str, str], bytes, str]:
        """Return headers, body and content type; with a signature secret, the fields are signed instead."""
        form, secret = fields(sms), self._settings.signature_secret
        if secret:
            form["api_key"] = self._settings.api_key or ""
            form = signed(form, secret.get_secret_value(), self._settings.signature_method)
        return ({} if secret else self._headers), urlencode(form).encode(), "application/x-www-form-urlencoded"

    def read(self, transport: HttpTransport[Any, Any], sms: Sms, reply: Reply) -> Accepted:
        """Return what was accepted. A long text is several parts, each with a status of its own.

        Raises DeliveryError: by the first part's status when every part was refused; OutcomeUnknown when only
        some were, since the recipient may have got a piece of the text.
        """
        parts = reply.json_object().get("messages")
        if reply.status != 200:
            raise http_refusal(transport, reply)
        if not isinstance(parts, list) or not parts or not all(isinstance(part, dict) for part in parts):
            raise transport.failure(reply, kind=UnexpectedResponse, detail="a 200 that lists no message parts")
        taken = [part for part in parts if str(part.get("status")) == "0"]
        if len(taken) < len(parts):
            raise _refused(transport, reply, parts, taken)
        return _accepted(sms, parts)


def _accepted(sms: Sms, parts: list[dict[str, Any]]) -> Accepted:
    ids = [str(part.get("message-id", "")) for part in parts]
    result = RecipientResult(
        address=sms.to[0], outcome=Outcome.ACCEPTED, provider_message_id=ids[0], segments=len(parts)
    )
    return Accepted(
        provider_message_id=ids[0], recipients=(result,), detail=f"parts {', '.join(ids)}" if len(ids) > 1 else None
    )


def _refused(
    transport: HttpTransport[Any, Any], reply: Reply, parts: list[dict[str, Any]], taken: list[dict[str, Any]]
) -> DeliveryError:
    first = next(part for part in parts if str(part.get("status")) != "0")
    if not taken:
        return part_refusal(transport, reply, first)
    said = f"only {len(taken)} of {len(parts)} parts were accepted: {first.get('error-text')}"
    return transport.failure(reply, kind=OutcomeUnknown, code=str(first.get("status")), detail=said)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
