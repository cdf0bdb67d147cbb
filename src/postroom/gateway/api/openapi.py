"""OpenAPI: the description of the API, made from its routes, and the page that shows it."""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal

from pydantic.json_schema import models_json_schema
from starlette.responses import HTMLResponse, Response

from postroom.gateway.api.communicate import IDEMPOTENCY_KEY
from postroom.gateway.api.docs_page import FILES, PAGE_HEADERS, docs_page, file_of_page
from postroom.gateway.api.schemas import ErrorAnswer, TooManyAnswer
from postroom.gateway.http.errors import ApiError
from postroom.gateway.http.responses import JsonResponse
from postroom.receipts import Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pydantic import BaseModel
    from starlette.requests import Request

    from postroom.gateway.http.routing import Route

    References = Mapping[tuple[Any, Literal["validation", "serialization"]], dict[str, Any]]

_SUMMARY = """Sends e-mails and SMS through the providers this service is configured with.

Present a key as `Auth-token`, as `Authorization: Bearer` (plain or in base64), as `?auth_token=` or as the cookie
`auth_token`; the first of these that is there counts. Answers with 202 mean that the message is on disk."""

_KEYS = {
    "header": {"type": "apiKey", "in": "header", "name": "Auth-token"},
    "bearer": {"type": "http", "scheme": "bearer"},
    "query": {"type": "apiKey", "in": "query", "name": "auth_token"},
    "cookie": {"type": "apiKey", "in": "cookie", "name": "auth_token"},
}

_STATUSES = {
    200: "The answer.",
    202: "The message is on disk.",
    400: "The body or a parameter is wrong; `details` says where.",
    401: "No key, or one that is unknown or revoked.",
    403: "The key may not do this, or is suspended.",
    404: "There is no such thing, or it is another key's.",
    408: "The body did not arrive in time.",
    409: "The message is in no state for this.",
    413: "The body, an attachment or the batch is too large.",
    415: "The body is neither JSON nor url-encoded, or packed in a way that is not known.",
    422: "The Idempotency-Key was used before with another message.",
    429: "Over the limit; `nextValidRequestDate` says until when.",
    500: "A fault of the service, explained in its log under the request's X-Request-Id.",
    503: "The service cannot do this now; nothing was accepted.",
}

_IDEMPOTENCY_KEY: dict[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same key with the same body never makes a second message; the first answer is repeated.",
    "schema": {"type": "string", "pattern": IDEMPOTENCY_KEY},
}

_LONGEST = {"id": 64, "account": 1000, "token": 1000}


class OpenApi:
    """`/openapi.json` and `/docs`: a description of `routes`, made when it is first asked for."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = routes
        self._document: dict[str, Any] | None = None

    async def document(self, request: Request) -> Response:
        """Describe the API."""
        del request
        return JsonResponse(200, self._described())

    async def page(self, request: Request) -> Response:
        """Show the description as a page to try things on."""
        del request
        return HTMLResponse(docs_page(self._described()), headers=PAGE_HEADERS)

    async def file(self, request: Request) -> Response:
        """Give the page one of its files."""
        name = request.path_params["name"]
        if name not in FILES:
            raise ApiError(404, "not_found", f"There is nothing at {request.url.path}; see /docs.")
        return Response(file_of_page(name), media_type=FILES[name], headers=PAGE_HEADERS)

    def _described(self) -> dict[str, Any]:
        if self._document is None:
            self._document = describe(self._routes)
        return self._document


def describe(routes: Iterable[Route]) -> dict[str, Any]:
    """Return the OpenAPI document of `routes`."""
    routes = list(routes)
    references, schemas = models_json_schema(
        [
            *((route.body, "validation") for route in routes if route.body),
            *((route.response, "serialization") for route in routes if not isinstance(route.response, str)),
            (ErrorAnswer, "serialization"),
            (TooManyAnswer, "serialization"),
        ],
        ref_template="#/components/schemas/{model}",
    )
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, references)
    return {
        "openapi": "3.1.0",
        "info": {"title": "postroom", "description": _SUMMARY, "version": version("postroom")},
        "paths": paths,
        "components": {"schemas": schemas["$defs"], "securitySchemes": _KEYS},
    }


def _operation(route: Route, references: References) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "tags": [route.tag],
        "summary": route.summary,
        "operationId": f"{route.method} {route.path}",
        "responses": _responses(route, references),
        "security": [{place: []} for place in _KEYS] if route.needs_key else [],
    }
    if parameters := _parameters(route):
        operation["parameters"] = parameters
    if route.body:
        schema = references[route.body, "validation"]
        content: dict[str, Any] = {
            "application/json": {"schema": schema, "example": route.example},
            "application/x-www-form-urlencoded": {"schema": schema, "encoding": {}},
        }
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _responses(route: Route, references: References) -> dict[str, Any]:
    if isinstance(route.response, str):
        good: dict[str, Any] = {route.response: {"schema": {"type": "string"}}}
    else:
        good = {"application/json": {"schema": references[route.response, "serialization"]}}
    described = {route.status: _STATUSES[route.status], **route.otherwise}
    responses = {str(status): {"description": text, "content": good} for status, text in described.items()}
    for status in route.errors:
        schema = references[TooManyAnswer if status == 429 else ErrorAnswer, "serialization"]
        content = {"application/json": {"schema": schema}}
        responses[str(status)] = {"description": _STATUSES[status], "content": content}
    return responses


def _parameters(route: Route) -> list[dict[str, Any]]:
    in_path = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "maxLength": _LONGEST[name]}}
        for name in re.findall(r"{(\w+)}", route.path)
    ]
    return [*in_path, *(_query(route.query) if route.query else ()), *([_IDEMPOTENCY_KEY] if route.idempotent else ())]


def _query(model: type[BaseModel]) -> list[dict[str, Any]]:
    """Describe the fields of a query; a list of statuses is one text, with commas between them."""
    status = "|".join(Status)
    as_text = {
        "status": {"type": "string", "pattern": f"^({status})(,({status}))*$"},
        "channel": {"enum": ["email", "sms"]},
    }
    fields: dict[str, Any] = model.model_json_schema()["properties"]
    return [
        {"name": name, "in": "query", "required": False, "schema": as_text.get(name, schema)}
        for name, schema in fields.items()
    ]
