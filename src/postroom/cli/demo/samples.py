"""The sample messages of the Communicate REST API's page, as messages and under the provider that is to take them."""

from __future__ import annotations

from typing import Any

from postroom.messages import Email, Sms

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

TWILIO_OPTIONS = {"twilio_sid": "AC81caaa94b3b84bb7ba9c3cd96bcb152a", "twilio_auth_token": "AUTH_TOKEN"}


def emails(account: str) -> list[Email]:
    """The page's e-mail, then its batch of two."""
    return [Email(**fields, provider=account) for fields in (EMAIL, *BATCH)]


def texts(account: str, options: dict[str, str] | None = None) -> list[Sms]:
    """The page's SMS, then its batch of two; Twilio's with the credentials the page shows in `options`."""
    return [Sms(**fields, provider=account, options=options or {}) for fields in (SMS, *SMS_BATCH)]
