"""Webhooks: what Twilio posts, status callbacks, and incoming messages.

The signature covers the public URL and every field (Twilio docs, "Webhooks security"), so a form has to be taken
apart before it can be verified; nothing is read from it until then. There is no time in it: a repeat is known by
what it says.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from multidict import MultiDict
from pydantic_core import from_json

from postroom.errors import PayloadInvalid, SignatureInvalid
from postroom.events import Event, EventType
from postroom.plugin.http import FORM
from postroom.receipts import Channel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic import JsonValue

    from postroom.plugin import WebhookRequest
    from postroom_twilio.settings import TwilioSettings

LARGEST = 1_048_576
"""Bytes of a body; a message has at most 1,600 characters and 10 media."""

MOST_FIELDS = 1000

STATUSES = {
    "accepted": EventType.SENT,
    "scheduled": EventType.SENT,
    "queued": EventType.SENT,
    "sending": EventType.SENT,
    "sent": EventType.SENT,
    "delivered": EventType.DELIVERED,
    "read": EventType.READ,
    "undelivered": EventType.BOUNCED,
    "failed": EventType.BOUNCED,
}
"""MessageStatus (Messages resource, "Message Status Values"); `canceled` and `partially_delivered` are other."""

PERMANENT = {
    "21211": True,
    "21614": True,
    "21635": True,
    "30001": False,
    "30003": False,
    "30005": True,
    "30008": False,
    "30022": False,
    "30023": False,
    "30027": False,
}
"""ErrorCode -> whether the number is dead (its page https://www.twilio.com/docs/api/errors/CODE); the rest is open."""

LANDLINE = "30006"
"""A landline; or, from a short code, a carrier that cannot be reached from it, which says nothing of the number."""

OPTED_OUT = "21610"
"""The recipient has replied STOP to this sender; from a messaging service Twilio may say so only afterwards."""

_LONGEST_SHORT_CODE = 6
"""Digits of a short code (Twilio's glossary, "Short code"); a number of E.164 has a plus and more."""

_OPT_OUT = {"STOP": EventType.UNSUBSCRIBED, "START": EventType.SUBSCRIBED}
"""OptOutType of a messaging service's Advanced Opt-Out, in whatever word or language the person wrote."""

Fields = MultiDict[str]


def read(account: str, settings: TwilioSettings, request: WebhookRequest) -> list[Event]:
    """Return the events of a request; raises SignatureInvalid, and PayloadInvalid for what is signed and no event."""
    if len(request.body) > LARGEST:
        raise PayloadInvalid(f"{account}: the webhook has more than {LARGEST:,} bytes")
    signature = signature_of(account, request)
    if request.headers.get("content-type", FORM).partition(";")[0].strip().lower() == "application/json":
        _verify(account, settings, request, signature, _text(account, request.body))
        return list(_events(account, _json(account, request.body)))
    fields = _form(account, request)
    signed = MultiDict[str]() if request.method.upper() == "GET" else fields
    _verify(account, settings, request, signature, signed)
    return list(_events(account, _plain(fields)))


def signature_of(account: str, request: WebhookRequest) -> str:
    """Return the signature in the head of a request; raises SignatureInvalid without one."""
    signature = request.headers.get("x-twilio-signature")
    if not signature:
        raise SignatureInvalid(f"{account}: the webhook has no X-Twilio-Signature, so it is not from Twilio")
    return signature


def _verify(
    account: str, settings: TwilioSettings, request: WebhookRequest, signature: str, body: str | Fields
) -> None:
    from twilio.request_validator import RequestValidator  # noqa: PLC0415 - the SDK only for accounts with webhooks

    tokens = [token.get_secret_value() for token in (settings.auth_token, settings.secondary_auth_token) if token]
    if not tokens:
        raise SignatureInvalid(f"{account}: takes no webhooks; set auth_token, which Twilio signs them with")
    if isinstance(body, str) and "bodySHA256=" not in request.url.partition("?")[2]:
        raise SignatureInvalid(f"{account}: a JSON webhook without bodySHA256 in its URL; nothing proves its body")
    try:
        good = [RequestValidator(token).validate(request.url, body, signature) for token in tokens]
    except ValueError:
        good = []
    if not any(good):
        raise SignatureInvalid(
            f"{account}: X-Twilio-Signature does not fit; check that auth_token is the account's primary token, and "
            "that the public URL of this server is exactly the one Twilio was given"
        )


def _form(account: str, request: WebhookRequest) -> Fields:
    got = request.method.upper() == "GET"
    text = request.url.partition("?")[2] if got else _text(account, request.body)
    try:
        return MultiDict(parse_qsl(text, keep_blank_values=True, max_num_fields=MOST_FIELDS))
    except ValueError as error:
        raise SignatureInvalid(f"{account}: the webhook has more than {MOST_FIELDS} fields") from error


def _text(account: str, body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise SignatureInvalid(f"{account}: the webhook is not UTF-8, so Twilio cannot have signed it") from None


def _json(account: str, body: bytes) -> Mapping[str, JsonValue]:
    try:
        found = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise PayloadInvalid(f"{account}: the webhook is signed and is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise PayloadInvalid(f"{account}: the webhook is signed and is not a JSON object")
    return found


def _plain(fields: Fields) -> dict[str, JsonValue]:
    """The fields as JSON; one that is there several times is a list."""
    found: dict[str, JsonValue] = {}
    for name in fields:
        values = fields.getall(name)
        found[name] = values[0] if len(values) == 1 else list(values)
    return found


def _events(account: str, fields: Mapping[str, JsonValue]) -> Iterator[Event]:
    about: dict[str, Any] = {
        "channel": Channel.SMS,
        "provider": "twilio",
        "account": account,
        "occurred_at": datetime.now(UTC),
        "dated": False,
        "provider_message_id": _first(fields, "MessageSid", "SmsSid"),
        "raw": dict(fields),
    }
    if about["provider_message_id"] is None:
        raise PayloadInvalid(f"{account}: the webhook is signed and is about no message: it has no MessageSid")
    status = _first(fields, "MessageStatus", "SmsStatus")
    if status in {"received", "receiving"} or (status is None and "Body" in fields):
        yield from _incoming(about, fields)
        return
    code = _first(fields, "ErrorCode")
    of = STATUSES.get(status or "", EventType.OTHER)
    recipient = _number(fields, "To")
    yield Event(
        **about,
        type=of,
        recipient=recipient,
        code=code if code and code != "0" else status,
        detail=_first(fields, "ErrorMessage", "ChannelStatusMessage"),
        permanent=_dead(code, _number(fields, "From")) if of is EventType.BOUNCED else None,
    )
    if code == OPTED_OUT:
        yield Event(**about, type=EventType.UNSUBSCRIBED, recipient=recipient, code=code)


def _dead(code: str | None, sender: str | None) -> bool | None:
    """Whether the number is dead; None where the code leaves it open."""
    if code == LANDLINE:
        return True if sender and len(sender) > _LONGEST_SHORT_CODE else None
    return PERMANENT.get(code or "")


def _incoming(about: dict[str, Any], fields: Mapping[str, JsonValue]) -> Iterator[Event]:
    """The message, and what Twilio itself took it for: somebody who wants no more, or wants it again."""
    sender, recipient = _number(fields, "From"), _number(fields, "To")
    text = fields.get("Body")
    yield Event(
        **about, type=EventType.INBOUND, sender=sender, recipient=recipient, text=text if isinstance(text, str) else ""
    )
    wish = _OPT_OUT.get((_first(fields, "OptOutType") or "").upper())
    if wish:
        yield Event(**about, type=wish, recipient=sender, detail=recipient)


def _first(fields: Mapping[str, JsonValue], *names: str) -> str | None:
    return next((value for name in names if isinstance(value := fields.get(name), str) and value), None)


def _number(fields: Mapping[str, JsonValue], name: str) -> str | None:
    found = _first(fields, name)
    return found.removeprefix("whatsapp:") if found else None
