"""API errors: a status, a stable code, a text that says the next step, and the fields that are wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from postroom.errors import (
    ConfigError,
    IdempotencyConflict,
    MessageError,
    PostroomError,
    ProviderNotFound,
    UnsupportedFeature,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one field; `field` is its path as the caller wrote it, such as `to[0].email`."""

    field: str
    message: str


@dataclass(eq=False)
class ApiError(Exception):
    """A request, or one item of a batch, that is not taken.

    `code` is for programs, `message` for people; `headers` go with the answer, `extra` into its body.
    """

    status: int
    code: str
    message: str
    details: tuple[Problem, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.message

    def to_json(self) -> dict[str, Any]:
        """Return the answer's JSON object."""
        details = [{"field": problem.field, "message": problem.message} for problem in self.details]
        return {"error": self.code, "message": self.message, "details": details, **self.extra}


def bad_request(code: str, message: str) -> ApiError:
    return ApiError(400, code, message)


def too_large(message: str, headers: Mapping[str, str] | None = None) -> ApiError:
    return ApiError(413, "too_large", message, headers=headers or {})


def invalid_message(problems: tuple[Problem, ...]) -> ApiError:
    """Refuse a message for its fields; the text names the first of them."""
    first = f"{problems[0].field}: {problems[0].message}" if problems[0].field else problems[0].message
    more = f" (and {len(problems) - 1} more, see details)" if len(problems) > 1 else ""
    return ApiError(400, "invalid_message", first + more, problems)


UNAVAILABLE: Final = {"retry-after": "5"}


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
        return ApiError(400, error.code, text, tuple(Problem(where, what) for where, what in details))
    if isinstance(error, ConfigError) and (error.path or "").partition(".")[0] == "options":
        return ApiError(400, error.code, text, (Problem(error.path or "", text),))
    return ApiError(503, error.code, text, headers=UNAVAILABLE)
