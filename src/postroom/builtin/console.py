"""Provider `console`: prints messages to standard error instead of sending them, for development."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from postroom.plugin import (
    EMAIL_FEATURES,
    SMS_FEATURES,
    AccountSettings,
    Capabilities,
    EmailTransport,
    SmsTransport,
    hookimpl,
)
from postroom.receipts import Accepted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from postroom.messages import Email, Sms

postroom_interface = 1


class ConsoleSettings(AccountSettings):
    """A console account has the settings every account has, and none of its own."""

    provider: str = "console"


class ConsoleEmail(EmailTransport[ConsoleSettings]):
    """Prints every e-mail: addresses, subject, text and the names of its attachments."""

    settings_model = ConsoleSettings
    capabilities = Capabilities(features=EMAIL_FEATURES, partial_envelope=True)
    keeps_timeout = True

    async def send(self, email: Email, /) -> Accepted:
        _print(_email_lines(email))
        return Accepted(provider_message_id=email.id)


class ConsoleSms(SmsTransport[ConsoleSettings]):
    """Prints every SMS with its number of segments."""

    settings_model = ConsoleSettings
    capabilities = Capabilities(features=SMS_FEATURES)
    keeps_timeout = True

    async def send(self, sms: Sms, /) -> Accepted:
        _print(_sms_lines(sms))
        return Accepted(provider_message_id=sms.id)


@hookimpl
def postroom_email_transport() -> type[ConsoleEmail]:
    """Return the e-mail half."""
    return ConsoleEmail


@hookimpl
def postroom_sms_transport() -> type[ConsoleSms]:
    """Return the SMS half."""
    return ConsoleSms


def _email_lines(email: Email) -> Iterable[str]:
    yield f"e-mail {email.id}"
    yield f"  from: {email.from_}"
    for field in ("to", "cc", "bcc"):
        for address in getattr(email, field):
            yield f"  {field}: {address}"
    yield f"  subject: {email.subject}"
    for attachment in email.attachments:
        yield f"  attachment: {attachment.filename} ({attachment.content_type}, {len(attachment.content)} bytes)"
    yield from ("", email.text or email.html or "")


def _sms_lines(sms: Sms) -> Iterable[str]:
    yield f"SMS {sms.id}"
    yield f"  from: {sms.from_}"
    yield f"  to: {', '.join(sms.to)}"
    yield f"  segments: {sms.segments.count} ({sms.segments.encoding})"
    yield from ("", sms.body)


def _print(lines: Iterable[str]) -> None:
    """Print in one write, so that messages sent together do not run into each other."""
    text = "\n".join(lines)
    shown = "".join(c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}" for c in text)
    sys.stderr.write(f"{shown}\n{'-' * 40}\n")
