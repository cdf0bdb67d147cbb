"""Payload: an Sms -> the fields of a POST to Twilio's Messages resource.

Built by hand, for every parameter of the SDK's `messages.create_async`: a test holds names and values to what
twilio 9.13 puts on the wire. The SDK costs 16 µs and an import of 135 ms where this costs 6 µs.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from postroom.errors import InvalidOption
from postroom.plugin import did_you_mean

if TYPE_CHECKING:
    from pydantic import JsonValue

    from postroom.messages import Sms
    from postroom_twilio.settings import TwilioSettings

Fields = dict[str, str | list[str]]

OPTIONS = (
    "address_retention",
    "application_sid",
    "attempt",
    "content_retention",
    "content_sid",
    "content_variables",
    "fallback_from",
    "force_delivery",
    "max_price",
    "message_intent",
    "messaging_service_sid",
    "persistent_action",
    "provide_feedback",
    "risk_check",
    "send_as_mms",
    "shorten_urls",
    "smart_encoded",
    "status_callback",
    "traffic_type",
    "validity_period",
)
"""What `provider_options` may hold: the parameters of `messages.create_async` that no field of Sms owns."""

OWNED = {
    "body": "body",
    "from_": "from_",
    "media_url": "media",
    "schedule_type": "send_at",
    "send_at": "send_at",
    "to": "to",
}
"""Parameters of `messages.create_async` -> the field of Sms that owns them."""

LONGEST_VALIDITY = 36_000
"""Seconds a message may wait in Twilio's queue, and do by default (dictionary, error 90007)."""


def message_fields(sms: Sms, settings: TwilioSettings, now: datetime) -> Fields:
    """Return the form fields for the one recipient of `sms`; `provider_options` win over the account's settings.

    Raises InvalidOption for an option that is none of OPTIONS, or whose value no form can hold.
    """
    prefix = "whatsapp:" if sms.channel == "whatsapp" else ""
    fields: Fields = {"To": prefix + sms.recipients[0]}
    if sms.from_:
        fields["From"] = prefix + sms.from_.removeprefix(prefix)
    if settings.messaging_service_sid:
        fields["MessagingServiceSid"] = settings.messaging_service_sid
    if settings.status_callback:
        fields["StatusCallback"] = settings.status_callback
    if sms.body:
        fields["Body"] = sms.body
    if sms.media:
        fields["MediaUrl"] = list(sms.media)
    if sms.send_at or sms.expires_at:
        fields |= _times(sms, now)
    for name, value in sms.provider_options.items():
        fields |= _option(name, value)
    return fields


def validity(sms: Sms, now: datetime) -> int | None:
    """Return the whole seconds from its sending to `expires_at`, negative when it is past; None without it."""
    if sms.expires_at is None:
        return None
    start = sms.send_at if sms.send_at and sms.send_at > now else now
    return int((sms.expires_at - start).total_seconds() // 1)


def _times(sms: Sms, now: datetime) -> Fields:
    """A send_at that has come means now; beyond LONGEST_VALIDITY Twilio gives up earlier by itself."""
    fields: Fields = {}
    if sms.send_at and sms.send_at > now:
        fields = {"SendAt": f"{sms.send_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}", "ScheduleType": "fixed"}
    seconds = validity(sms, now)
    if seconds is not None and seconds < LONGEST_VALIDITY:
        fields["ValidityPeriod"] = str(max(seconds, 1))
    return fields


def _option(name: str, value: JsonValue) -> Fields:
    path = f"provider_options.{name}"
    if name in OWNED:
        raise InvalidOption(f"use the message's field {OWNED[name]}", path=path)
    if name not in OPTIONS:
        raise InvalidOption(
            f"Twilio's messages have no such parameter{did_you_mean(name.lower(), [*OPTIONS, *OWNED])}", path=path
        )
    if value is None:
        return {}
    return {name.title().replace("_", ""): _form_value(value, path)}


def _form_value(value: JsonValue, path: str) -> str | list[str]:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return json.dumps(value)
    if isinstance(value, list):
        if not all(isinstance(item, str) for item in value):
            raise InvalidOption("a list may hold text only", path=path)
        return [str(item) for item in value]
    return str(value)
