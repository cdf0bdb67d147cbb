"""The description of the API: bodies, answers, keys and samples, for `/docs` and `/openapi.json`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from postroom.gateway.api import schemas
from postroom.gateway.api.messages import Resolution
from postroom.gateway.api.schemas import ErrorAnswer, TooManyAnswer
from postroom.gateway.api.suppressions import SuppressionBody
from postroom.receipts import Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import FastAPI
    from pydantic import BaseModel

_REQUESTS: tuple[type[BaseModel], ...] = (
    schemas.EmailBody,
    schemas.EmailBatch,
    schemas.SmsBody,
    schemas.SmsBatch,
    Resolution,
    SuppressionBody,
)
_REF = "#/components/schemas/{model}"

_SUMMARY = """Sends e-mails and SMS through the providers this service is configured with.

Present a key as `Auth-token`, as `Authorization: Bearer` (plain or in base64), as `?auth_token=` or as the cookie
`auth_token`; the first of these that is there counts. Answers with 202 mean that the message is on disk."""

_KEYS = {
    "header": {"type": "apiKey", "in": "header", "name": "Auth-token"},
    "bearer": {"type": "http", "scheme": "bearer"},
    "query": {"type": "apiKey", "in": "query", "name": "auth_token"},
    "cookie": {"type": "apiKey", "in": "cookie", "name": "auth_token"},
}

_REASONS = {
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

IDEMPOTENCY_HEADER: dict[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same key with the same body never makes a second message; the first answer is repeated.",
    "schema": {"type": "string", "maxLength": 200, "pattern": "^[!-~]+$"},
}


def named(name: str, longest: int = 1000) -> dict[str, Any]:
    """Describe an endpoint that is about one thing, which `name` in its path stands for."""
    schema = {"type": "string", "maxLength": longest}
    return {"parameters": [{"name": name, "in": "path", "required": True, "schema": schema}]}


NAMED = named("id", 64)


def asks(model: type[BaseModel]) -> dict[str, Any]:
    """Describe an endpoint that takes a query."""
    fields = model.model_json_schema()
    one_status = "|".join(Status)
    statuses = {"type": "string", "pattern": f"^({one_status})(,({one_status}))*$"}
    ours = {"status": statuses, "channel": {"enum": ["email", "sms"]}}
    schemas = {name: ours.get(name, schema) for name, schema in fields["properties"].items()}
    return {
        "parameters": [
            {"name": name, "in": "query", "required": False, "schema": schema} for name, schema in schemas.items()
        ]
    }


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe the refusals of an endpoint."""
    return {
        status: {"model": TooManyAnswer if status == 429 else ErrorAnswer, "description": _REASONS[status]}
        for status in statuses
    }


def errors_in_json(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe the refusals of an endpoint whose good answer is of another kind."""
    schema = {"$ref": _REF.format(model=ErrorAnswer.__name__)}
    content = {"application/json": {"schema": schema}}
    return {status: {"description": _REASONS[status], "content": content} for status in statuses}


def takes(model: type[BaseModel], example: Mapping[str, Any]) -> dict[str, Any]:
    """Describe an endpoint that takes a body, JSON or url-encoded."""
    reference = {"$ref": _REF.format(model=model.__name__)}
    content = {
        "application/json": {"schema": reference, "example": example},
        "application/x-www-form-urlencoded": {"schema": reference, "encoding": {}},
    }
    return {"requestBody": {"required": True, "content": content}, "parameters": [IDEMPOTENCY_HEADER]}


def describe(app: FastAPI) -> dict[str, Any]:
    """Return the whole description, made once."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=_SUMMARY, routes=app.routes)
        _, described = models_json_schema([(model, "validation") for model in _REQUESTS], ref_template=_REF)
        components = document.setdefault("components", {})
        components.setdefault("schemas", {}).update(described["$defs"])
        components["securitySchemes"] = _KEYS
        for path, operations in document["paths"].items():
            for operation in operations.values():
                operation["security"] = [] if _is_open(path) else [{way: []} for way in _KEYS]
        app.openapi_schema = document
    return app.openapi_schema


def _is_open(path: str) -> bool:
    return not path.startswith("/v1/") or path.startswith(("/v1/webhooks/", "/v1/unsubscribe/"))
