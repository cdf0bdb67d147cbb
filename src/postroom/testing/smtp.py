"""A loopback SMTP server that records what arrives, and answers, stalls or breaks where a script says so."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from postroom.testing.listening import stop_listening
from postroom.testing.smtp_connection import Connection
from postroom.testing.smtp_script import EXTENSIONS, RecordedMessage, Script, Stage

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["EXTENSIONS", "RecordedMessage", "SmtpRecorder", "Stage"]


class SmtpRecorder(Script):
    """An SMTP server on 127.0.0.1: `async with SmtpRecorder() as server`, then `server.port`.

    `tls` offers STARTTLS, or speaks TLS from the first byte with `implicit=True`. `auth` (user -> password or
    token) offers AUTH with `mechanisms` and refuses mail without it. `extensions` are the lines of the EHLO
    answer. A script is made of `reply`, `drop` and `delay`; what was scripted first counts first.

    `messages` and `commands` (decoded lines, content left out) are what arrived, `connections` how many were
    accepted and `reads` how many pieces the network delivered, which shows whether a client pipelines.
    """

    _server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        context = self.tls if self.implicit else None
        self._server = await loop.create_server(lambda: Connection(self), "127.0.0.1", 0, ssl=context, backlog=1000)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        await stop_listening(self._server)
        closing = [connection.closed for connection in self.opened]
        for connection in list(self.opened):
            connection.abort()
        if closing:
            await asyncio.wait(closing, timeout=5)
        await self._server.wait_closed()

    async def until(self, stage: str, count: int = 1) -> None:
        """Wait until `count` commands of `stage` (a verb such as `mail`), or messages (`dot`), have come."""
        while self._seen(stage) < count:
            self.changed.clear()
            await self.changed.wait()

    def hang_up(self, farewell: bytes = b"") -> None:
        """Close every open connection, after `farewell`."""
        for connection in list(self.opened):
            connection.hang_up(farewell)

    def _seen(self, stage: str) -> int:
        if stage == "dot":
            return len(self.messages)
        if stage == "connect":
            return self.connections
        return sum(command.lower().startswith(stage) for command in self.commands)
