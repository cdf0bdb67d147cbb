"""Payload: an e-mail as the JSON of `POST /v3/mail/send`.

Field names: twilio.com/docs/sendgrid/api-reference/mail-send/mail-send. The dictionaries are built by hand, in a tenth
of the time of the SDK's `Mail` model, which a test holds them to.
"""

from __future__ import annotations

from base64 import b64encode
from email.header import Header
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from postroom.addresses import Address
    from postroom.messages import Attachment, Email

ID_ARGUMENT = "postroom_id"
"""The custom argument that carries a message's own id back with every event."""

Json = dict[str, Any]

_NO_CONTENT = {"type": "text/plain", "value": " "}
"""The API's description requires content even where a template brings its own, which overrides this."""

_PRIORITY_HEADERS = {
    "high": {"X-Priority": "1", "Importance": "high"},
    "low": {"X-Priority": "5", "Importance": "low"},
}


def shared_part(email: Email, *, sandbox: bool) -> Json:
    """Return what messages of one call must have in common: all but subject and personalizations."""
    assert email.from_
    body: Json = {"from": _mailbox(email.from_), "content": _contents(email) or [_NO_CONTENT]}
    if email.reply_to:
        replies = _once(email.reply_to, set())
        body |= {"reply_to_list": replies} if len(replies) > 1 else {"reply_to": replies[0]}
    if email.template:
        body["template_id"] = email.template
    if email.attachments:
        body["attachments"] = [_attachment(attachment) for attachment in email.attachments]
    if email.tags:
        body["categories"] = list(dict.fromkeys(email.tags))
    body |= email.provider_options
    if sandbox:
        body["mail_settings"] = {**_object(body, "mail_settings"), "sandbox_mode": {"enable": True}}
    return body


def personalizations(email: Email) -> list[Json]:
    """Return the envelopes of one message: one, or one per `to` recipient when it has merge data.

    Each address is named once, the first time: SendGrid refuses repeats (its "Mail Send" errors), whatever the case.
    """
    seen: set[str] = set()
    envelope: Json = {"to": _once(email.to, seen)}
    if email.cc and (cc := _once(email.cc, seen)):
        envelope["cc"] = cc
    if email.bcc and (bcc := _once(email.bcc, seen)):
        envelope["bcc"] = bcc
    envelope |= _common(email)
    return _merged(email, envelope) if email.merge_data else [envelope]


def custom_arguments(email: Email) -> dict[str, str]:
    """Return what comes back with every event: the metadata and the message's own id."""
    return {**email.metadata, ID_ARGUMENT: email.id or ""}


def wire_address(address: Address) -> str:
    """Return the address in ASCII, the only form SendGrid takes."""
    return address.email if address.email.isascii() else address.ascii_email or ""


def in_sandbox(email: Email) -> bool:
    """Whether the message itself asks SendGrid to check it and send nothing."""
    if not email.provider_options:
        return False
    mode = _object(_object(email.provider_options, "mail_settings"), "sandbox_mode")
    return mode.get("enable") is True


def _merged(email: Email, envelope: Json) -> list[Json]:
    """One envelope per recipient with its own data; the copies go with the first."""
    data = {wire_address(address): email.merge_data.get(address.email, {}) for address in email.to}
    alone = {name: value for name, value in envelope.items() if name not in {"cc", "bcc"}}
    return [
        {**(alone if number else envelope), "to": [mailbox], "dynamic_template_data": data[mailbox["email"]]}
        for number, mailbox in enumerate(envelope["to"])
    ]


def _common(email: Email) -> Json:
    envelope: Json = {"custom_args": custom_arguments(email)}
    if email.subject:
        envelope["subject"] = email.subject
    if headers := _headers(email):
        envelope["headers"] = headers
    if email.send_at:
        envelope["send_at"] = int(email.send_at.timestamp())
    return envelope


def _headers(email: Email) -> dict[str, str]:
    """The message's own headers win over those of its priority; SendGrid refuses the same name twice."""
    headers = {"Message-ID": email.message_id} if email.message_id else {}
    if email.priority != "normal":
        given = {name.lower() for name in email.headers}
        headers |= {k: v for k, v in _PRIORITY_HEADERS[email.priority].items() if k.lower() not in given}
    for name, value in email.headers.items():
        headers[name] = _header_value(value)
    return headers


def _header_value(value: str) -> str:
    """Encoded words (RFC 2047) where it is not ASCII: the API's description leaves that to the caller."""
    return value if value.isascii() else Header(value, "utf-8").encode(linesep="")


def _once(addresses: Iterable[Address], seen: set[str]) -> list[Json]:
    fresh = []
    for address in addresses:
        mailbox = _mailbox(address)
        key = mailbox["email"].lower()
        if key not in seen:
            seen.add(key)
            fresh.append(mailbox)
    return fresh


def _mailbox(address: Address) -> Json:
    email = wire_address(address)
    return {"email": email, "name": address.name} if address.name else {"email": email}


def _contents(email: Email) -> list[Json]:
    """The bodies in the order the API wants: text/plain, AMP, HTML, then anything else."""
    bodies = (
        ("text/plain", email.text),
        ("text/x-amp-html", email.amp),
        ("text/html", email.html),
        ("text/calendar", email.calendar),
    )
    return [{"type": kind, "value": value} for kind, value in bodies if value]


def _attachment(attachment: Attachment) -> Json:
    content: Json = {
        "content": b64encode(attachment.content).decode(),
        "filename": attachment.filename,
        "type": attachment.content_type,
        "disposition": "inline" if attachment.inline else "attachment",
    }
    if attachment.content_id:
        content["content_id"] = attachment.content_id
    return content


def _object(source: Mapping[str, Any], name: str) -> Json:
    found = source.get(name)
    return found if isinstance(found, dict) else {}
