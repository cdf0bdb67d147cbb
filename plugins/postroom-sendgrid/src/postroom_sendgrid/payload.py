"""An e-mail, or a thousand alike, as the JSON of `POST /v3/mail/send`.

Field names and limits: docs.sendgrid.com, "Mail Send" and its "Limitations". The dictionaries are built by hand, in
a tenth of the time of the SDK's `Mail` model, which a test holds them to.
"""

from __future__ import annotations

import difflib
from base64 import b64encode
from typing import TYPE_CHECKING, Any

from postroom.errors import InvalidOption

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from postroom.addresses import Address
    from postroom.messages import Attachment, Email

ID_ARGUMENT = "postroom_id"
"""The custom argument that carries a message's own id back with every event."""

PROVIDER_FIELDS = frozenset({"asm", "batch_id", "ip_pool_name", "mail_settings", "tracking_settings"})
"""What `provider_options` may set: the fields of the API that a message has no field for."""

Json = dict[str, Any]

_NO_CONTENT = {"type": "text/html", "value": " "}
"""The API wants content of a character at least, even where a template brings its own."""

_PRIORITY_HEADERS = {
    "high": {"X-Priority": "1", "Importance": "high"},
    "low": {"X-Priority": "5", "Importance": "low"},
}


def shared_part(email: Email, *, sandbox: bool) -> Json:
    """Return what messages of one call must have in common: all but personalizations."""
    assert email.from_
    body: Json = {"from": _address(email.from_)}
    if email.reply_to:
        many = len(email.reply_to) > 1
        replies = [_address(address) for address in email.reply_to]
        body["reply_to_list" if many else "reply_to"] = replies if many else replies[0]
    body["content"] = list(_contents(email)) or [_NO_CONTENT]
    if email.template:
        body["template_id"] = email.template
    if email.attachments:
        body["attachments"] = [_attachment(attachment) for attachment in email.attachments]
    if email.tags:
        body["categories"] = list(email.tags)
    for name, value in email.provider_options.items():
        body[name] = value
    if sandbox:
        body["mail_settings"] = {**body.get("mail_settings", {}), "sandbox_mode": {"enable": True}}
    return body


def personalizations(email: Email) -> list[Json]:
    """Return the envelopes of one message: one, or one per `to` recipient when each has merge data of its own."""
    common = _common(email)
    if not email.merge_data:
        return [{**_recipients(email.to, email.cc, email.bcc), **common}]
    envelopes = []
    for number, recipient in enumerate(email.to):
        cc, bcc = (email.cc, email.bcc) if number == 0 else ((), ())
        data = email.merge_data.get(recipient.email, {})
        envelopes.append({**_recipients((recipient,), cc, bcc), **common, "dynamic_template_data": data})
    return envelopes


def check_provider_options(email: Email) -> None:
    """Raise InvalidOption for a field that SendGrid does not have or that the message models itself."""
    for name in email.provider_options:
        if name not in PROVIDER_FIELDS:
            near = difflib.get_close_matches(name, PROVIDER_FIELDS, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            known = ", ".join(sorted(PROVIDER_FIELDS))
            raise InvalidOption(f"SendGrid has no such option; {hint}known: {known}", path=f"provider_options.{name}")


def _common(email: Email) -> Json:
    headers = {"Message-ID": email.message_id} if email.message_id else {}
    headers |= _PRIORITY_HEADERS.get(email.priority, {}) | email.headers
    envelope: Json = {"custom_args": {**email.metadata, ID_ARGUMENT: email.id or ""}}
    if email.subject:
        envelope["subject"] = email.subject
    if headers:
        envelope["headers"] = headers
    if email.send_at:
        envelope["send_at"] = int(email.send_at.timestamp())
    return envelope


def _recipients(to: Sequence[Address], cc: Sequence[Address], bcc: Sequence[Address]) -> Json:
    """Name each recipient once: SendGrid refuses a personalization that repeats an address."""
    seen: set[str] = set()
    groups: Json = {}
    for name, group in (("to", to), ("cc", cc), ("bcc", bcc)):
        fresh = []
        for address in group:
            if address.email.lower() not in seen:
                seen.add(address.email.lower())
                fresh.append(_address(address))
        if fresh:
            groups[name] = fresh
    return groups


def _address(address: Address) -> Json:
    email = address.email if address.email.isascii() else address.ascii_email
    return {"email": email, "name": address.name} if address.name else {"email": email}


def _contents(email: Email) -> Iterable[Json]:
    """Yield the bodies in the order the API wants: text/plain, then AMP, then HTML, then anything else."""
    bodies = (
        ("text/plain", email.text),
        ("text/x-amp-html", email.amp),
        ("text/html", email.html),
        ("text/calendar", email.calendar),
    )
    return ({"type": kind, "value": value} for kind, value in bodies if value)


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
