"""Validation: what Twilio would refuse, or quietly do otherwise, is refused before anything is sent."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from postroom.errors import MessageError
from postroom_twilio.payload import message_fields, validity

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from postroom.messages import Sms
    from postroom_twilio.payload import Fields
    from postroom_twilio.settings import TwilioSettings

LONGEST_BODY = 1600
"""Characters (dictionary, error 21617)."""

MOST_MEDIA = 10
"""Media URLs (Messages resource, parameter MediaUrl)."""

SOONEST = timedelta(minutes=5)
"""From now to send_at (dictionary, errors 35114 and 35117; 15 minutes until 2024)."""

LATEST = timedelta(days=35)
"""From now to send_at (dictionary, error 35114)."""


def check(sms: Sms, settings: TwilioSettings, now: datetime) -> None:
    """Raise MessageError, or InvalidOption for `provider_options`, with everything that is wrong with `sms`."""
    problems = list(_problems(sms, message_fields(sms, settings, now), now))
    if problems:
        raise MessageError("Twilio cannot send this message: " + "; ".join(problems))


def _problems(sms: Sms, fields: Fields, now: datetime) -> Iterator[str]:
    if "From" not in fields and "MessagingServiceSid" not in fields:
        yield "it has no sender; set `from` on the message or the account, or messaging_service_sid on the account"
    if len(sms.body) > LONGEST_BODY:
        yield f"its body has {len(sms.body):,} characters, more than {LONGEST_BODY:,}; shorten it or send several"
    if len(sms.media) > MOST_MEDIA:
        yield f"it has {len(sms.media)} media, more than {MOST_MEDIA}"
    seconds = validity(sms, now)
    if seconds is not None and seconds < 1:
        yield "expires_at is past"
    if sms.send_at and sms.send_at > now:
        yield from _schedule_problems(fields, sms.send_at - now)


def _schedule_problems(fields: Fields, ahead: timedelta) -> Iterator[str]:
    if "MessagingServiceSid" not in fields:
        yield "send_at needs messaging_service_sid on the account; without one Twilio does not schedule"
    if not SOONEST <= ahead <= LATEST:
        yield "send_at must be between 5 minutes and 35 days from now; leave it out to send at once"
