"""Complaints: the abuse reporting format (ARF, RFC 5965), and reports of failed authentication, which are none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from postroom.events import Event, EventType
from postroom_smtp.bounces.fields import addresses, dated, recipient_forms

if TYPE_CHECKING:
    from collections.abc import Iterator

    from postroom_smtp.bounces.fields import Fields
    from postroom_smtp.bounces.parts import Mail

KIND = "message/feedback-report"

MOST_RECIPIENTS = 1000

FEEDBACK = {
    "abuse": EventType.COMPLAINED,
    "fraud": EventType.COMPLAINED,
    "virus": EventType.COMPLAINED,
    "opt-out": EventType.UNSUBSCRIBED,
    "opt-out-list": EventType.UNSUBSCRIBED,
}
"""Feedback-Type: RFC 5965 section 7.3; opt-out and opt-out-list are of the drafts before it, and still in use.

Neither `not-spam` nor `other` (RFC 6430, RFC 5965) complain of anything, nor does `auth-failure` (RFC 6591), which says
that somebody writes in our name, or that a signature of ours broke on its way.
"""

_OF_OUTLOOK = "X-HmXmrOriginalRecipient"
"""The field in which Outlook.com names who complained; it sends the message alone (Junk Email Reporting Program)."""


def complaints(about: dict[str, Any], mail: Mail, feedback: Fields) -> Iterator[Event]:
    """Yield what a report says, for each recipient; for none in particular where it hides them."""
    kind = feedback.get("Feedback-Type").lower()
    named = [
        form for value in feedback.all("Original-Rcpt-To")[:MOST_RECIPIENTS] for form in recipient_forms(value)[:1]
    ]
    for_all: dict[str, Any] = {  # worked out once: there may be thousands of fields, and of recipients
        **about,
        **(dated(feedback.get("Arrival-Date") or feedback.get("Received-Date")) or mail.when),
        "type": FEEDBACK.get(kind, EventType.OTHER),
        "code": kind or None,
        "detail": feedback.get("User-Agent") or None,
        "raw": feedback.kept(),
    }
    for recipient in named or _only_recipient(mail):
        yield Event(**for_all, recipient=recipient)


def complaint_to_outlook(about: dict[str, Any], mail: Mail) -> Event | None:
    """Return the complaint that Outlook.com passes on, which is no ARF; None for any other mail."""
    named = addresses(mail.returned.get(_OF_OUTLOOK))
    if not named:
        return None
    return Event(
        **about,
        **mail.when,
        type=EventType.COMPLAINED,
        recipient=named[0],
        code="abuse",
        detail=mail.field("Subject") or None,
        raw={_OF_OUTLOOK: named[0]},
    )


def _only_recipient(mail: Mail) -> list[str | None]:
    """Whom the returned message was for, where that is one."""
    return [*mail.sent_to] if len(mail.sent_to) == 1 else [None]
