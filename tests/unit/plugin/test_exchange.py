"""One exchange is one exchange: whatever the method, what was read once is not sent again, and its outcome is unknown."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiohttp.abc import AbstractStreamWriter

from postroom.errors import DeliveryError, OutcomeUnknown, ProviderUnreachable
from postroom.messages import Sms
from postroom.plugin import HttpAccountSettings, Resources
from postroom.plugin.cancellation import was_handed_over
from postroom.plugin.exchange import Exchange
from postroom.plugin.http import HttpSmsTransport
from postroom.receipts import Accepted

METHODS = ["POST", "PUT", "PATCH", "DELETE", "GET", "HEAD", "OPTIONS"]
BODIES = [b"", b"to=%2B442079460958"]

PARTS = {
    "status line": b"HTTP/1.",
    "header": b"HTTP/1.1 200 OK\r\nX-A: ",
    "gibberish": b"220 mail.example.org ESMTP\r\n\r\n",
}
PARTS |= {"body": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"}
"""Answers that end before they are whole."""

YES = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Plain(HttpSmsTransport[HttpAccountSettings]):
    """Sends nothing by itself: the tests call `request`."""

    settings_model = HttpAccountSettings

    async def send(self, sms: Sms, /) -> Accepted:
        raise NotImplementedError


@dataclass
class Wire:
    """A server of raw bytes: `answers` says what each request gets, and None closes the connection instead."""

    answers: list[bytes | None] = field(default_factory=list)
    heads: list[bytes] = field(default_factory=list)
    connections: int = 0
    silent: bool = False
    read: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(_length(head))
                self.heads.append(head)
                self.read.set()
                if self.silent:
                    await reader.read()
                    break
                answer = self.answers.pop(0) if self.answers else None
                if answer is None:
                    break
                writer.write(answer)
                if answer in PARTS.values():
                    break
        except asyncio.IncompleteReadError:
            pass
        writer.close()


def _length(head: bytes) -> int:
    found = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return int(found[0].partition(b":")[2]) if found else 0


@asynccontextmanager
async def listening(wire: Wire) -> AsyncIterator[Wire]:
    server = await asyncio.start_server(wire.serve, "127.0.0.1", 0)
    wire.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield wire
    finally:
        server.close()


@asynccontextmanager
async def account(base_url: str) -> AsyncIterator[Plain]:
    resources = Resources()
    try:
        yield Plain("texts", HttpAccountSettings(provider="plain", base_url=base_url), resources)
    finally:
        await resources.close()


@pytest.mark.parametrize("body", BODIES, ids=["bare", "body"])
@pytest.mark.parametrize("method", METHODS)
async def test_a_kept_connection_that_closes_after_reading_gets_the_request_once(method: str, body: bytes) -> None:
    async with listening(Wire([YES])) as wire, account(wire.url) as plain:
        await plain.request("GET", f"{wire.url}/warm", headers={})
        with pytest.raises(OutcomeUnknown) as caught:
            await plain.request(method, f"{wire.url}/send", headers={}, body=body)
    assert len([head for head in wire.heads if b"/send" in head]) == 1
    assert wire.connections == 1
    assert "may have been sent" in str(caught.value)


@pytest.mark.parametrize("body", BODIES, ids=["bare", "body"])
@pytest.mark.parametrize("method", METHODS)
async def test_a_refused_connection_is_no_exchange(method: str, body: bytes) -> None:
    async with listening(Wire()) as wire:
        pass
    async with account(wire.url) as plain:
        with pytest.raises(ProviderUnreachable, match="nothing was sent"):
            await plain.request(method, wire.url, headers={}, body=body)


@pytest.mark.parametrize("body", BODIES, ids=["bare", "body"])
@pytest.mark.parametrize("method", METHODS)
async def test_a_cancelled_request_says_that_it_was_read(method: str, body: bytes) -> None:
    async with listening(Wire(silent=True)) as wire, account(wire.url) as plain:
        sending = asyncio.create_task(plain.request(method, wire.url, headers={}, body=body))
        await wire.read.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await sending
        assert was_handed_over(caught.value) is True


async def test_the_next_request_takes_a_fresh_connection() -> None:
    async with listening(Wire([YES, None, YES])) as wire, account(wire.url) as plain:
        await plain.request("GET", wire.url, headers={})
        with pytest.raises(DeliveryError):
            await plain.request("PUT", wire.url, headers={}, body=b"text")
        reply = await plain.request("PUT", wire.url, headers={}, body=b"text")
    assert (reply.status, wire.connections) == (200, 2)


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS.keys())
async def test_an_answer_that_is_cut_is_told_in_words(part: bytes) -> None:
    async with listening(Wire([part])) as wire, account(wire.url) as plain:
        with pytest.raises(OutcomeUnknown) as caught:
            await plain.request("POST", f"{wire.url}/s3cret-path", headers={}, body=b"text")
    assert not re.search(r"[<>{}]|Raw|CIMulti|message=|s3cret", str(caught.value)), str(caught.value)


async def test_the_proxy_is_that_of_the_address_that_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of results, an upload or a token may be elsewhere than `base_url`."""
    for name in ("NO_PROXY", "no_proxy", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    async with listening(Wire([YES])) as direct, listening(Wire([YES, YES])) as proxy, account(direct.url) as plain:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        await plain.request("POST", f"{direct.url}/near", headers={}, body=b"text")
        await plain.request("POST", "http://api.example.org/far", headers={}, body=b"text")
        await plain.request("POST", "http://api.example.org/far", headers={}, body=b"text")
    assert [head.split()[1] for head in direct.heads] == [b"/near"]
    assert [head.split()[1] for head in proxy.heads] == [b"http://api.example.org/far"] * 2


class Written(AbstractStreamWriter):
    """What aiohttp writes a body to."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    async def write(self, chunk: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(chunk))

    async def write_eof(self, chunk: bytes = b"") -> None:
        raise NotImplementedError

    async def drain(self) -> None:
        raise NotImplementedError

    def enable_compression(self, encoding: str = "deflate", strategy: int | None = None) -> None:
        raise NotImplementedError

    def enable_chunking(self) -> None:
        raise NotImplementedError

    async def write_headers(self, status_line: str, headers: object) -> None:
        raise NotImplementedError


@pytest.mark.parametrize("size", [1, 262_143, 262_144, 262_145, 5_000_000])
async def test_a_large_body_is_given_to_the_connection_in_pieces(size: int) -> None:
    body = random.Random(size).randbytes(size)
    exchange, wire = Exchange(body, "text/plain"), Written()
    assert exchange.body is not None
    assert exchange.body.size == size
    await exchange.body.write_with_length(wire, size)
    assert b"".join(wire.written) == body
    assert max(map(len, wire.written)) <= 262_144
    assert exchange.handed_over
