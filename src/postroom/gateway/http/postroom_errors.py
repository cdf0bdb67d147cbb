"""postroom's own errors, as the gateway answers them."""

from __future__ import annotations

from postroom.errors import (
    ConfigError,
    IdempotencyConflict,
    MessageError,
    PostroomError,
    ProviderNotFound,
    UnsupportedFeature,
)
from postroom.gateway.http.errors import ApiError, Problem

UNAVAILABLE = {"retry-after": "5"}


def from_postroom_error(error: PostroomError) -> ApiError:
    """Return the answer to `error`, whose text holds no secret.

    What the caller can mend is a 4xx with the field; what only the operator can is a 503, and nothing was
    accepted.
    """
    text = str(error)
    if isinstance(error, IdempotencyConflict):
        return ApiError(422, error.code, text)
    if isinstance(error, ProviderNotFound):
        return ApiError(400, error.code, text, (Problem("provider", text),))
    if isinstance(error, UnsupportedFeature):
        return ApiError(400, error.code, text, (Problem(error.feature, text),))
    if isinstance(error, MessageError):
        details = error.problems or (("", text),)
        return ApiError(400, error.code, text, tuple(Problem(where, told) for where, told in details))
    if isinstance(error, ConfigError) and text.startswith("options"):
        return ApiError(400, error.code, text, (Problem(text.partition(":")[0], text),))
    return ApiError(503, error.code, text, headers=UNAVAILABLE)
