"""SMTP in `postroom demo`: a mail server on loopback."""

from __future__ import annotations

from email import message_from_bytes
from typing import TYPE_CHECKING, Any

from postroom.plugin.demonstration import Arrival, Demonstration
from postroom.receipts import Channel
from postroom.testing.smtp import SmtpRecorder

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager


class SmtpDemonstration(Demonstration):
    """A server that takes every message."""

    title = "SMTP"
    channel = Channel.EMAIL

    def __init__(self) -> None:
        self.recorder = SmtpRecorder()

    def server(self) -> AbstractAsyncContextManager[object]:
        return self.recorder

    def account(self) -> dict[str, Any]:
        return {"host": "127.0.0.1", "port": self.recorder.port, "tls": "none"}

    def arrivals(self) -> list[Arrival]:
        found = []
        for message in self.recorder.messages:
            read = message_from_bytes(message.data)
            content = f"{read['Subject']}: {str(read.get_payload()).strip()}"
            besides = f"reply to {read['Reply-To']}"
            found.append(Arrival(read["From"], message.recipients[0], content, besides, "DATA"))
        return found
