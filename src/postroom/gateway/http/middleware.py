"""ASGI middleware that every request passes: its id, an answer when something breaks, its line in the log."""

from __future__ import annotations

import itertools
import json
import logging
import re
import secrets
import time
from typing import TYPE_CHECKING
from urllib.parse import unquote

from starlette.requests import ClientDisconnect

from postroom.gateway.http.requests import RequestState, query_of
from postroom.gateway.http.responses import internal_error

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from postroom.gateway.http.body import BodyReader
    from postroom.gateway.metrics import Metrics

_log = logging.getLogger("postroom.gateway")
_access = logging.getLogger("postroom.access")
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode

_GIVEN_ID = re.compile(r"[A-Za-z0-9_.\-]{8,64}")
_UNSUBSCRIBE = re.compile(r"(/v1/unsubscribe/).+", re.DOTALL)
"""Whoever has the link can use it, and it holds an address."""

_WEBHOOK = re.compile("/v1/webhooks/")
"""Reports by GET have numbers and texts of people in the query."""

_SECRET_NAME = re.compile("auth|token|key|secret|password", re.IGNORECASE)
"""Parameters whose values are never logged: `auth_token`, and what people write in its place."""

_LONGEST_LOGGED = 1000
"""Characters of a path or a query in the log; whoever asks chooses how long they are."""


class RequestMiddleware:
    """The outermost part of the service, around the router."""

    def __init__(self, app: ASGIApp, body_reader: BodyReader, metrics: Metrics) -> None:
        self._app = app
        self._body_reader = body_reader
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http", "the gateway speaks HTTP only"
        state = RequestState(_request_id(scope))
        state.attach(scope)
        log = _RequestLog(scope, state, send)
        try:
            await self._app(scope, receive, log.send)
        except ClientDisconnect:
            log.status = 499
        except Exception:  # noqa: BLE001 - whatever it was, the caller gets an answer and the log the cause
            _log.exception("request %s failed", state.id)
            if not log.status:
                await internal_error(state.id)(scope, receive, log.send)
        finally:
            self._body_reader.release(state)
            self._metrics.count(scope["method"], state.route, log.status, log.seconds)
            log.write()


class _RequestLog:
    """One request from its first byte to its line in the log."""

    def __init__(self, scope: Scope, state: RequestState, send: Send) -> None:
        self._scope = scope
        self._state = state
        self._send = send
        self._begun = time.perf_counter()
        self._bytes_out = 0
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message["headers"], (b"x-request-id", self._state.id.encode()), *_ALWAYS]
        else:
            self._bytes_out += len(message.get("body", b""))
        await self._send(message)

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._begun

    def write(self) -> None:
        """Write the request's line: JSON, without anything secret."""
        if not _access.isEnabledFor(logging.INFO):
            return
        scope, state = self._scope, self._state
        client, query = scope.get("client"), query_of(scope)
        line = {
            "time": round(time.time(), 3),
            "request_id": state.id,
            "client": client[0] if client else None,
            "method": scope["method"],
            "path": _UNSUBSCRIBE.sub(r"\1***", scope["path"])[:_LONGEST_LOGGED],
            "query": "***" if query and _WEBHOOK.match(scope["path"]) else masked(query)[:_LONGEST_LOGGED],
            "status": self.status,
            "ms": round(self.seconds * 1000, 2),
            "bytes": self._bytes_out,
            "key": state.key_id,
            "error": state.error,
            "messages": state.messages,
        }
        text = _encode({name: value for name, value in line.items() if value not in (None, "")})
        # Without the walk up the stack that `info` takes to find out who calls it.
        _access.handle(_access.makeRecord(_access.name, logging.INFO, __file__, 0, text, (), None))


def masked(query: str) -> str:
    """Return a query string without the key it may hold, under whatever spelling of its name."""
    if "=" not in query:
        return query
    return "&".join(_masked_pair(pair) for pair in query.split("&"))


def _masked_pair(pair: str) -> str:
    name, equals, _ = pair.partition("=")
    return f"{name}=***" if equals and _SECRET_NAME.search(unquote(name)) else pair


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
