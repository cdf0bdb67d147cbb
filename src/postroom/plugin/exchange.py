"""One exchange over HTTP: handed over once at most, and how far it had come."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
from aiohttp.payload import Payload

if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter


_PIECE = 262_144
"""Bytes of a body that are given to the connection at a time."""


class _Body(Payload):
    """A request body that remembers whether any of it was given to the connection.

    A large one is given in pieces, each when the one before is on its way: others in the loop go on meanwhile.
    """

    _value: bytes
    begun = False

    def __init__(self, body: bytes, content_type: str) -> None:
        super().__init__(body, content_type=content_type)
        self._size = len(body)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return self._value.decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        self.begun = True
        if len(self._value) <= _PIECE:
            await writer.write(self._value)
            return
        body = memoryview(self._value)
        for at in range(0, len(body), _PIECE):
            await writer.write(body[at : at + _PIECE])

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        del content_length  # which is what aiohttp has made of `size`
        await self.write(writer)


class Exchange:
    """One exchange, as aiohttp's middleware: hands a request over once at most, and knows whether it did.

    aiohttp sends PUT, DELETE and GET a second time when a kept connection ends before the answer (RFC 9110 section
    9.2.2 calls them idempotent). A provider that had read the first would send two messages.
    """

    def __init__(self, body: bytes, content_type: str, *, carries_message: bool = True) -> None:
        self.carries_message = carries_message
        self.body = _Body(body, content_type=content_type or "application/octet-stream") if body else None
        self._request: aiohttp.ClientRequest | None = None
        self._broken: aiohttp.ClientError | None = None

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        if self._broken is not None:
            raise self._broken
        self._request = request
        try:
            return await handler(request)
        except aiohttp.ClientError as error:
            self._broken = error
            raise

    @property
    def handed_over(self) -> bool:
        """Whether the provider may have a message by it."""
        return self.carries_message and self.begun

    @property
    def begun(self) -> bool:
        """Whether a provider can act on it: any of its body was written, or all of a request that has none.

        This is the border between an attempt that surely failed and one that may have been taken. aiohttp makes the
        response in the same step in which it writes a request without a body.
        """
        if self.body is not None:
            return self.body.begun
        return self._request is not None and self._request.response is not None


class TooLarge(aiohttp.ClientPayloadError):
    """The answer is longer than anybody would read."""


async def read_bounded(response: aiohttp.ClientResponse, most: int) -> bytes:
    """Return the answer's body; raises TooLarge beyond `most` bytes."""
    if (response.content_length or most + 1) <= most:
        return await response.read()
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > most:
            raise TooLarge(f"the answer is larger than {most:,} bytes")
    return bytes(body)


def in_words(error: BaseException) -> str:
    """Say what broke in words: the library's own texts may be objects that it had half read, or name the whole URL."""
    if isinstance(error, TooLarge):
        return str(error)
    for kind, words in _WORDS:
        if isinstance(error, kind):
            return words
    return str(error) or type(error).__name__


_WORDS: tuple[tuple[type[Exception], str], ...] = (
    (aiohttp.ServerDisconnectedError, "the connection was closed before a whole answer came"),
    (aiohttp.ClientPayloadError, "the connection was closed in the middle of the answer"),
    (aiohttp.ClientResponseError, "what came is no HTTP answer"),
    (aiohttp.InvalidURL, "the address is no URL"),
)
