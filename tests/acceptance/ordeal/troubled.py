"""Providers in trouble: they drop the line, refuse, dawdle or are down, and count every copy that they took.

A recipient that begins with `nobody` or +1212999 is refused for good, whatever else is the matter.
"""

from __future__ import annotations

import time
from enum import StrEnum
from typing import ClassVar
from urllib.parse import parse_qs

from ordeal.servers import Arrival, MailServer, PhoneServer, Reply, Server, _Smtp, overloaded

NOBODY, NO_NUMBER = "nobody", "+1212999"


class Condition(StrEnum):
    """What ails a provider: `DROPS` takes a message and closes before it says so, `BREAKS` closes before it has it."""

    WELL = "well"
    DROPS = "drops"
    BREAKS = "breaks"
    REFUSES = "refuses"
    DOWN = "down"


class Troubled(Server):
    """A provider with a condition. `begun` are the texts of which some reached it that it then did not have."""

    condition = Condition.WELL

    def __post_init__(self) -> None:
        super().__post_init__()
        self.begun: set[str] = set()

    async def become(self, condition: Condition) -> None:
        """Change the condition; going down closes every connection."""
        before, self.condition = self.condition, condition
        if condition is Condition.DOWN and before is not Condition.DOWN:
            await self.stop()
        elif before is Condition.DOWN and condition is not Condition.DOWN:
            await self.start()

    async def __aexit__(self, *failure: object) -> None:
        await self.become(Condition.DOWN)


class _TroubledSmtp(_Smtp):
    server: TroubledMail
    refused = False

    def reply(self, verb: bytes, line: bytes) -> bytes:
        if verb == b"MAIL":
            self.refused = self.server.condition is Condition.REFUSES
            return b"451 4.3.2 Later\r\n" if self.refused else b"250 Ok\r\n"
        if verb == b"RCPT" and NOBODY.encode() in line:
            self.refused = True
            return b"550 5.1.1 No such user\r\n"
        if verb in {b"RCPT", b"DATA"} and self.refused:
            return b"503 5.5.1 Need MAIL and RCPT first\r\n"
        return super().reply(verb, line)

    def take(self, arrival: Arrival) -> None:
        if self.server.condition is Condition.BREAKS:
            self.server.begun.add(arrival.text)
            self.transport.abort()
        elif self.server.condition is Condition.DROPS:
            self.server.arrivals.append(arrival)
            self.transport.abort()
        else:
            super().take(arrival)


class TroubledMail(Troubled, MailServer):
    """An SMTP server."""

    conversation: ClassVar[type[_Smtp]] = _TroubledSmtp


class TroubledPhones(Troubled, PhoneServer):
    """Twilio's `Messages.json`."""

    def reply(self, head: str, body: bytes) -> Reply | None:
        if head.startswith("GET"):
            return super().reply(head, body)
        fields = parse_qs(body.decode())
        if self.condition is Condition.BREAKS:
            self.begun.add(fields["Body"][0])
            return None
        if self.condition is Condition.REFUSES:
            return overloaded(1)
        if fields["To"][0].startswith(NO_NUMBER):
            return 400, {}, {"code": 21211, "message": "Invalid 'To' Phone Number", "status": 400}
        if self.condition is Condition.DROPS:
            self.arrivals.append(Arrival(time.monotonic(), fields["To"][0], fields["Body"][0]))
            return None
        return super().reply(head, body)
