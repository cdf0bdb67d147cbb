"""What `postroom demo` meant to arrive, and what each server says arrived, in the same words."""

from __future__ import annotations

from base64 import b64decode
from email import message_from_bytes
from typing import TYPE_CHECKING, NamedTuple

from postroom.messages import Sms

if TYPE_CHECKING:
    from postroom.messages import Email
    from postroom.testing.http import RecordedRequest
    from postroom.testing.smtp import RecordedMessage


class Arrival(NamedTuple):
    """One message at a server: from whom, to whom, what, what else the sample asks for, and which door it came by."""

    sender: str
    to: str
    content: str
    besides: str = ""
    door: str = ""


def meant(message: Email | Sms) -> Arrival:
    """Return what a server should see of a sample."""
    if not isinstance(message, Sms):
        reply_to = f"reply to {message.reply_to[0]}"
        return Arrival(str(message.from_), str(message.to[0]), f"{message.subject}: {message.html}", reply_to)
    secret = message.options.get("twilio_auth_token")
    as_whom = f"as {message.options['twilio_sid'].get_secret_value()}" if secret else ""
    return Arrival(_digits(str(message.from_)), _digits(message.to[0]), message.body, as_whom)


def at_smtp(message: RecordedMessage) -> Arrival:
    found = message_from_bytes(message.data)
    content = f"{found['Subject']}: {str(found.get_payload()).strip()}"
    return Arrival(found["From"], message.recipients[0], content, f"reply to {found['Reply-To']}", "DATA")


def at_sendgrid(request: RecordedRequest) -> Arrival:
    body = request.json()
    sender = f"{body['from']['name']} <{body['from']['email']}>"
    content = f"{body['subject']}: {body['content'][0]['value']}"
    to = body["personalizations"][0]["to"][0]["email"]
    return Arrival(sender, to, content, f"reply to {body['reply_to']['email']}", _door(request))


def at_twilio(request: RecordedRequest) -> Arrival:
    """The account is in the path, and again in the credentials."""
    form = dict(request.form())
    user = b64decode(request.headers["authorization"].removeprefix("Basic ")).decode().partition(":")[0]
    as_whom = f"as {user}" if user in request.path else f"as {user} for another account"
    return Arrival(_digits(form["From"]), _digits(form["To"]), form["Body"], as_whom, _door(request))


def at_vonage(request: RecordedRequest) -> Arrival:
    fields = dict(request.form()) if request.path == "/sms/json" else request.json()
    return Arrival(fields["from"], fields["to"], fields["text"], "", _door(request))


def _door(request: RecordedRequest) -> str:
    return f"{request.method} {request.path}"


def _digits(number: str) -> str:
    """Vonage takes numbers without the plus."""
    return number.removeprefix("+")
