"""What every request passes: its id, its answer when it is refused or something breaks, and its line in the log."""

from __future__ import annotations

import itertools
import json
import logging
import re
import secrets
import time
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from postroom.gateway.http.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from postroom.gateway.api.health import Metrics
    from postroom.gateway.http.body import Reader

    Endpoint = Callable[[Request], Awaitable[Response]]

_log = logging.getLogger("postroom.gateway")
_access = logging.getLogger("postroom.access")
_encoded = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode

_GIVEN_ID = re.compile(r"[A-Za-z0-9_.\-]{8,64}")
_UNSUBSCRIBING = re.compile(r"(/v1/unsubscribe/).+", re.DOTALL)
"""Whoever has the link can use it, and it holds an address."""

_REPORTING = re.compile("/v1/webhooks/")
"""Reports by GET have numbers and texts of people in the query."""

_QUERY_TOKEN = re.compile(r"((?:^|&)auth_token=)[^&]*", re.IGNORECASE)


class JsonAnswer(Response):
    """A JSON object with a status."""

    media_type = "application/json"

    def __init__(self, status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
        super().__init__(_encoded(body), status, headers)


def refused(refusal: ApiError) -> Response:
    return JsonAnswer(refusal.status, refusal.body(), refusal.headers)


class RequestMiddleware:
    """The outermost part of the service.

    `direct` are the endpoints most requests are for, by method and path: they are called without the way through
    the framework, which takes longer than they do. All others are `app`'s.
    """

    def __init__(
        self, app: ASGIApp, direct: Mapping[tuple[str, str], Endpoint], reader: Reader, metrics: Metrics
    ) -> None:
        self._app = app
        self._direct = direct
        self._reader = reader
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        visit = _RequestLog(scope, send)
        endpoint = self._direct.get((scope["method"], scope["path"]))
        try:
            if endpoint is None:
                await self._app(scope, receive, visit.send)
            else:
                answer = await answered(endpoint, Request(scope, receive))
                await answer(scope, receive, visit.send)
        except ClientDisconnect:
            visit.status = 499
        except Exception:  # noqa: BLE001 - whatever it was, the caller gets an answer and the log the cause
            _log.exception("request %s failed", visit.id)
            if not visit.status:
                await failed(visit.id)(scope, receive, visit.send)
        finally:
            self._reader.release(scope)
            self._metrics.count(scope["method"], visit.route(direct=endpoint is not None), visit.status, visit.seconds)
            visit.log()


async def answered(endpoint: Endpoint, request: Request) -> Response:
    """Return what an endpoint answers, or its refusal as an answer."""
    try:
        return await endpoint(request)
    except ApiError as refusal:
        request.scope["postroom.error"] = refusal.code
        return refused(refusal)


def failed(request_id: str) -> Response:
    """Return the answer to a fault of ours, which the log explains under this id."""
    text = f"Something went wrong here; the log tells what, under request {request_id}."
    return JsonAnswer(500, {"error": "internal_error", "message": text, "details": []})


async def broken(request: Request, error: Exception) -> Response:
    """Answer for what broke within the framework, which raises it again, so that it is logged."""
    del error
    return failed(request.scope["postroom.request_id"])


async def unknown_path(request: Request, error: Exception) -> Response:
    """Answer 404 and 405 in the form all errors have."""
    assert isinstance(error, HTTPException)
    allowed = dict(error.headers or {})
    if error.status_code == 405:
        return refused(
            ApiError(405, "method_not_allowed", f"{request.url.path} does not take {request.method}.", headers=allowed)
        )
    return refused(ApiError(404, "not_found", f"There is nothing at {request.url.path}; see /docs."))


class _RequestLog:
    """One request from its first byte to its line in the log."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope = scope
        self._send = send
        self._begun = time.perf_counter()
        self.id = _request_id(scope)
        self.status = 0
        self._bytes_out = 0
        scope["postroom.request_id"] = self.id

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message["headers"], (b"x-request-id", self.id.encode()), *_ALWAYS]
        else:
            self._bytes_out += len(message.get("body", b""))
        await self._send(message)

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._begun

    def route(self, *, direct: bool) -> str:
        """Return the path as it is declared, so that there are only so many of them."""
        if direct:
            path: str = self._scope["path"]
            return path
        return getattr(self._scope.get("route"), "path", "other")

    def log(self) -> None:
        """Write the request's line: JSON, without anything secret."""
        if not _access.isEnabledFor(logging.INFO):
            return
        scope = self._scope
        client = scope.get("client")
        line = {
            "time": round(time.time(), 3),
            "request_id": self.id,
            "client": client[0] if client else None,
            "method": scope["method"],
            "path": _UNSUBSCRIBING.sub(r"\1***", scope["path"]),
            "query": "***" if _REPORTING.match(scope["path"]) and query_of(scope) else masked(query_of(scope)),
            "status": self.status,
            "ms": round(self.seconds * 1000, 2),
            "bytes": self._bytes_out,
            "key": scope.get("postroom.key"),
            "error": scope.get("postroom.error"),
            "messages": scope.get("postroom.messages"),
        }
        text = _encoded({name: value for name, value in line.items() if value not in (None, "")})
        # Without the walk up the stack that `info` takes to find out who calls it.
        _access.handle(_access.makeRecord(_access.name, logging.INFO, __file__, 0, text, (), None))


def query_of(scope: Scope) -> str:
    query: str = scope["query_string"].decode("latin-1")
    return query


def headers_of(scope: Scope) -> dict[str, str]:
    """Return the headers by their lower-case names; of one given several times, the first."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(scope["headers"])}


def masked(query: str) -> str:
    """Return a query string without the key it may hold."""
    return _QUERY_TOKEN.sub(r"\1***", query) if query else ""


def _request_id(scope: Scope) -> str:
    """Return the id the caller gave the request, when it is one, or a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            given: str = value.decode("latin-1")
            if _GIVEN_ID.fullmatch(given):
                return given
    return f"{_PROCESS}{next(_numbers):08x}"


_PROCESS = secrets.token_hex(4)
_numbers = itertools.count(1)
_ALWAYS = [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]
