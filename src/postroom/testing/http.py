"""A loopback HTTP server that records what arrived and answers, stalls or breaks off by script.

It speaks just enough HTTP/1.1 to be exact about bytes and drop points: kept connections, Content-Length and
chunked requests. It is for tests and for `postroom demo`, never for a network.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal, Self
from urllib.parse import parse_qsl, urlsplit

from postroom.testing.listening import stop_listening

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping

Body = bytes | str | dict[str, Any] | list[Any]

_LARGEST_HEAD = 65_536
_RESET = struct.pack("ii", 1, 0)
_HALF_AN_ANSWER = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 64\r\n\r\n{"half": '


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """A request as it arrived: `target` is what the request line named, header names are lower-case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> str:
        return urlsplit(self.target).query

    def json(self) -> Any:
        """The body read as JSON."""
        return json.loads(self.body)

    def form(self) -> list[tuple[str, str]]:
        """The fields of a URL-encoded body, in order."""
        return parse_qsl(self.body.decode(), keep_blank_values=True, strict_parsing=True)


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer: a dict or list goes out as JSON, text as HTML.

    `headers` replace the usual ones; `delay` is in seconds.
    """

    status: int = 200
    body: Body = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class Drop:
    """Close the connection at a point.

    `accept`: when it is made (with TLS: after the handshake); `headers`: after a request's head, its body not
    read; `request`: after a whole request was read; `answer`: in the middle of the answer, which is `of` or a
    JSON object. `reset` closes with a TCP reset instead of an orderly end.
    """

    at: Literal["accept", "headers", "request", "answer"]
    reset: bool = False
    of: Answer | None = None


@dataclass(frozen=True, slots=True)
class Hang:
    """Read on and never answer, from a point on: until the client or the server closes."""

    at: Literal["accept", "request"]


Step = Answer | Drop | Hang


class HttpRecorder:
    """HTTP/1.1 on a free port of 127.0.0.1, with kept connections; use it with `async with`.

    `requests` holds every request whose body arrived whole; `begun` counts request heads and `connections` the
    connections made. Without a script every request is answered 200 with an empty body.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[RecordedRequest] = []
        self.begun = 0
        self.connections = 0
        self.port = 0
        self._tls = tls
        self._script: deque[Step] = deque()
        self._last: Step = Answer()
        self._compute: Callable[[RecordedRequest], Step] | None = None
        self._changed = asyncio.Condition()
        self._conversations: set[asyncio.Task[None] | None] = set()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def answer(self, *steps: Step) -> None:
        """Add `steps` to the script: one for each request, in order, the last one repeated.

        A kept connection ends before a step at `accept`, so that the client must come again.
        """
        self._compute = None
        self._script.extend(steps)

    def answer_with(self, compute: Callable[[RecordedRequest], Step]) -> None:
        """Answer every request from now on with what `compute` makes of it."""
        self._script.clear()
        self._last, self._compute = Answer(), compute

    async def received(self, count: int = 1) -> None:
        """Wait until `count` requests in all were recorded."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.requests) >= count)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", 0, ssl=self._tls, limit=_LARGEST_HEAD, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *failure: object) -> None:
        await stop_listening(self._server)
        conversations = [task for task in self._conversations if task]
        for task in conversations:
            task.cancel()
        await asyncio.gather(*conversations, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._conversations.add(task)
        self.connections += 1
        with suppress(OSError, EOFError, asyncio.CancelledError):  # the client left, or the recorder closes
            await self._converse(reader, writer)
        writer.transport.abort()
        with suppress(OSError, asyncio.CancelledError):
            await writer.wait_closed()
        self._conversations.discard(task)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if _point(self._coming) == "accept":
            return await _leave(self._take(), reader, writer)
        while True:
            request = await _read_head(reader)
            self.begun += 1
            step = self._take()
            if _point(step) == "headers":
                return await _leave(step, reader, writer)
            request = await self._record(request, await _read_body(request.headers, reader, writer))
            if self._compute:
                step = self._compute(request)
            if not isinstance(step, Answer):
                return await _leave(step, reader, writer)
            last = request.headers.get("connection", "").lower() == "close" or _point(self._coming) == "accept"
            await _answer(step, writer, last=last)
            if last:
                return await _close(writer)

    @property
    def _coming(self) -> Step:
        return self._script[0] if self._script else self._last

    def _take(self) -> Step:
        if self._script:
            self._last = self._script.popleft()
        return self._last

    async def _record(self, head: RecordedRequest, body: bytes) -> RecordedRequest:
        request = RecordedRequest(head.method, head.target, head.headers, body)
        async with self._changed:
            self.requests.append(request)
            self._changed.notify_all()
        return request


def _point(step: Step) -> str:
    return "" if isinstance(step, Answer) else step.at


async def _read_head(reader: asyncio.StreamReader) -> RecordedRequest:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, target, _ = lines[0].split(" ", 2)
    headers: dict[str, str] = {}
    for line in filter(None, lines[1:]):
        name, _, value = line.partition(":")
        known = headers.get(name.lower())
        headers[name.lower()] = f"{known}, {value.strip()}" if known else value.strip()
    return RecordedRequest(method, target, headers)


async def _read_body(headers: Mapping[str, str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    if headers.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    if "chunked" not in headers.get("transfer-encoding", "").lower():
        return await reader.readexactly(int(headers.get("content-length", 0)))
    body = bytearray()
    while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
        body += (await reader.readexactly(size + 2))[:-2]
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass
    return bytes(body)


async def _answer(answer: Answer, writer: asyncio.StreamWriter, *, last: bool) -> None:
    if answer.delay:
        await asyncio.sleep(answer.delay)
    writer.write(_written(answer, last=last))
    await writer.drain()


def _written(answer: Answer, *, last: bool) -> bytes:
    body, content_type = _encoded(answer.body)
    usual = {"content-type": content_type, "content-length": str(len(body))}
    headers = {**usual, **{name.lower(): value for name, value in answer.headers.items()}}
    if last:
        headers["connection"] = "close"
    head = "".join(f"{name.title()}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {answer.status} {_phrase(answer.status)}\r\n{head}\r\n".encode("latin-1") + body


def _encoded(body: Body) -> tuple[bytes, str]:
    if isinstance(body, bytes):
        return body, "application/octet-stream"
    if isinstance(body, str):
        return body.encode(), "text/html; charset=utf-8"
    return json.dumps(body).encode(), "application/json"


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


async def _leave(step: Step, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    if isinstance(step, Hang):
        await reader.read()
        return
    if isinstance(step, Drop) and step.at == "answer":
        writer.write(_cut(step.of) if step.of else _HALF_AN_ANSWER)
        await writer.drain()
    if isinstance(step, Drop) and step.reset:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        writer.transport.abort()
        return
    await _close(writer)


def _cut(answer: Answer) -> bytes:
    """Half of the body, or half of the head of an answer that has none."""
    whole = _written(answer, last=True)
    head, _, body = whole.partition(b"\r\n\r\n")
    return whole[: len(whole) - (len(body) + 1) // 2] if body else head[: len(head) // 2]


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    await writer.wait_closed()
