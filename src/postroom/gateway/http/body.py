"""Request bodies: read within their size, their time and the memory of the process, unpacked as they come."""

from __future__ import annotations

import asyncio
import zlib
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import ClientDisconnect

from postroom.gateway.http.errors import ApiError, bad_request, too_large
from postroom.gateway.http.form_body import parse_form
from postroom.gateway.http.json_body import parse_json
from postroom.gateway.http.requests import BodyBudget, state_of
from postroom.plugin.transport import LARGEST_WEBHOOK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request

    from postroom.config.gateway import GatewaySettings
    from postroom.gateway.http.requests import RequestState

_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
"""What zlib calls the formats of RFC 9110 section 8.4.1."""

_PIECE = 65_536
_PAUSE = 1_048_576
"""Bytes that are unpacked before other requests may go on: a megabyte takes a few milliseconds."""

LARGEST_SMALL = 65_536
"""Bytes of a body that holds no message: an address, or a note of 500 characters."""

STRANGERS_TOGETHER = 33_554_432
"""Bytes of all bodies that come from people who have shown no key and no signature that holds."""

STRANGERS_SECONDS = 10.0
"""For such a body to arrive; providers send theirs at once."""

_CLOSE: Final = {"connection": "close"}


class BodyReader:
    """Reads bodies; one for all requests of a process, since it also counts what they hold together.

    Those of callers with a key and those of strangers have budgets of their own: whoever has shown nothing cannot
    use up what callers need. Where the strangers' is full, the one of them that has been coming for longest makes room,
    which is an attacker's: a provider's report comes within milliseconds.
    """

    def __init__(self, settings: GatewaySettings) -> None:
        self._keyed = BodyBudget(settings.max_body, settings.max_bodies, settings.body_timeout)
        self._small = BodyBudget(min(LARGEST_SMALL, settings.max_body), settings.max_bodies, settings.body_timeout)
        seconds = min(STRANGERS_SECONDS, settings.body_timeout)
        self._strange = BodyBudget(min(LARGEST_WEBHOOK, settings.max_body), STRANGERS_TOGETHER, seconds)
        self._coming: dict[int, tuple[RequestState, asyncio.Timeout]] = {}

    async def fields(self, request: Request) -> dict[str, Any]:
        """Return the object a small body holds, JSON or url-encoded. Raises ApiError."""
        as_form = _is_form(request)
        body = b"".join(await self._read(request, self._small))
        return parse_form(body) if as_form and body[:1] != b"{" else parse_json(body)

    async def message_body(self, request: Request) -> tuple[list[bytes], bool]:
        """Return the body of messages, unpacked, in the pieces it came in, and whether it says that it is url-encoded.

        To put 25 MB together takes 10 ms of everybody. Raises ApiError (400, 408, 413, 415, 503) or ClientDisconnect.
        """
        as_form = _is_form(request)
        return await self._read(request, self._keyed), as_form

    async def body(self, request: Request) -> bytes:
        """Return the whole body, unpacked. Raises as `message_body` does."""
        return b"".join(await self._read(request, self._keyed))

    async def strangers_body(self, request: Request, *, keep: bool) -> bytes:
        """Return the body of somebody who has shown nothing yet, or read it and `keep` nothing.

        It is not told from outside which of the two was done. Raises as `body` does.
        """
        return b"".join(await self._read(request, self._strange, keep=keep))

    def release(self, state: RequestState) -> None:
        """Give back the memory that a request's body was counted with; called when its answer is out."""
        if state.body_budget is not None:
            state.body_budget.held -= state.body_bytes
        state.body_bytes, state.body_budget = 0, None

    async def _read(self, request: Request, budget: BodyBudget, *, keep: bool = True) -> list[bytes]:
        packing = request.headers.get("content-encoding", "").strip().lower()
        if packing and packing != "identity" and packing not in _WINDOW_BITS:
            raise ApiError(415, "unsupported_encoding", "Send the body plain, or packed with gzip or deflate.")
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > budget.largest:
            raise _too_large(budget)
        state = state_of(request.scope)
        state.body_budget = budget
        try:
            async with asyncio.timeout(budget.seconds) as timeout:
                if budget is self._strange:
                    self._coming[id(state)] = state, timeout
                return await self._gather(request, _Unpacking(packing), budget, keep=keep)
        except TimeoutError:
            raise ApiError(
                408, "too_slow", f"The body did not arrive within {budget.seconds:g} seconds.", headers=_CLOSE
            ) from None
        finally:
            self._coming.pop(id(state), None)

    async def _gather(self, request: Request, unpack: _Unpacking, budget: BodyBudget, *, keep: bool) -> list[bytes]:
        pieces = _Pieces()
        state = state_of(request.scope)
        size = since_pause = 0
        while True:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            for piece in unpack.feed(message.get("body", b"")):
                size, since_pause = size + len(piece), since_pause + len(piece)
                if size > budget.largest:
                    raise _too_large(budget)
                if keep:
                    self._hold(state, budget, len(piece))
                    pieces.add(piece)
                if since_pause > _PAUSE:
                    since_pause = 0
                    await asyncio.sleep(0)
            if not message.get("more_body"):
                unpack.check_end()
                return pieces.all()

    def _hold(self, state: RequestState, budget: BodyBudget, more: int) -> None:
        if budget is self._strange and budget.held + more > budget.together:
            self._cut_the_slowest(state)
        if budget.held + more > budget.together:
            raise ApiError(
                503,
                "busy",
                "Too many large requests at once; send this one again in a moment.",
                headers={"retry-after": "1", **_CLOSE},
            )
        state.body_bytes += more
        budget.held += more

    def _cut_the_slowest(self, but_not: RequestState) -> None:
        slowest = next((number for number, (state, _) in self._coming.items() if state is not but_not), None)
        if slowest is not None:
            state, timeout = self._coming.pop(slowest)
            self.release(state)
            timeout.reschedule(0)


def _is_form(request: Request) -> bool:
    """Whether a body is url-encoded rather than JSON. Raises ApiError (415) for what is neither."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    as_form = kind == "application/x-www-form-urlencoded"
    if not as_form and kind not in {"", "application/json", "text/json", "text/plain"} and kind[-5:] != "+json":
        raise ApiError(415, "unsupported_media_type", "Send application/json or application/x-www-form-urlencoded.")
    return as_form


def _too_large(budget: BodyBudget) -> ApiError:
    return too_large(f"The body is larger than {budget.largest:,} bytes.", headers=_CLOSE)


class _Pieces:
    """What has come of a body, in pieces of which none but the last is small, however little came at a time."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._last = bytearray()

    def add(self, piece: bytes) -> None:
        if not self._last and len(piece) >= _PIECE:
            self._pieces.append(piece)
            return
        self._last += piece
        if len(self._last) >= _PIECE:
            self._pieces.append(bytes(self._last))
            self._last.clear()

    def all(self) -> list[bytes]:
        return [*self._pieces, bytes(self._last)] if self._last else self._pieces


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
