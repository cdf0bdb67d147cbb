"""Bounces: what comes back by mail, delivery status notifications (RFC 3464), and complaints (ARF, RFC 5965).

What comes in is passed on by the account's own mail server, which presents `bounce_secret`. Anybody can write to it,
though, and a mail proves nothing about who wrote it: no event is `verified`, so that it counts only for a recipient of
a message that is known. Where the account has signed return paths, a bounce must have come to one of them.
"""

from __future__ import annotations

import hmac
import re
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import Message as Part
from email.parser import BytesHeaderParser
from email.utils import parseaddr, parsedate_to_datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from postroom.errors import PayloadInvalid, SignatureInvalid
from postroom.events import Event, EventType
from postroom.receipts import Channel
from postroom_smtp.errors import DEAD

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic import JsonValue

    from postroom.plugin import WebhookRequest
    from postroom_smtp.return_paths import ReturnPaths
    from postroom_smtp.settings import SmtpSettings

READ = 524_288
READ_LINES = 20_000
"""Bytes and lines of a mail that are read: the report stands before the message that it returns.

A report about 1,000 recipients has a fifth of both.
"""

MOST_CONTAINERS = 20
MOST_BOUNDARIES = 2000
"""Parts that hold others, and lines that may part them: a report that returns a mail with attachments has five and 20.

The parser looks at each line once for each part around it, so that many of both take minutes.
"""

LONGEST_TYPE = 10_000
"""Bytes of a Content-Type, which the parser takes apart again and again: half a megabyte takes a second."""

MOST_FIELDS = 30
"""Fields of a report that an event keeps; RFC 5965 and its extensions know 20."""

LONGEST_FIELD = 1000
"""Characters of a field that is taken apart: RFC 5322 section 2.1.1 allows 998 in a line."""

MOST_RECIPIENTS = 1000

ACTIONS = {
    "failed": EventType.BOUNCED,
    "delayed": EventType.DEFERRED,
    "delivered": EventType.DELIVERED,
    "relayed": EventType.SENT,
    "expanded": EventType.SENT,
}
"""RFC 3464 section 2.3.3."""

FEEDBACK = {
    "abuse": EventType.COMPLAINED,
    "fraud": EventType.COMPLAINED,
    "virus": EventType.COMPLAINED,
    "opt-out": EventType.UNSUBSCRIBED,
    "opt-out-list": EventType.UNSUBSCRIBED,
}
"""Feedback-Type: RFC 5965 section 7.3; opt-out and opt-out-list are of the drafts before it, and still in use."""

_FIRST_YEAR = 1982
"""When RFC 821 began mail as we know it."""

_RETURNED = ("message/rfc822", "text/rfc822-headers", "message/global", "message/global-headers")
_ADDRESSED_TO = ("X-Original-To", "Delivered-To", "Envelope-To", "To")
_STATUS = re.compile(r"([245])\.([0-9]{1,3})\.([0-9]{1,3})")
_MESSAGE_ID = re.compile(r"<[^<>\s]{1,998}>")
_LINE = re.compile(rb"\r\n?|\n")
_CONTAINER = re.compile(rb"content-type[ \t]*:\s*(?:multipart|message)", re.IGNORECASE)
_TYPE = re.compile(rb"(?:^|[\r\n])content-type[ \t]*:[^\r\n]*(?:(?:\r\n|\r|\n)[ \t][^\r\n]*)*", re.IGNORECASE)
_BOUNDARY = re.compile(rb"(?:^|[\r\n])--")
_OWN_ID = re.compile(r"<([0-9a-f]{32})@")


def read(account: str, settings: SmtpSettings, request: WebhookRequest) -> list[Event]:
    """Return what a mail reports, an event for each recipient; a mail that is no report is an event of type other.

    Raises SignatureInvalid without the account's secret, PayloadInvalid for what is no mail.
    """
    verify(account, settings, request)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "message/rfc822":
        raise PayloadInvalid(f"{account}: not a mail; post it as Content-Type: message/rfc822")
    mail = message_from_bytes(_bounded(account, request.body))
    if not mail.keys():
        raise PayloadInvalid(f"{account}: not a mail: it has no header")
    return list(_events(account, mail, settings.return_paths))


