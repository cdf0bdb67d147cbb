"""Reconciliation: a message that Twilio may have taken is looked for in the account's message list.

The list names To, From, body, service and time of each message, and nothing that a sender could mark one with, so a
message is known by these. Source: the Messages resource, "Read multiple Message resources" (newest DateSent first;
DateSent is empty until Twilio sends, which is why it is not filtered by).

Absence proves nothing: Twilio documents no time after which a message it took must be in the list, so nothing here
says that a message was not taken.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from postroom_twilio.payload import message_fields

if TYPE_CHECKING:
    from collections.abc import Iterable

    from postroom.messages import Sms
    from postroom.plugin import UnknownAttempt
    from postroom_twilio.settings import TwilioSettings

PAGE_SIZE = 100
"""Messages of one page: with the longest bodies that is less than the megabyte of an answer that is read."""

MOST_PAGES = 10
"""Pages read before the search is given up."""

EARLIER = timedelta(seconds=2)
"""How far Twilio's clock may be behind ours; its times are whole seconds."""

LATER = timedelta(seconds=60)
"""How long Twilio may take to create a message after nobody waits for the answer."""

REMEMBERED = 10_000
"""SIDs of which it is known whose they are."""

Entry = dict[str, Any]


class Sought(NamedTuple):
    """What the list's entry for the message must say."""

    to: str
    sender: str | None
    service: str | None
    body: str
    since: datetime
    until: datetime

    @classmethod
    def by(cls, attempt: UnknownAttempt[Sms], settings: TwilioSettings) -> Self | None:
        """Return None for a message without a text of its own: a template's is made by Twilio."""
        fields = message_fields(attempt.message, settings, attempt.started_at)
        if "Body" not in fields or "ContentSid" in fields:
            return None
        return cls(
            to=str(fields["To"]),
            sender=str(fields["From"]) if "From" in fields else None,
            service=str(fields["MessagingServiceSid"]) if "MessagingServiceSid" in fields else None,
            body=str(fields["Body"]),
            since=attempt.started_at - EARLIER,
            until=attempt.started_at + timedelta(seconds=settings.timeout) + LATER,
        )

    @property
    def query(self) -> dict[str, str | list[str]]:
        """The parameters of the first page."""
        sender = {"From": self.sender} if self.sender else {}
        return {"To": self.to, **sender, "PageSize": str(PAGE_SIZE)}

    def is_(self, entry: Entry) -> bool:
        """Whether `entry` may be the message."""
        created = created_at(entry)
        return (
            str(entry.get("direction")).startswith("outbound")
            and (entry.get("to"), entry.get("body")) == (self.to, self.body)
            and self.sender in {None, entry.get("from")}
            and self.service in {None, entry.get("messaging_service_sid")}
            and created is not None
            and self.since <= created <= self.until
        )

    def precedes(self, entries: Iterable[Entry]) -> bool:
        """Whether all of `entries` are older than the message, and with them all that follow."""
        times = [created_at(entry) for entry in entries]
        return all(time is not None and time < self.since for time in times)


class Owners:
    """Whose a SID is: two equal messages, one of which was taken, must not both be found in it."""

    def __init__(self) -> None:
        self._owners: dict[str, str | None] = {}

    def give(self, sid: str, message_id: str | None) -> bool:
        """Return whether `sid` is now the message's; False when it is another's."""
        if self._owners.setdefault(sid, message_id) != message_id:
            return False
        if len(self._owners) > REMEMBERED:
            del self._owners[next(iter(self._owners))]
        return True


def created_at(entry: Entry) -> datetime | None:
    """Return when Twilio created a message: `Fri, 13 Aug 2010 01:16:22 +0000`."""
    try:
        moment = parsedate_to_datetime(str(entry.get("date_created")))
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
