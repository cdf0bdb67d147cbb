"""What Plivo posts: status callbacks, and incoming messages.

Fields: plivo.com/docs/messaging/api/message/message-status-callbacks and plivo.com/docs/messaging/xml/request.
Signature: plivo.com/docs/messaging/concepts/signature-validation, version 2. It covers the URL and a nonce, not the
body, which the transport states as a deviation.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from postroom.errors import PayloadInvalid, SignatureInvalid
from postroom.events import Event, EventType
from postroom.receipts import Channel

if TYPE_CHECKING:
    from postroom.plugin import WebhookRequest

TYPES = {
    "queued": EventType.SENT,
    "sent": EventType.SENT,
    "delivered": EventType.DELIVERED,
    "undelivered": EventType.BOUNCED,
    "failed": EventType.FAILED,
    "read": EventType.READ,
}
"""`Status` of a message status callback."""

TIMES = ("DeliveryReportTime", "SentTime", "QueuedTime", "MessageTime")
"""When it happened: the last that is known. The documentation states no zone; read as UTC, as Plivo's API has it."""


def verify(request: WebhookRequest, token: str) -> None:
    """Raise SignatureInvalid unless Plivo signed a request to this URL."""
    nonce = request.headers.get("x-plivo-signature-v2-nonce", "")
    given = request.headers.get("x-plivo-signature-v2", "")
    if not nonce or not hmac.compare_digest(signature(request.url, nonce, token).encode(), given.encode()):
        raise SignatureInvalid("the signature does not fit the URL: check auth_token, and the public URL of webhooks")


def signature(url: str, nonce: str, token: str) -> str:
    """Return the X-Plivo-Signature-V2 of a request: over the URL without its query, and the nonce."""
    base = urlsplit(url)._replace(query="", fragment="").geturl()
    return b64encode(hmac.new(token.encode(), (base + nonce).encode(), hashlib.sha256).digest()).decode()


def read(body: bytes) -> list[Event]:
    """Return the event of a verified form; raises PayloadInvalid for what is not Plivo's."""
    try:
        fields = dict(parse_qsl(body.decode(), strict_parsing=True))
        return [_event(fields)]
    except (ValueError, KeyError) as error:
        raise PayloadInvalid("the body is not a form of Plivo's") from error


def _event(fields: dict[str, str]) -> Event:
    incoming = "Text" in fields and "Status" not in fields
    moment = _moment(fields)
    return Event(
        type=EventType.INBOUND if incoming else TYPES.get(fields["Status"], EventType.OTHER),
        channel=Channel.SMS,
        provider="plivo",
        occurred_at=moment or datetime.now(UTC),
        dated=moment is not None,
        provider_message_id=fields["MessageUUID"],
        recipient=fields.get("To"),
        sender=fields.get("From") if incoming else None,
        text=fields.get("Text") if incoming else None,
        code=fields.get("ErrorCode"),
        raw=dict(fields),
    )


def _moment(fields: dict[str, str]) -> datetime | None:
    given = next((fields[name] for name in TIMES if fields.get(name)), None)
    return datetime.fromisoformat(given).replace(tzinfo=UTC) if given else None
