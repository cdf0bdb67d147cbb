"""HTTP protocol of one connection: cut when its client is slow on purpose, or sends a head without end.

uvicorn times idle connections only; a client that sends a byte a minute, or never reads its answer, would keep a
connection for as long as it likes ("slowloris"). The time of a body is watched by `http.body`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    import asyncio

HEAD_SECONDS = 10.0
"""For a request's line and headers to arrive, and for the body of a refused request to end."""

ANSWER_SECONDS = 30.0
"""For a client to take a part of its answer that fills the buffers."""

LARGEST_HEAD = 65_536
"""Bytes of a request's line and headers: eight times what proxies take by default (nginx: 8 KiB)."""

MOST_HEADERS = 200
"""Headers of a request; browsers and the proxies before us send 40."""


class _HeadTooLarge(Exception):
    """Ends the parser where it is."""


class Connection(HttpToolsProtocol):
    """uvicorn's own protocol with the times and the size it does not watch."""

    _waiting: asyncio.TimerHandle | None = None
    _writing: asyncio.TimerHandle | None = None
    _head = 0
    """Bytes of packets that came since the last whole head, so that a head without end is cut."""

    _counted = 0
    """Bytes of the head as it is parsed, so that one that came in a single packet is bounded too."""

    _in_body = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            return
        self._wait()
        self._head += 0 if self._in_body else len(data)
        if self._head > LARGEST_HEAD and not self.transport.is_closing():
            self._refuse_head()

    def on_message_begin(self) -> None:
        self._counted = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + len(b": \r\n"))
        if len(self.headers) >= MOST_HEADERS:
            self._counted = LARGEST_HEAD + 1
            raise _HeadTooLarge
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_body = True
        self._head = 0
        self._stop_waiting()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_body = False
        super().on_message_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._writing = self._writing or self.loop.call_later(ANSWER_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, or too much of it, as every other mistake is answered."""
        if self._counted > LARGEST_HEAD:
            self._refuse_head()
            return
        self._refuse(b"400 Bad Request", "invalid_request", msg.rstrip("."))

    def _count(self, more: int) -> None:
        self._counted += more
        if self._counted > LARGEST_HEAD:
            raise _HeadTooLarge

    def _wait(self) -> None:
        self._waiting = self._waiting or self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _refuse_head(self) -> None:
        what = f"more than {LARGEST_HEAD:,} bytes or {MOST_HEADERS} headers"
        self._refuse(b"431 Request Header Fields Too Large", "too_large", what)

    def _refuse(self, status: bytes, code: str, what: str) -> None:
        text = f"The head of the request cannot be read: {what}."
        body = json.dumps({"error": code, "message": text, "details": []}).encode()
        head = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
        self.transport.write(b"HTTP/1.1 " + status + b"\r\n" + head + body)
        self.transport.close()
