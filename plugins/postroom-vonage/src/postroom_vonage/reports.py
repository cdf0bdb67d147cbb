"""Delivery reports of either API: a status of a message, or a message that came in.

Sources: the "Message Status" and "Inbound Message" webhooks of the Messages API's OpenAPI description (1.4.0), and
developer.vonage.com, "SMS API webhook reference" and "Delivery Receipts" (DLR); api.support.vonage.com, "Vonage SMS
Delivery Error Codes and Descriptions"; developer.vonage.com, "Messaging Opted-out Numbers" (Opt-out Assist).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from postroom.errors import PayloadInvalid
from postroom.events import Event, EventType
from postroom.receipts import Channel

if TYPE_CHECKING:
    from collections.abc import Iterator

STATUSES = {
    "submitted": EventType.SENT,
    "accepted": EventType.SENT,
    "buffered": EventType.DEFERRED,
    "delivered": EventType.DELIVERED,
    "read": EventType.READ,
    "undeliverable": EventType.BOUNCED,
    "failed": EventType.BOUNCED,
    "expired": EventType.BOUNCED,
    "rejected": EventType.REJECTED,
}
"""A status of either API; `unknown` and any other word is other."""

PERMANENT = {
    "2": False,
    "3": True,
    "4": True,
    "7": False,
    "8": False,
    "12": False,
    "1180": False,
    "1190": True,
    "1220": False,
    "1230": False,
}
"""Whether a failure means that the number is dead, by its code: a DLR's err-code (the number is no longer active, or
its owner has it barred: "should be removed from your database"; absent, busy, no network, unreachable for now), and
the same of the Messages API. Open is unroutable (11, 1250), for it is Vonage that finds no route, a number blocked by
its carrier (14, 1280), and whatever blames the text."""

OPTED_OUT = frozenset({"9", "1240"})
"""The recipient has asked for no more messages from this sender, by either API."""

_OWN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}")
"""What the id of a message may look like; every part of a long text carries it, under a Vonage id of its own."""

_TIMES = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M:%S %z")

Payload = dict[str, Any]


def read(account: str, payload: Payload) -> list[Event]:
    """Return the events that a payload of either API stands for. Raises PayloadInvalid when it is about no message."""
    identifier = _text(payload, "message_uuid", "messageId")
    if identifier is None:
        raise PayloadInvalid(f"{account}: the webhook is signed and is about no message: it has no id of one")
    when = _moment(_text(payload, "timestamp" if "message_uuid" in payload else "message-timestamp"))
    about: dict[str, Any] = {
        "channel": Channel.SMS,
        "provider": "vonage",
        "account": account,
        "occurred_at": when or datetime.now(UTC),
        "dated": when is not None,
        "provider_message_id": identifier,
        "raw": {name: value for name, value in payload.items() if name != "sig"},
    }
    if "status" in payload:
        return list(_status(about, payload))
    if "text" in payload or "message_type" in payload or "type" in payload:
        return [_incoming(about, payload)]
    return [Event(**about, type=EventType.OTHER)]


def _status(about: dict[str, Any], payload: Payload) -> Iterator[Event]:
    """A DLR names the recipient `msisdn`, and `to` is the sender there."""
    reference = _text(payload, "client_ref", "client-ref")
    status = _text(payload, "status") or ""
    of = STATUSES.get(status, EventType.OTHER)
    error = payload.get("error")
    error = error if isinstance(error, dict) else {}
    code = _code(_text(error, "type", "title") or _text(payload, "err-code") or "")
    about["message_id"] = reference if reference and _OWN_ID.fullmatch(reference) else None
    about["recipient"] = _number(payload, "msisdn") or _number(payload, "to")
    failed = of in {EventType.BOUNCED, EventType.REJECTED}
    yield Event(
        **about,
        type=of,
        code=code if code not in {"", "0"} else status or None,
        detail=_text(error, "detail"),
        permanent=PERMANENT.get(code) if failed else None,
    )
    if failed and code in OPTED_OUT:
        yield Event(**about, type=EventType.UNSUBSCRIBED, code=code)


def _incoming(about: dict[str, Any], payload: Payload) -> Event:
    sender = _number(payload, "msisdn") or _number(payload, "from")
    text = payload.get("text")
    return Event(
        **about,
        type=EventType.INBOUND,
        sender=sender,
        recipient=_number(payload, "to"),
        text=text if isinstance(text, str) else "",
    )


def _code(text: str) -> str:
    """`https://developer.vonage.com/api-errors/messages#1000` -> `1000`."""
    return text.rpartition("#")[2]


def _number(payload: Payload, name: str) -> str | None:
    """A number in the form messages have it, E.164; a name stays a name.

    Version 0.1 of the Messages API gives an object: `{"type": "sms", "number": "447700900000"}`.
    """
    given = payload.get(name)
    found = _text(given, "number", "id") if isinstance(given, dict) else _text(payload, name)
    return f"+{found}" if found and re.fullmatch(r"[1-9][0-9]{6,14}", found) else found


def _moment(text: str | None) -> datetime | None:
    """Times without an offset are in UTC. The SMS API's `timestamp` is when the webhook was signed, and not read."""
    if not text:
        return None
    for form in _TIMES:
        try:
            found = datetime.strptime(text, form)  # noqa: DTZ007 - a time without an offset is UTC
        except ValueError:
            continue
        return found if found.tzinfo else found.replace(tzinfo=UTC)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _text(payload: Payload, *names: str) -> str | None:
    """The first of the fields that says something; Vonage writes codes as text or as numbers."""
    for name in names:
        value = payload.get(name)
        if isinstance(value, (str, int)) and not isinstance(value, bool) and str(value):
            return str(value)
    return None
