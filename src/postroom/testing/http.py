"""A loopback HTTP server that records what arrived and answers, stalls or breaks off by script.

It speaks just enough HTTP/1.1 to be exact about bytes and drop points: keep-alive, Content-Length and chunked
requests. It is for tests and for `postroom demo`, never for a network.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections import deque
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal, Self
from urllib.parse import parse_qsl, urlsplit

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping
    from types import TracebackType

Body = bytes | str | dict[str, Any] | list[Any]


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """One request whose whole body arrived; header names are lower-case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def form(self) -> list[tuple[str, str]]:
        """The url-encoded fields, in order, empty ones included."""
        return parse_qsl(self.body.decode(), keep_blank_values=True)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer; a dict or list body goes out as JSON. `delay` is in seconds."""

    status: int = 200
    body: Body = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0

    def encoded(self) -> bytes:
        """The whole answer as bytes."""
        body, kind = _encoded_body(self.body)
        headers = {"Content-Type": kind, "Content-Length": str(len(body)), **self.headers}
        reason = HTTPStatus(self.status).phrase if self.status in HTTPStatus._value2member_map_ else "Unknown"
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"HTTP/1.1 {self.status} {reason}\r\n{head}\r\n".encode("latin-1") + body


@dataclass(frozen=True, slots=True)
class Drop:
    """Close the connection: when it is accepted, after the request's headers, after its body, or in mid-answer.

    `reset` closes with RST instead of FIN.
    """

    at: Literal["accept", "headers", "request", "answer"]
    reset: bool = False


@dataclass(frozen=True, slots=True)
class Hang:
    """Never answer, from the accepted connection or from the whole request on."""

    at: Literal["accept", "request"]


Step = Answer | Drop | Hang


class HttpRecorder:
    """`async with HttpRecorder() as server:` serves on 127.0.0.1 until the block ends.

    `requests` holds what arrived, `begun` counts request heads, `connections` accepted connections. Without a
    script every request gets an empty 200.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[RecordedRequest] = []
        self.connections = 0
        self.begun = 0
        self._tls = tls
        self._script: deque[Step] = deque()
        self._last: Step = Answer()
        self._respond: Callable[[RecordedRequest], Step] | None = None
        self._arrived = asyncio.Condition()
        self._open: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0, ssl=self._tls, limit=2**20)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server
        self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def answer(self, *steps: Step) -> None:
        """Script what follows, one step a request, the last one repeated."""
        self._respond = None
        self._script.extend(steps)

    def answer_with(self, respond: Callable[[RecordedRequest], Step]) -> None:
        """Let `respond` choose the step for each request from now on."""
        self._respond = respond

    async def received(self, count: int = 1) -> None:
        """Wait until `count` requests were recorded."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self.requests) >= count)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task
        self._open.add(task)
        try:
            await self._converse(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the other side left, or the server is closing
        finally:
            self._open.discard(task)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        coming = self._peek()
        if isinstance(coming, (Drop, Hang)) and coming.at == "accept":
            self._take()
            await _leave(writer, coming)
            return
        while head := await _read_head(reader):
            self.begun += 1
            coming = self._peek()
            if isinstance(coming, Drop) and coming.at == "headers":
                self._take()
                await _leave(writer, coming)
                return
            request = await _read_request(reader, head)
            step = await self._record(request)
            if not await _play(writer, step):
                return

    async def _record(self, request: RecordedRequest) -> Step:
        step = self._respond(request) if self._respond else self._take()
        async with self._arrived:
            self.requests.append(request)
            self._arrived.notify_all()
        return step

    def _peek(self) -> Step | None:
        if self._respond:
            return None
        return self._script[0] if self._script else self._last

    def _take(self) -> Step:
        if self._script:
            self._last = self._script.popleft()
        return self._last


async def _play(writer: asyncio.StreamWriter, step: Step) -> bool:
    """Carry out a step; return whether the connection goes on."""
    if not isinstance(step, Answer):
        if isinstance(step, Drop) and step.at == "answer":
            writer.write(Answer(200, {"cut": "x" * 50}).encoded()[:-20])
            await writer.drain()
        await _leave(writer, step)
        return False
    if step.delay:
        await asyncio.sleep(step.delay)
    writer.write(step.encoded())
    await writer.drain()
    return True


async def _leave(writer: asyncio.StreamWriter, step: Drop | Hang) -> None:
    if isinstance(step, Hang):
        await asyncio.Event().wait()
        return
    if step.reset:
        sock: socket.socket = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()


async def _read_head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""


async def _read_request(reader: asyncio.StreamReader, head: bytes) -> RecordedRequest:
    lines = head.decode("latin-1").split("\r\n")
    method, target, _ = lines[0].split(" ")
    pairs = (line.partition(":") for line in lines[1:] if line)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    if "chunked" in headers.get("transfer-encoding", ""):
        body = await _read_chunks(reader)
    else:
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    parts = urlsplit(target)
    return RecordedRequest(method, parts.path, parts.query, headers, body)


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while size := int((await reader.readline()).split(b";")[0], 16):
        body += await reader.readexactly(size)
        await reader.readline()
    await reader.readline()
    return bytes(body)


def _encoded_body(body: Body) -> tuple[bytes, str]:
    if isinstance(body, (dict, list)):
        return json.dumps(body).encode(), "application/json"
    if isinstance(body, str):
        return body.encode(), "text/html; charset=utf-8"
    return body, "application/octet-stream"