def verify(account: str, settings: SmtpSettings, request: WebhookRequest) -> None:
    """Raise SignatureInvalid unless the head of a request presents the account's secret."""
    secret = settings.bounce_secret.get_secret_value() if settings.bounce_secret else ""
    if not secret:
        raise SignatureInvalid(f"{account}: takes no bounces; set bounce_secret, and have the mail server present it")
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    presented = given.strip().encode(errors="surrogatepass")
    if scheme.lower() != "bearer" or not hmac.compare_digest(presented, secret.encode()):
        raise SignatureInvalid(
            f"{account}: no Authorization: Bearer with the account's bounce_secret; nothing was read"
        )


def _bounded(account: str, body: bytes) -> bytes:
    """Return as much of a mail as is read. Raises PayloadInvalid for more parts than any report has."""
    body = body[:READ]
    last = next(islice(_LINE.finditer(body), READ_LINES, None), None)
    body = body[: last.start()] if last else body
    if _over(_CONTAINER, body, MOST_CONTAINERS) or _over(_BOUNDARY, body, MOST_BOUNDARIES):
        raise PayloadInvalid(f"{account}: a mail with more parts, or parts nested deeper, than a report has")
    if any(len(found[0]) > LONGEST_TYPE for found in _TYPE.finditer(body)):
        raise PayloadInvalid(f"{account}: a mail with a Content-Type of more than {LONGEST_TYPE:,} bytes")
    return body


def _over(pattern: re.Pattern[bytes], body: bytes, most: int) -> bool:
    return next(islice(pattern.finditer(body), most, None), None) is not None


def _events(account: str, mail: Part, return_paths: ReturnPaths | None) -> Iterator[Event]:
    parts = {part.get_content_type(): part for part in reversed(_parts(mail))}
    message_id = next((found for kind in _RETURNED if kind in parts and (found := _returned_id(parts[kind]))), None)
    message_id = message_id or _first_id(_field(mail, "In-Reply-To"))
    own = _OWN_ID.match(message_id or "")
    signed = return_paths.message_id(_return_path_fields(mail, parts)) if return_paths else None
    about: dict[str, Any] = {
        "channel": Channel.EMAIL,
        "provider": "smtp",
        "account": account,
        "message_id": signed or (own[1] if own else None),
        "provider_message_id": None if signed else message_id,
        "verified": False,
    }
    status = parts.get("message/delivery-status")
    if status and return_paths and not signed:
        yield Event(**about, **_when(mail), type=EventType.OTHER, detail="a bounce to none of the signed return paths")
    elif status:
        yield from _statuses(about, mail, status)
    elif feedback := parts.get("message/feedback-report"):
        yield from _complaints(about, mail, feedback)
    else:
        yield Event(**about, **_when(mail), type=EventType.OTHER, sender=_sender(mail), detail=_field(mail, "Subject"))


def _return_path_fields(mail: Part, parts: Mapping[str, Part]) -> Iterator[str]:
    """Where the address that a report came to may stand; a complaint goes elsewhere, and names it (RFC 5965 3.2)."""
    for name in _ADDRESSED_TO:
        yield from (_text(value)[:LONGEST_FIELD] for value in (mail.get_all(name) or [])[:MOST_FIELDS])
    if feedback := parts.get("message/feedback-report"):
        yield _field(next(iter(_parts(feedback)), feedback), "Original-Mail-From") or ""


def _statuses(about: dict[str, Any], mail: Part, status: Part) -> Iterator[Event]:
    """The fields of the message come first, then a group for each recipient (RFC 3464 section 2.1)."""
    mailed = _when(mail)  # once: to find a field, all of a part are looked at, and there may be thousands of both
    for group in _parts(status)[: MOST_RECIPIENTS + 1]:
        recipient = _typed(group, "Original-Recipient") or _typed(group, "Final-Recipient")
        if recipient is None:
            continue
        of = ACTIONS.get((_field(group, "Action") or "").lower(), EventType.OTHER)
        code = _STATUS.search(_field(group, "Status") or "")
        yield Event(
            **about,
            **(_dated(group, "Last-Attempt-Date") or mailed),
            type=of,
            recipient=recipient,
            code=code[0] if code else None,
            detail=_typed(group, "Diagnostic-Code"),
            permanent=_dead(code)
            if of is EventType.BOUNCED and (about["message_id"] or about["provider_message_id"])
            else None,
            raw=_raw(group),
        )


