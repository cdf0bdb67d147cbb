"""Responses of the API: JSON objects, and errors as JSON objects."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from postroom.gateway.http.errors import ApiError

_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


class JsonResponse(Response):
    """A JSON object with a status."""

    media_type = "application/json"

    def __init__(self, status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
        super().__init__(_encode(body), status, headers)


def error_response(error: ApiError) -> Response:
    return JsonResponse(error.status, error.to_json(), error.headers)


def internal_error(request_id: str) -> Response:
    """Return the response to a fault of ours, which the log explains under this id."""
    text = f"Something went wrong here; the log says what, under request {request_id}."
    return JsonResponse(500, {"error": "internal_error", "message": text, "details": []})
