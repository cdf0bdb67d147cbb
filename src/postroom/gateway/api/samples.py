"""Samples of the Communicate API's pages: the bodies they print, and the credentials they name."""

from __future__ import annotations

from typing import Any

CREDENTIALS = {
    "twilio_sid": "Your Account SID from www.twilio.com/console",
    "twilio_auth_token": "Your Auth Token from www.twilio.com/console",
}
"""`options` of an SMS that the pages describe; those of any other provider (`<provider>_<setting>`) are taken too."""


def email(text: str = "Hi John 1") -> dict[str, Any]:
    return {
        "to": [{"email": "john@example.com", "type": "to"}],
        "html": f"<p>{text}</p>",
        "subject": "My subject",
        "from_name": "Example Name",
        "headers": {"Reply-To": "message.reply@example.com"},
        "attachments": [],
        "images": [],
    }


def sms(to: str = "+123456789") -> dict[str, Any]:
    """Return the sample as it is meant: the pages print it with comments and single quotes, which is no JSON."""
    return {
        "provider": "twilio",
        "data": {"from": "+123456789", "to": to, "body": "Hey!"},
        "options": {"twilio_sid": "AC81caaa94b3b84bb7ba9c3cd96bcb152a", "twilio_auth_token": "AUTH_TOKEN"},
    }