def _complaints(about: dict[str, Any], mail: Part, feedback: Part) -> Iterator[Event]:
    fields = next(iter(_parts(feedback)), feedback)
    kind = (_field(fields, "Feedback-Type") or "").lower()
    named = [str(value) for value in fields.get_all("Original-Rcpt-To") or []][:MOST_RECIPIENTS]
    for_all: dict[str, Any] = {  # worked out once: there may be thousands of fields, and of recipients
        **about,
        **(_dated(fields, "Arrival-Date") or _when(mail)),
        "type": FEEDBACK.get(kind, EventType.OTHER),
        "code": kind or None,
        "detail": _field(fields, "User-Agent"),
        "raw": _raw(fields),
    }
    for recipient in named or [""]:
        yield Event(**for_all, recipient=recipient.strip().strip("<>") or None)


def _dead(code: re.Match[str] | None) -> bool | None:
    """Mailboxes that do not exist (`DEAD`), and those that are closed (RFC 3463 section 3.3, X.2.1).

    The latter only here, after the server's own tries: Gmail answers RCPT with 550 5.2.1 also for a mailbox that gets
    too much just now (Google, "Gmail SMTP errors and codes"). A full mailbox, a policy or a route may be otherwise
    tomorrow, even where the message itself has failed for good.
    """
    return None if code is None else code[0] in DEAD | {"5.2.1"}


def _returned_id(part: Part) -> str | None:
    returned = next(iter(_parts(part)), None)
    if returned is None:
        content = part.get_payload(decode=True)
        returned = BytesHeaderParser().parsebytes(content if isinstance(content, bytes) else b"")
    return _first_id(_field(returned, "Message-ID"))


def _first_id(text: str | None) -> str | None:
    found = _MESSAGE_ID.search(text or "")
    return found[0] if found else None


def _parts(part: Part) -> list[Part]:
    found = part.get_payload()
    return [one for one in found if isinstance(one, Part)] if isinstance(found, list) else []


def _field(part: Part, name: str) -> str | None:
    """A field on one line; bytes that are no ASCII come out as what stands for them."""
    found = part.get(name)
    return " ".join(_text(found).split()) or None if found is not None else None


def _typed(part: Part, name: str) -> str | None:
    """The value of a field that begins with its type: `rfc822; ann@example.org`."""
    kind, semicolon, value = (_field(part, name) or "").partition(";")
    return (value if semicolon else kind).strip().strip("<>") or None


def _raw(part: Part) -> dict[str, JsonValue]:
    """The fields of a part, so many and so long as an event keeps them."""
    return {name[:LONGEST_FIELD]: _text(value)[:LONGEST_FIELD] for name, value in part.items()[:MOST_FIELDS]}


def _sender(mail: Part) -> str | None:
    """The address in `From`; None for one that nothing can be made of, which is no reason to refuse the mail."""
    try:
        return parseaddr((_field(mail, "From") or "")[:LONGEST_FIELD])[1] or None
    except (RecursionError, ValueError, IndexError):
        return None


def _text(value: object) -> str:
    return str(value).encode(errors="replace").decode()


def _when(mail: Part) -> Mapping[str, Any]:
    """The time in `Date`, or now."""
    return _dated(mail, "Date") or {"occurred_at": datetime.now(UTC), "dated": False}


def _dated(part: Part, name: str) -> Mapping[str, Any] | None:
    """The time in a field, if it has one."""
    found = _moment(_field(part, name) or "")
    return {"occurred_at": found, "dated": True} if found else None


def _moment(text: str) -> datetime | None:
    """The time in a field, in UTC; None for what is none, or none that a mail server can have written."""
    try:
        found = parsedate_to_datetime(text[:LONGEST_FIELD])
        found = found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, TypeError, IndexError, OverflowError, RecursionError):
        return None
    return found if found.year >= _FIRST_YEAR else None
