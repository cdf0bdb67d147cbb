"""Providers for workers under trial: `sink` takes everything at once, `deadly` ends its process over a poison message."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from postroom.messages import Email
from postroom.plugin import EMAIL_FEATURES, AccountSettings, Capabilities, EmailTransport, hookimpl
from postroom.receipts import Accepted

POISON = "poison"


class SinkSettings(AccountSettings):
    provider: str = "sink"
    delay: float = 0.0


class Sink(EmailTransport[SinkSettings]):
    settings_model = SinkSettings
    capabilities = Capabilities(features=EMAIL_FEATURES, partial_envelope=True)

    async def send(self, email: Email, /) -> Accepted:
        if self.settings.delay:
            await asyncio.sleep(self.settings.delay)
        return Accepted(provider_message_id=email.id)


class DeadlySettings(SinkSettings):
    provider: str = "deadly"
    log: str


class Deadly(EmailTransport[DeadlySettings]):
    """Writes the subject of each message to a file; dies of one that says `poison`."""

    settings_model = DeadlySettings
    capabilities = Capabilities(features=EMAIL_FEATURES, partial_envelope=True)

    async def send(self, email: Email, /) -> Accepted:
        with open(self.settings.log, "a", encoding="utf-8") as log:
            log.write(f"{email.subject}\n")
        if email.subject.startswith(POISON):
            os._exit(9)
        return Accepted(provider_message_id=email.id)


class _Provider:
    postroom_interface = 1

    def __init__(self, transport: type[Any]) -> None:
        self._transport = transport

    @hookimpl
    def postroom_email_transport(self) -> type[Any]:
        return self._transport


sink = _Provider(Sink)
deadly = _Provider(Deadly)
