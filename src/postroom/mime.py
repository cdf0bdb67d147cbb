"""An e-mail as the bytes that travel: MIME, CRLF lines of at most 998 octets, and never a Bcc header.

Structure and attachments are built by the standard library; the headers, and messages of a text and an HTML body
alone, by `postroom.mime_plain`, in a tenth of the time.
"""

from __future__ import annotations

import re
from email import message_from_bytes
from email.message import MIMEPart
from email.policy import SMTP
from typing import TYPE_CHECKING

from postroom.mime_headers import header_lines
from postroom.mime_plain import plain_content

if TYPE_CHECKING:
    from collections.abc import Iterator

    from postroom.messages import Attachment, Email

_POLICY = SMTP.clone(cte_type="7bit", max_line_length=78)
_CALENDAR_METHOD = re.compile(r"^METHOD:([A-Za-z\-]+)\s*$", re.MULTILINE | re.IGNORECASE)


def to_bytes(email: Email, *, smtputf8: bool = False) -> bytes:
    """Return `email` as RFC 5322 bytes.

    With `smtputf8` addresses and headers go as UTF-8 (RFC 6532); without, domains go in IDNA form and words as
    encoded words (RFC 2047). Raises MessageError for an address whose local part only SMTPUTF8 can carry.
    """
    head = header_lines(email, smtputf8=smtputf8)
    if email.attachments or email.calendar or email.amp:
        content = _root(email).as_bytes(policy=_POLICY)
    else:
        content = plain_content(email.text, email.html)
    return head + b"MIME-Version: 1.0\r\n" + content


def needs_smtputf8(email: Email) -> bool:
    """Whether an address in the headers or the envelope has a local part that is not ASCII."""
    return "international_addresses" in email.features


def _root(email: Email) -> MIMEPart:
    body = _alternatives([*_text_parts(email)])
    attached = [attachment for attachment in email.attachments if not attachment.inline]
    if attached:
        body.make_mixed()
        for attachment in attached:
            body.attach(_attachment_part(attachment))
    return body


def _text_parts(email: Email) -> Iterator[MIMEPart]:
    """The bodies, least expressive first, as RFC 2046 section 5.1.4 wants; AMP stands before HTML."""
    if email.text is not None or not (email.html or email.calendar):
        yield _text_part(email.text or "", "plain")
    if email.amp:
        yield _text_part(email.amp, "x-amp-html")
    if email.html:
        yield _html_part(email)
    if email.calendar:
        method = _CALENDAR_METHOD.search(email.calendar)
        yield _text_part(email.calendar, "calendar", {"method": method[1].upper()} if method else {})


def _alternatives(parts: list[MIMEPart]) -> MIMEPart:
    if len(parts) == 1:
        return parts[0]
    root = MIMEPart(policy=_POLICY)
    root.make_alternative()
    for part in parts:
        root.attach(part)
    return root


def _text_part(text: str, subtype: str, params: dict[str, str] | None = None) -> MIMEPart:
    part = MIMEPart(policy=_POLICY)
    part.set_content(text.replace("\r\n", "\n").replace("\r", "\n"), subtype=subtype, params=params)
    return part


def _html_part(email: Email) -> MIMEPart:
    part = _text_part(email.html or "", "html")
    for attachment in email.attachments:
        if attachment.inline:
            if not part.is_multipart():
                part.make_related()
            part.attach(_attachment_part(attachment))
    return part


def _attachment_part(attachment: Attachment) -> MIMEPart:
    part = MIMEPart(policy=_POLICY)
    maintype, subtype, params = _media_type(attachment.content_type)
    disposition = "inline" if attachment.inline else "attachment"
    cid = f"<{attachment.content_id}>" if attachment.content_id else None
    if maintype == "message":
        nested = message_from_bytes(attachment.content)
        part.set_content(nested, disposition=disposition, filename=attachment.filename, cid=cid)
    else:
        part.set_content(
            attachment.content,
            maintype,
            subtype,
            cte="base64",
            disposition=disposition,
            filename=attachment.filename,
            cid=cid,
            params=params,
        )
    return part


def _media_type(content_type: str) -> tuple[str, str, dict[str, str]]:
    probe = MIMEPart(policy=_POLICY)
    probe["Content-Type"] = content_type
    header = probe["Content-Type"]
    return header.maintype, header.subtype, dict(header.params)
