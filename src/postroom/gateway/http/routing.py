"""Routing: the one table of endpoints, which requests are answered from and the API is described by."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.routing import compile_path

from postroom.errors import PostroomError
from postroom.gateway.http.errors import ApiError, from_postroom_error
from postroom.gateway.http.requests import state_of
from postroom.gateway.http.responses import error_response
from postroom.outbox.deadline import stored_within

if TYPE_CHECKING:
    import re
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from pydantic import BaseModel
    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

    Endpoint = Callable[[Request], Awaitable[Response]]


_log = logging.getLogger("postroom.gateway")

LONGEST_WAIT = 5.0
"""Seconds after which a request is answered 503 when another process keeps the outbox locked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One operation of the API: method and path, the endpoint that answers it, and its description.

    `response` is the model of a good answer, or its media type when that is no JSON; `status` its status, and
    `errors` the statuses of the others; `otherwise` says when the same answer has another one. `body` and `query`
    are the models of what it takes, `example` a body.
    """

    method: str
    path: str
    endpoint: Endpoint
    tag: str
    response: type[BaseModel] | str
    status: int = 200
    errors: tuple[int, ...] = ()
    otherwise: Mapping[int, str] = field(default_factory=dict)
    body: type[BaseModel] | None = None
    example: Mapping[str, Any] = field(default_factory=dict)
    query: type[BaseModel] | None = None
    idempotent: bool = False
    """Whether it takes an Idempotency-Key."""

    needs_key: bool = True

    @property
    def summary(self) -> str:
        return (self.endpoint.__doc__ or "").partition("\n")[0].rstrip(".")


class Router:
    """Answers requests from a table of routes; an ASGI application.

    A path without parameters is one look-up in a dictionary, which is what the endpoints most requests are for
    deserve; only the others are matched one by one.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self._by_path: dict[str, dict[str, Route]] = {}
        patterns: dict[str, re.Pattern[str]] = {}
        for route in routes:
            self._by_path.setdefault(route.path, {})[route.method] = route
            if "{" in route.path:
                patterns[route.path] = compile_path(route.path)[0]
        self._patterns = [(pattern, self._by_path[path]) for path, pattern in patterns.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        state = state_of(scope)
        try:
            route = self._find(scope)
            state.route = route.path
            with stored_within(LONGEST_WAIT):
                response = await route.endpoint(Request(scope, receive))
        except ApiError as error:
            state.error = error.code
            response = error_response(error)
        except PostroomError as error:  # such as of a full disk, or a file that others keep locked
            refused = from_postroom_error(error)
            _log.error("request %s: %s", state.id, error)
            state.error = refused.code
            response = error_response(refused)
        await response(scope, receive, send)

    def _find(self, scope: Scope) -> Route:
        """Return the route of a request and put the parameters of its path into `scope`. Raises ApiError."""
        path, method = scope["path"], scope["method"]
        methods = self._by_path.get(path) or self._match(scope, path)
        if methods is None:
            raise ApiError(404, "not_found", f"There is nothing at {path}; see /docs.")
        if method not in methods:
            allow = {"allow": ", ".join(methods)}
            raise ApiError(405, "method_not_allowed", f"{path} does not take {method}.", headers=allow)
        return methods[method]

    def _match(self, scope: Scope, path: str) -> dict[str, Route] | None:
        for pattern, methods in self._patterns:
            if found := pattern.fullmatch(path):
                scope["path_params"] = found.groupdict()
                return methods
        return None
