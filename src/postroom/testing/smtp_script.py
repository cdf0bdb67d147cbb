"""The script of the loopback SMTP server, and the record of what it has seen."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Mapping

Stage = Literal[
    "connect", "ehlo", "starttls", "auth", "mail", "rcpt", "data", "half-body", "dot", "rset", "noop", "quit"
]
"""Where a script can step in. `half-body` is the first piece of content, `dot` the end of it."""

EXTENSIONS = ("PIPELINING", "SIZE 50000000", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES")

MECHANISMS = ("PLAIN", "LOGIN", "XOAUTH2")


@dataclass(frozen=True, slots=True)
class RecordedMessage:
    """A message whose end arrived and was not refused.

    `data` is the content without dot-stuffing; the options are what followed the addresses in MAIL and RCPT.
    `connection` counts from 1.
    """

    sender: str
    recipients: tuple[str, ...]
    data: bytes
    tls: bool
    user: str | None
    connection: int
    mail_options: str = ""
    rcpt_options: tuple[str, ...] = ()


@dataclass(slots=True)
class Step:
    """What to do at a stage: answer with `reply`, wait `delay` seconds first, or `drop` the connection."""

    reply: bytes | None = None
    delay: float = 0.0
    drop: bool = False
    reset: bool = False
    match: bytes = b""
    times: int | None = None
    skip: int = 0


class Hanging(Protocol):
    """A connection that the server can end."""

    closed: asyncio.Future[None]

    def abort(self) -> None: ...
    def hang_up(self, farewell: bytes) -> None: ...


class Script:
    """Options, the steps for each stage, and the record; one for all connections of a server."""

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        implicit: bool = False,
        auth: Mapping[str, str] | None = None,
        mechanisms: Iterable[str] = MECHANISMS,
        extensions: Iterable[str] = EXTENSIONS,
    ) -> None:
        self.tls = tls
        self.implicit = implicit
        self.auth = dict(auth or {})
        self.mechanisms = tuple(mechanisms)
        self.extensions = tuple(extensions)
        self.messages: list[RecordedMessage] = []
        self.commands: list[str] = []
        self.connections = 0
        self.reads = 0
        self.port = 0
        self.steps: dict[str, list[Step]] = {}
        self.opened: set[Hanging] = set()
        self.changed = asyncio.Event()

    def reply(self, stage: str, text: str | bytes, *, match: str = "", times: int | None = None, skip: int = 0) -> None:
        """Answer `text` at `stage` to commands that contain `match`: `times` times, after the first `skip`.

        Text gets its CRLF; bytes are sent as they are.
        """
        raw = text if isinstance(text, bytes) else text.encode() + b"\r\n"
        self._add(stage, Step(reply=raw, match=match.encode(), times=times, skip=skip))

    def drop(
        self,
        stage: str,
        *,
        reset: bool = False,
        farewell: bytes | None = None,
        match: str = "",
        times: int | None = None,
        skip: int = 0,
    ) -> None:
        """Close the connection at `stage` instead of answering, after `farewell`; with `reset`, by RST."""
        step = Step(reply=farewell, drop=True, reset=reset, match=match.encode(), times=times, skip=skip)
        self._add(stage, step)

    def delay(self, stage: str, seconds: float, *, match: str = "", times: int | None = None, skip: int = 0) -> None:
        """Wait before answering at `stage`."""
        self._add(stage, Step(delay=seconds, match=match.encode(), times=times, skip=skip))

    def take_step(self, stage: str, line: bytes) -> Step | None:
        """Take the step that is due at `stage` for `line`."""
        for step in self.steps.get(stage, ()):
            if step.match not in line or step.times == 0:
                continue
            if step.skip:
                step.skip -= 1
                return None
            if step.times is not None:
                step.times -= 1
            return step
        return None

    def _add(self, stage: str, step: Step) -> None:
        self.steps.setdefault(stage.lower(), []).append(step)
