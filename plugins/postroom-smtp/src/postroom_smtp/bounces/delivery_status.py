"""Delivery status notifications (RFC 3464, and RFC 6533 for addresses beyond ASCII): an event for each recipient."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from postroom.events import Event, EventType
from postroom_smtp.bounces.diagnostics import diagnose, refused_late
from postroom_smtp.bounces.fields import Fields, dated, recipient_forms, typed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from postroom_smtp.bounces.parts import Mail

KINDS = ("message/delivery-status", "message/global-delivery-status")

MOST_RECIPIENTS = 1000

ACTIONS = {
    "failed": EventType.BOUNCED,
    "delayed": EventType.DEFERRED,
    "delivered": EventType.DELIVERED,
    "relayed": EventType.SENT,
    "expanded": EventType.SENT,
    "failure": EventType.BOUNCED,
    "expired": EventType.BOUNCED,
}
"""RFC 3464 section 2.3.3; the last two are how some servers write the first."""

_BY_CLASS = {"5": EventType.BOUNCED, "4": EventType.DEFERRED, "2": EventType.DELIVERED}
"""What a report means that names no action, by the class of its status (RFC 3463 section 2)."""

_BLANK = re.compile(r"\n[ \t]*\n\s*")
_STATUS = re.compile(r"([245])\.[0-9]{1,3}\.[0-9]{1,3}")


def statuses(about: dict[str, Any], mail: Mail) -> Iterator[Event]:
    """Yield what reports say of each recipient; a recipient who is named without any field is none."""
    known = about["message_id"] or about["provider_message_id"]
    late = refused_late(mail.words)
    for group in _groups(mail):
        recipient = _recipient(group, mail)
        status, text = group.get("Status"), typed(group.get("Diagnostic-Code"))
        of = _type(group.get("Action"), status)
        found = diagnose(status, text or "", late=late)
        yield Event(
            **about,
            **(dated(group.get("Last-Attempt-Date")) or mail.when),
            type=of,
            recipient=recipient,
            code=found.code,
            detail=text,
            permanent=found.permanent if of is EventType.BOUNCED and known else None,
            raw=group.kept(),
        )


def _groups(mail: Mail) -> list[Fields]:
    """The fields of the message come first, then a group for each recipient (RFC 3464 section 2.1)."""
    texts = [text for report in mail.reports(*KINDS) for text in _BLANK.split(report, MOST_RECIPIENTS + 1)]
    groups = (Fields(text) for text in texts)
    return [group for group in groups if _named(group)][:MOST_RECIPIENTS]


def _named(group: Fields) -> bool:
    return bool(typed(group.get("Original-Recipient")) or typed(group.get("Final-Recipient")))


def _recipient(group: Fields, mail: Mail) -> str | None:
    """Whom the message was for: who stands in its headers, or else whom the sender named, or else where it ended."""
    forms = [
        form for name in ("Original-Recipient", "Final-Recipient") for form in recipient_forms(group.get(name)) if form
    ]
    ours = (form for form in forms if form.lower() in mail.sent_to)
    return next(ours, next(iter(forms), None))


def _type(action: str, status: str) -> EventType:
    words = action.lower().split()
    if words:
        return ACTIONS.get(words[0].strip(";,."), EventType.OTHER)
    found = _STATUS.search(status)
    return _BY_CLASS[found[1]] if found else EventType.OTHER
