"""The sample messages of the Communicate REST API's page, for the account that is to take them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from postroom.messages import Email, Sms
from postroom.receipts import Channel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SENDER = "post@example.org"

EMAIL: dict[str, Any] = {
    "to": "john@example.com",
    "from": f"Example Name <{SENDER}>",
    "subject": "My subject",
    "html": "<p>Hi John 1</p>",
    "headers": {"Reply-To": "message.reply@example.com"},
}
BATCH = [EMAIL, {**EMAIL, "html": "<p>Hi John Doe</p>"}]

SMS: dict[str, Any] = {"from": "+123456789", "to": "+123456789", "body": "Hey!"}
SMS_BATCH = [SMS, {**SMS, "to": "+987654321"}]


def samples(channel: Channel, account: str, options: Mapping[str, str] | None = None) -> Sequence[Email | Sms]:
    """The page's message, then its batch of two; each with `options` as its own credentials."""
    if channel is Channel.EMAIL:
        return [Email(**fields, provider=account, options=options or {}) for fields in (EMAIL, *BATCH)]
    return [Sms(**fields, provider=account, options=options or {}) for fields in (SMS, *SMS_BATCH)]
