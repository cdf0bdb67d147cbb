"""Validation: what SendGrid would refuse is refused before anything is sent.

Sources, below twilio.com/docs/sendgrid/api-reference/mail-send: `errors` (the list of its refusals), `limitations`
and the description of the request.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from pydantic_core import to_json

from postroom.errors import InvalidOption
from postroom.plugin import did_you_mean
from postroom_sendgrid.bulk import LARGEST_CALL, MOST_RECIPIENTS, calls_for
from postroom_sendgrid.payload import ID_ARGUMENT, custom_arguments, wire_address

if TYPE_CHECKING:
    from collections.abc import Iterator

    from postroom.messages import Email

LATEST_SEND_AT = timedelta(hours=72)
LARGEST_ARGUMENTS = 10_000
"""Bytes of custom arguments in a personalization: the lesser of what `limitations` and `errors` (50,000) say."""

MOST_CATEGORIES = 10
LONGEST_CATEGORY = 255
RESERVED_HEADERS = frozenset({"x-sg-id", "x-sg-eid"})
"""Headers SendGrid keeps for itself, beyond those that `Email` never takes."""

PROVIDER_FIELDS: dict[str, type] = {
    "asm": dict,
    "batch_id": str,
    "ip_pool_name": str,
    "mail_settings": dict,
    "tracking_settings": dict,
}
"""What `provider_options` may set: the fields of the API that a message has no field for."""

_LARGEST_ESCAPE = 6
"""Bytes that JSON may make of one character."""


def problems(email: Email) -> list[str]:
    """Return what is wrong with `email`, each a phrase that follows "SendGrid"."""
    return [*_recipients(email), *_contents(email), *_template(email), *_labels(email), *_size(email)]


def check_provider_options(email: Email) -> None:
    """Raise InvalidOption for a field that SendGrid does not have, that the message owns, or of a wrong type."""
    for name, value in email.provider_options.items():
        path = f"provider_options.{name}"
        kind = PROVIDER_FIELDS.get(name)
        if kind is None:
            hint = did_you_mean(name, PROVIDER_FIELDS) or f": {', '.join(PROVIDER_FIELDS)}"
            raise InvalidOption(f"the message's own fields and SendGrid's are all there is{hint}", path=path)
        if not isinstance(value, kind):
            raise InvalidOption(f"must be {'an object' if kind is dict else 'a text'}", path=path)


def _recipients(email: Email) -> Iterator[str]:
    if not email.to:
        yield "needs a recipient in `to`"
    if len(email.recipients) > MOST_RECIPIENTS:
        yield f"takes at most {MOST_RECIPIENTS:,} recipients a message"
    named = (*email.to, *email.cc, *email.bcc, *email.reply_to, *((email.from_,) if email.from_ else ()))
    foreign = [address.email for address in named if not wire_address(address)]
    if foreign:
        yield f"takes only ASCII before the @ of an address, unlike {foreign[0]}"


def _contents(email: Email) -> Iterator[str]:
    if not (email.text or email.html or email.template):
        yield "needs a text, an HTML body or a template"
    if not (email.subject or email.template):
        yield "needs a subject, unless a template has one"
    for attachment in email.attachments:
        if not attachment.content:
            yield f"takes no empty attachment such as {attachment.filename!r}"
        if ";" in attachment.content_type or "," in attachment.content_type:
            yield f"takes attachment types without parameters, unlike {attachment.content_type!r}"


def _template(email: Email) -> Iterator[str]:
    if not email.merge_data:
        return
    if not (email.template or "").startswith("d-"):
        yield "takes merge data only with a dynamic template, whose id begins with d-"
    first = {address.email for address in email.to}
    copied = [address for address in email.merge_data if address not in first]
    if copied:
        yield f"takes merge data only for recipients in `to`, unlike {copied[0]}"


def _labels(email: Email) -> Iterator[str]:
    if len(set(email.tags)) > MOST_CATEGORIES:
        yield f"takes at most {MOST_CATEGORIES} tags"
    if any(not tag.isascii() or len(tag) > LONGEST_CATEGORY for tag in email.tags):
        yield f"takes tags of ASCII with at most {LONGEST_CATEGORY} characters"
    if ID_ARGUMENT in email.metadata:
        yield f"is sent the message's id as metadata {ID_ARGUMENT!r}, which must stay free"
    if email.metadata and len(to_json(custom_arguments(email))) >= LARGEST_ARGUMENTS:
        yield f"takes metadata of less than {LARGEST_ARGUMENTS:,} bytes"
    lowered = [name.lower() for name in email.headers]
    if len(set(lowered)) < len(lowered):
        yield "takes no header twice"
    if RESERVED_HEADERS.intersection(lowered):
        yield f"keeps the headers {' and '.join(sorted(RESERVED_HEADERS))} for itself"
    if email.send_at and email.send_at > datetime.now(UTC) + LATEST_SEND_AT:
        yield "schedules at most 72 hours ahead"


def _size(email: Email) -> Iterator[str]:
    """Only a message that might be too large is measured, without building what is large of it."""
    characters = sum(len(body) for body in (email.text, email.html, email.amp, email.calendar) if body)
    attached = sum(len(attachment.content) for attachment in email.attachments)
    merged = len(to_json(email.merge_data)) if email.merge_data else 0
    repeated = len(email.to) * sum(map(len, (*email.metadata.values(), *email.headers.values(), email.subject)))
    if (characters + attached + merged + repeated) * _LARGEST_ESCAPE < LARGEST_CALL // 2:
        return
    if size_of(email) >= LARGEST_CALL:
        yield f"takes less than {LARGEST_CALL:,} bytes a message, encoded as JSON"


def size_of(email: Email) -> int:
    """Return what a call of this message alone takes, as `Call.size` counts it."""
    bodies = {name: body for name in _BODIES if (body := getattr(email, name))}
    empty = tuple(each.model_copy(update={"content": b""}) for each in email.attachments)
    (call,) = calls_for([email.stamped(**dict.fromkeys(bodies, "-"), attachments=empty)], sandbox=True)
    files = sum((len(each.content) + 2) // 3 * 4 for each in email.attachments)
    return call.size + files + sum(_json_length(body) - len("-") for body in bodies.values())


def _json_length(text: str) -> int:
    pieces = (text[at : at + _PIECE] for at in range(0, len(text), _PIECE))
    return sum(len(to_json(piece)) - len('""') for piece in pieces)


_BODIES = ("text", "html", "amp", "calendar")
_PIECE = 65_536
