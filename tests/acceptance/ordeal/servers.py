"""Two servers that outlive the workers and write down what reached them: an SMTP server and Twilio's Messages."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self, TypeAlias, cast
from urllib.parse import parse_qs

_MESSAGE_ID = re.compile(rb"^Message-ID:\s*(<[^>]+>)", re.IGNORECASE | re.MULTILINE)
_SUBJECT = re.compile(rb"^Subject: ?(.*?)\r?$", re.IGNORECASE | re.MULTILINE)


Reply: TypeAlias = tuple[int, dict[str, str], dict[str, Any]]
"""A status, headers and an answer, which goes out as JSON."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One message as a server took it: `at` by the monotonic clock, `name` the Message-ID or the recipient."""

    at: float
    name: str
    text: str


@dataclass
class Server:
    """Something that listens on a port of 127.0.0.1 which stays its own while it is down."""

    conversation: ClassVar[type[_Conversation]]

    arrivals: list[Arrival] = field(default_factory=list)
    port: int = 0
    delay: float = 0.0

    def __post_init__(self) -> None:
        self._listening: asyncio.Server | None = None
        self._open: set[asyncio.Transport] = set()

    @property
    def counts(self) -> Counter[str]:
        return Counter(arrival.name for arrival in self.arrivals)

    @property
    def repeated(self) -> dict[str, int]:
        return {name: count for name, count in self.counts.items() if count > 1}

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._listening = await loop.create_server(
            lambda: self.conversation(self), "127.0.0.1", self.port, backlog=1024
        )
        self.port = self._listening.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._listening
        self._listening.close()
        for transport in list(self._open):
            transport.abort()
        while self._open:
            await asyncio.sleep(0.001)
        await self._listening.wait_closed()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.stop()


class _Conversation(asyncio.Protocol):
    def __init__(self, server: Server) -> None:
        self.server = server
        self.buffer = bytearray()
        self.unsent: deque[tuple[float, bytes]] = deque()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.server._open.add(self.transport)

    def connection_lost(self, error: Exception | None) -> None:
        self.server._open.discard(self.transport)

    def answer(self, data: bytes, delay: float = 0.0) -> None:
        """Write an answer, later if there is a delay, and never before the answers to what came first."""
        loop = asyncio.get_running_loop()
        due = max(loop.time() + delay, self.unsent[-1][0] if self.unsent else 0.0)
        if delay or self.unsent:
            self.unsent.append((due, data))
            loop.call_at(due, lambda: self._write(self.unsent.popleft()[1]))
        else:
            self._write(data)

    def _write(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(data)


class _Smtp(_Conversation):
    in_content = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.answer(b"220 ordeal ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while self._content() if self.in_content else self._command():
            pass

    def _command(self) -> bool:
        line, found, rest = self.buffer.partition(b"\r\n")
        if not found:
            return False
        self.buffer = rest
        verb = bytes(line[:4]).upper()
        answer = self.reply(verb, bytes(line))
        self.in_content = answer.startswith(b"354")
        self.answer(answer)
        if verb == b"QUIT":
            self.transport.close()
        return True

    def reply(self, verb: bytes, line: bytes) -> bytes:
        """The answer to a command."""
        del line
        return _SMTP_ANSWERS.get(verb, b"250 Ok\r\n")

    def take(self, arrival: Arrival) -> None:
        """Keep a message, and say so."""
        self.server.arrivals.append(arrival)
        self.answer(b"250 2.0.0 Ok\r\n", self.server.delay)

    def _content(self) -> bool:
        content, found, rest = self.buffer.partition(b"\r\n.\r\n")
        if not found:
            return False
        self.buffer, self.in_content = rest, False
        subject = _SUBJECT.search(content)
        message_id = _MESSAGE_ID.search(content)
        assert message_id
        name = message_id[1].decode()
        self.take(Arrival(time.monotonic(), name, subject[1].decode() if subject else ""))
        return True


_SMTP_ANSWERS = {
    b"EHLO": b"250-ordeal\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 10000000\r\n",
    b"DATA": b"354 Go on\r\n",
    b"QUIT": b"221 Bye\r\n",
}


class MailServer(Server):
    """Takes every e-mail; `arrivals` are named by Message-ID. With `delay` it answers the final dot later."""

    conversation = _Smtp


class _Http(_Conversation):
    server: PhoneServer

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].decode("latin-1")
            length = re.search(r"^content-length: *(\d+)", head, re.IGNORECASE | re.MULTILINE)
            size = int(length[1]) if length else 0
            if len(self.buffer) < end + 4 + size:
                return
            body = bytes(self.buffer[end + 4 : end + 4 + size])
            del self.buffer[: end + 4 + size]
            if (reply := self.server.reply(head, body)) is None:
                self.transport.abort()
                return
            status, headers, answer = reply
            text = json.dumps(answer).encode()
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            self.answer(
                f"HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {len(text)}\r\n{lines}\r\n"
                .encode() + text,
                self.server.delay,
            )  # fmt: skip


class PhoneServer(Server):
    """Twilio's `Messages.json`: `arrivals` are named by recipient.

    `script` answers the next requests otherwise, `always` all of them; `refusals` are the times of those. Lists are
    answered 404, as for an account that may not read them.
    """

    conversation = _Http

    def __post_init__(self) -> None:
        super().__post_init__()
        self.script: deque[Reply] = deque()
        self.always: Reply | None = None
        self.refusals: list[float] = []

    def reply(self, head: str, body: bytes) -> Reply | None:
        """The answer to a request; None drops the connection instead."""
        now = time.monotonic()
        if head.startswith("GET"):
            return 404, {}, {"code": 20404, "message": "not found", "status": 404}
        if answer := self.script.popleft() if self.script else self.always:
            self.refusals.append(now)
            return answer
        fields = parse_qs(body.decode())
        self.arrivals.append(Arrival(now, fields["To"][0], fields["Body"][0]))
        return 201, {}, {"sid": f"SM{len(self.arrivals):032x}", "status": "queued", "num_segments": "1"}


def unauthorised() -> Reply:
    """What Twilio says to credentials that were revoked."""
    return 401, {}, {"code": 20003, "message": "Authenticate", "status": 401}


def overloaded(seconds: int) -> Reply:
    """What Twilio says when it is asked too often."""
    return 429, {"Retry-After": str(seconds)}, {"code": 20429, "message": "Too Many Requests", "status": 429}
