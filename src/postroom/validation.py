"""What pydantic found wrong, in words for the person who wrote the message."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError

from postroom.errors import InvalidAddress, MessageError

if TYPE_CHECKING:
    from pydantic import ModelWrapValidatorHandler
    from pydantic_core import ErrorDetails

_M = TypeVar("_M", bound=BaseModel)

_IN_OUR_WORDS = {
    "missing": "is missing",
    "tuple_type": "must be a list, not {type}",
    "dict_type": "must be a dict, not {type}",
    "string_type": "must be text, not {type}",
    "bytes_type": "must be bytes, not {type}",
    "model_type": "must be {class_name} or a dict of its fields, not {type}",
    "timezone_aware": "needs a time zone, as datetime.now(UTC) has",
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
    "too_long": "must not be longer than {max_length}",
    "string_too_long": "must not be longer than {max_length}",
    "string_pattern_mismatch": "may only have letters, digits, dots, dashes and underscores",
}


def validated(cls: type[_M], value: object, handler: ModelWrapValidatorHandler[_M]) -> _M:
    """Return what `handler` makes of `value`. Raises MessageError where pydantic would raise its own error."""
    try:
        return handler(value)
    except ValidationError as error:
        raise refusal(cls, error) from None


def refusal(cls: type[BaseModel], error: ValidationError) -> MessageError:
    """Return `error` as an InvalidAddress when nothing but addresses are wrong, else as a MessageError."""
    problems = error.errors(include_url=False)
    told = tuple((".".join(str(part) for part in problem["loc"]), _explained(cls, problem)) for problem in problems)
    addresses_only = all(problem["type"] == "invalid_address" for problem in problems)
    kind = InvalidAddress if addresses_only else MessageError
    text = "; ".join(f"{where}: {wrong}" if where else wrong for where, wrong in told)
    return kind(f"{cls.__name__} cannot be sent: {text}", problems=told)


def _explained(cls: type[BaseModel], problem: ErrorDetails) -> str:
    if problem["type"] == "extra_forbidden":
        near = get_close_matches(str(problem["loc"][-1]), cls.model_fields, n=1)
        return f"is not a field of {cls.__name__}" + (f"; did you mean {near[0]}?" if near else "")
    known = _IN_OUR_WORDS.get(problem["type"])
    if known is None:
        return problem["msg"].removeprefix("Value error, ")
    # The type of the input only: its value may be a secret.
    return known.format(type=type(problem["input"]).__name__, **problem.get("ctx", {}))
