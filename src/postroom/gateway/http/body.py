"""Request bodies: read within their size, their time and the memory of the process, unpacked as they come."""

from __future__ import annotations

import asyncio
import zlib
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import ClientDisconnect

from postroom.gateway.http.errors import ApiError, bad_request, too_large
from postroom.gateway.http.form_body import parse_form
from postroom.gateway.http.json_body import parse_json
from postroom.gateway.http.requests import state_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request

    from postroom.config.gateway import GatewaySettings
    from postroom.gateway.http.requests import RequestState

_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
"""What zlib calls the formats of RFC 9110 section 8.4.1."""

_PIECE = 65_536
_CLOSE: Final = {"connection": "close"}


class BodyReader:
    """Reads bodies; one for all requests of a process, since it also counts what they hold together."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._held = 0

    async def fields(self, request: Request) -> dict[str, Any]:
        """Return the object a body holds, JSON or url-encoded. Raises ApiError."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        as_form = kind == "application/x-www-form-urlencoded"
        if not as_form and kind not in {"", "application/json", "text/json", "text/plain"} and kind[-5:] != "+json":
            raise ApiError(415, "unsupported_media_type", "Send application/json or application/x-www-form-urlencoded.")
        body = await self.body(request)
        # curl calls a body url-encoded unless told otherwise, and no url-encoded body begins like this.
        return parse_form(body) if as_form and body[:1] != b"{" else parse_json(body)

    async def body(self, request: Request) -> bytes:
        """Return the whole body, unpacked. Raises ApiError (400, 408, 413, 415, 503) or ClientDisconnect."""
        packing = request.headers.get("content-encoding", "").strip().lower()
        if packing and packing != "identity" and packing not in _WINDOW_BITS:
            raise ApiError(415, "unsupported_encoding", "Send the body plain, or packed with gzip or deflate.")
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._settings.max_body:
            raise self._too_large()
        try:
            async with asyncio.timeout(self._settings.body_timeout):
                return await self._gather(request, _Unpacking(packing))
        except TimeoutError:
            seconds = f"{self._settings.body_timeout:g} seconds"
            raise ApiError(408, "too_slow", f"The body did not arrive within {seconds}.", headers=_CLOSE) from None

    def release(self, state: RequestState) -> None:
        """Give back the memory that a request's body was counted with; called when its answer is out."""
        self._held -= state.body_bytes
        state.body_bytes = 0

    async def _gather(self, request: Request, unpack: _Unpacking) -> bytes:
        pieces: list[bytes] = []
        state = state_of(request.scope)
        while True:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            for piece in unpack.feed(message.get("body", b"")):
                self._hold(state, len(piece))
                pieces.append(piece)
            if not message.get("more_body"):
                unpack.check_end()
                return b"".join(pieces)

    def _hold(self, state: RequestState, more: int) -> None:
        if state.body_bytes + more > self._settings.max_body:
            raise self._too_large()
        if self._held + more > self._settings.max_bodies:
            raise ApiError(
                503,
                "busy",
                "Too many large requests at once; send this one again in a moment.",
                headers={"retry-after": "1", **_CLOSE},
            )
        state.body_bytes += more
        self._held += more

    def _too_large(self) -> ApiError:
        return too_large(f"The body is larger than {self._settings.max_body:,} bytes.", headers=_CLOSE)


class _Unpacking:
    """Unpacks a body piece by piece, so that a small body that grows without end is stopped on its way."""

    def __init__(self, packing: str) -> None:
        bits = _WINDOW_BITS.get(packing)
        self._zlib = zlib.decompressobj(bits) if bits else None

    def feed(self, data: bytes) -> Iterator[bytes]:
        if self._zlib is None:
            yield data
            return
        pending = True
        while pending and not self._zlib.eof:
            try:
                piece = self._zlib.decompress(data, _PIECE)
            except zlib.error:
                raise bad_request("invalid_body", "The body is not packed as its Content-Encoding says.") from None
            yield piece
            data = self._zlib.unconsumed_tail
            pending = bool(data) or len(piece) == _PIECE

    def check_end(self) -> None:
        if self._zlib is not None and not self._zlib.eof:
            raise bad_request("invalid_body", "The packed body ends too early.")
