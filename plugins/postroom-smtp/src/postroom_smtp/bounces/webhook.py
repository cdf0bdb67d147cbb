"""A mail that a mail server posts: who may post one, how much of it is read, and what it reports."""

from __future__ import annotations

import hmac
import re
from itertools import islice
from typing import TYPE_CHECKING, Any

from postroom.errors import PayloadInvalid, SignatureInvalid
from postroom.events import Event, EventType
from postroom.receipts import Channel
from postroom_smtp.bounces import delivery_status, feedback, free_text
from postroom_smtp.bounces.fields import Fields
from postroom_smtp.bounces.parts import Mail

if TYPE_CHECKING:
    from collections.abc import Iterator

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

_ADDRESSED_TO = ("X-Original-To", "Delivered-To", "Envelope-To", "To")
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
    mail = Mail(_bounded(account, request.body))
    if not mail.whole.keys():
        raise PayloadInvalid(f"{account}: not a mail: it has no header")
    return _events(account, mail, settings.return_paths)


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


def _events(account: str, mail: Mail, return_paths: ReturnPaths | None) -> list[Event]:
    complained = next(iter(mail.reports(feedback.KIND)), None)
    report = None if complained is None else Fields(complained.lstrip("\n"))
    signed = return_paths.message_id(_return_path_fields(mail, report)) if return_paths else None
    own = _OWN_ID.match(mail.message_id or "")
    about: dict[str, Any] = {
        "channel": Channel.EMAIL,
        "provider": "smtp",
        "account": account,
        "message_id": signed or (own[1] if own else None),
        "provider_message_id": None if signed else mail.message_id,
        "verified": False,
    }
    if report is not None:
        return list(feedback.complaints(about, mail, report))
    if complaint := feedback.complaint_to_outlook(about, mail):
        return [complaint]
    bounced = list(delivery_status.statuses(about, mail)) or list(free_text.hints(about, mail))
    if bounced and return_paths and not signed:
        detail = "a bounce to none of the signed return paths"
        return [Event(**about, **mail.when, type=EventType.OTHER, detail=detail)]
    subject = mail.field("Subject") or None
    return bounced or [Event(**about, **mail.when, type=EventType.OTHER, sender=mail.sender, detail=subject)]


def _return_path_fields(mail: Mail, report: Fields | None) -> Iterator[str]:
    """Where the address that a report came to may stand; a complaint goes elsewhere, and names it (RFC 5965 3.2)."""
    for name in _ADDRESSED_TO:
        yield from mail.every(name)
    if report is not None:
        yield from report.all("Original-Mail-From")[:1]
