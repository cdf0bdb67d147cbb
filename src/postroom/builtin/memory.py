"""Provider `memory`: keeps messages in a list (`Postroom.memory`), for tests of programs that send."""

from __future__ import annotations

from typing import TYPE_CHECKING

from postroom.messages import Message
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
    from postroom.messages import Email, Sms

postroom_interface = 1


class Mailbox(list[Message]):
    """The messages that the accounts of one `Postroom` took, oldest first."""


class MemorySettings(AccountSettings):
    """A memory account has the settings every account has, and none of its own."""

    provider: str = "memory"


class MemoryEmail(EmailTransport[MemorySettings]):
    """Takes every e-mail."""

    settings_model = MemorySettings
    capabilities = Capabilities(features=EMAIL_FEATURES, partial_envelope=True)
    keeps_timeout = True

    async def send(self, email: Email, /) -> Accepted:
        self.resources.shared(Mailbox).append(email)
        return Accepted(provider_message_id=email.id)


class MemorySms(SmsTransport[MemorySettings]):
    """Takes every SMS."""

    settings_model = MemorySettings
    capabilities = Capabilities(features=SMS_FEATURES)
    keeps_timeout = True

    async def send(self, sms: Sms, /) -> Accepted:
        self.resources.shared(Mailbox).append(sms)
        return Accepted(provider_message_id=sms.id)


@hookimpl
def postroom_email_transport() -> type[MemoryEmail]:
    """Return the e-mail half."""
    return MemoryEmail


@hookimpl
def postroom_sms_transport() -> type[MemorySms]:
    """Return the SMS half."""
    return MemorySms
