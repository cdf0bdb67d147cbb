"""Webhooks: SendGrid's Event Webhook, verified over the raw body, then read.

Source: twilio.com/docs/sendgrid/for-developers/tracking-events, "Event Webhook Reference" and "Getting started with
the Event Webhook security features". The SDK's EventWebhook verifies the same signature, of text alone.
"""

from __future__ import annotations

import re
import time
from base64 import b64decode
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from postroom.errors import PayloadInvalid, SignatureInvalid
from postroom.events import Event, EventType
from postroom.receipts import Channel
from postroom_sendgrid.payload import ID_ARGUMENT

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from pydantic import JsonValue

    from postroom.plugin import WebhookRequest
    from postroom_sendgrid.settings import SendGridSettings

LARGEST = 1_048_576
"""Bytes of a body; SendGrid gathers events to 768 kB (Event Webhook Reference, "Event Webhook FAQ")."""

SIGNATURE, TIMESTAMP = "x-twilio-email-event-webhook-signature", "x-twilio-email-event-webhook-timestamp"

TYPES = {
    "processed": EventType.SENT,
    "deferred": EventType.DEFERRED,
    "delivered": EventType.DELIVERED,
    "bounce": EventType.BOUNCED,
    "blocked": EventType.BOUNCED,
    "dropped": EventType.REJECTED,
    "open": EventType.OPENED,
    "click": EventType.CLICKED,
    "spamreport": EventType.COMPLAINED,
    "unsubscribe": EventType.UNSUBSCRIBED,
    "group_unsubscribe": EventType.UNSUBSCRIBED,
    "group_resubscribe": EventType.SUBSCRIBED,
}

_ROUTE = re.compile(r"\.(?:filter|recvd|ismtpd)")
"""Where an event's sg_message_id goes on after the X-Message-Id that the call got."""

JsonObject = dict[str, "JsonValue"]


def read(account: str, settings: SendGridSettings, request: WebhookRequest) -> list[Event]:
    """Return the events of a request; raises SignatureInvalid, and PayloadInvalid for what is signed and no events."""
    if len(request.body) > LARGEST:
        raise PayloadInvalid(f"{account}: the webhook has more than {LARGEST:,} bytes")
    _verify(account, settings, request)
    try:
        entries = from_json(request.body, allow_inf_nan=False)
    except ValueError as error:
        raise PayloadInvalid(f"{account}: the webhook is signed and is not JSON: {error}") from None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise PayloadInvalid(f"{account}: the webhook is signed and is no list of events")
    return [_event(account, entry) for entry in entries]


def signature_of(account: str, settings: SendGridSettings, request: WebhookRequest) -> tuple[str, str, str]:
    """Return the account's key, and signature and timestamp of a request's head; raises SignatureInvalid."""
    if not settings.webhook_public_key:
        raise SignatureInvalid(f"{account}: takes no webhooks; set webhook_public_key, which SendGrid's settings show")
    signature, timestamp = (request.headers.get(name, "") for name in (SIGNATURE, TIMESTAMP))
    if not signature or not timestamp:
        raise SignatureInvalid(f"{account}: the webhook is not signed; switch Signature Verification on in SendGrid")
    return settings.webhook_public_key, signature, timestamp


def _verify(account: str, settings: SendGridSettings, request: WebhookRequest) -> None:
    key, signature, timestamp = signature_of(account, settings, request)
    if not _signed(key, signature, timestamp, request.body):
        raise SignatureInvalid(
            f"{account}: the webhook's signature does not fit; check that webhook_public_key is the verification key "
            "of this webhook, and that nothing on the way changes the body"
        )
    if settings.webhook_max_age is not None and not _recent(timestamp, settings.webhook_max_age):
        raise SignatureInvalid(
            f"{account}: the webhook was signed more than {settings.webhook_max_age:g} s ago or in the future; check "
            "the clock, or raise webhook_max_age"
        )


def _signed(key: str, signature: str, timestamp: str, body: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - only accounts with webhooks need it
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415 - as above

    try:
        _key(key).verify(b64decode(signature, validate=True), timestamp.encode() + body, ECDSA(SHA256()))
    except (InvalidSignature, ValueError):
        return False
    return True


@lru_cache(maxsize=64)
def _key(text: str) -> EllipticCurvePublicKey:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.serialization import load_der_public_key  # noqa: PLC0415 - as above

    key = load_der_public_key(b64decode(text))
    assert isinstance(key, EllipticCurvePublicKey)
    return key


def _recent(timestamp: str, seconds: float) -> bool:
    return bool(re.fullmatch(r"[0-9]{1,12}", timestamp)) and abs(time.time() - int(timestamp)) <= seconds


def _event(account: str, entry: JsonObject) -> Event:
    of = TYPES.get(str(entry.get("event")), EventType.OTHER)
    when = _moment(entry.get("timestamp"))
    return Event(
        type=of,
        channel=Channel.EMAIL,
        provider="sendgrid",
        account=account,
        occurred_at=when or datetime.now(UTC),
        dated=when is not None,
        message_id=_text(entry, ID_ARGUMENT),
        provider_message_id=_handle(entry),
        recipient=_text(entry, "email"),
        code=_text(entry, "status") or (_text(entry, "event") if of is EventType.OTHER else None),
        detail=_text(entry, "url") if of is EventType.CLICKED else _text(entry, "reason") or _text(entry, "response"),
        permanent=_permanent(entry) if of is EventType.BOUNCED else None,
        raw=entry,
    )


def _permanent(entry: JsonObject) -> bool:
    """A bounce is for good; a block is the receiving server's no to this message alone ("Bounce", field `type`)."""
    return entry.get("event") == "bounce" and entry.get("type") != "blocked"


def _handle(entry: JsonObject) -> str | None:
    found = _text(entry, "sg_message_id")
    return _ROUTE.split(found, maxsplit=1)[0] if found else None


def _moment(value: object) -> datetime | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _text(entry: JsonObject, name: str) -> str | None:
    found: Any = entry.get(name)
    return found if isinstance(found, str) and found else None
