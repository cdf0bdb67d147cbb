"""Validation of messages: models that are checked once, and what was wrong in words for the person who wrote one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self, TypeVar

from pydantic import BaseModel, ValidationError

from postroom.errors import InvalidAddress, MessageError

if TYPE_CHECKING:
    from collections.abc import Iterable

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


class CheckedModel(BaseModel):
    """Base of models that are validated when they are built, and copied without that afterwards."""

    def stamped(self, **values: object) -> Self:
        """Return a copy with `values`, which must be valid already."""
        # Here and in `Record.of` pydantic's own attributes are set by hand, without a call between, since a direct send
        # has few: every send, and every message read back from the outbox, pays for some copies. One of an e-mail takes
        # 1.1 µs so and 1.7 by model_copy, one of an address 0.7 and 1.3 by model_construct (best of 60 runs, pydantic
        # 2.14).
        fields = {**self.__dict__, **values}
        stamped = type(self).__new__(type(self))
        object.__setattr__(stamped, "__dict__", fields)
        object.__setattr__(stamped, "__pydantic_fields_set__", self.__pydantic_fields_set__ | values.keys())
        object.__setattr__(stamped, "__pydantic_extra__", None)
        object.__setattr__(stamped, "__pydantic_private__", None)
        return stamped


def validated(cls: type[_M], value: object, handler: ModelWrapValidatorHandler[_M]) -> _M:
    """Return what `handler` makes of `value`. Raises MessageError where pydantic would raise its own error."""
    try:
        return handler(value)
    except ValidationError as error:
        raise message_error(cls, error) from None


def did_you_mean(word: str, known: Iterable[str], *, likeness: float = 0.5) -> str:
    """Return `"; did you mean 'x'?"` for the known name nearest to `word`, or nothing.

    `likeness`, from 0 to 1, is how near it must be: what may well be a name of its own needs more.
    """
    from difflib import get_close_matches  # noqa: PLC0415 - only on the way to an error

    found = get_close_matches(word, list(known), n=1, cutoff=likeness)
    return f"; did you mean {found[0]!r}?" if found else ""


def message_error(cls: type[BaseModel], error: ValidationError) -> MessageError:
    """Return `error` as an InvalidAddress when nothing but addresses are wrong, else as a MessageError."""
    found = error.errors(include_url=False)
    problems = tuple((".".join(map(str, problem["loc"])), _explained(cls, problem)) for problem in found)
    addresses_only = all(problem["type"] == "invalid_address" for problem in found)
    kind = InvalidAddress if addresses_only else MessageError
    text = "; ".join(f"{where}: {wrong}" if where else wrong for where, wrong in problems)
    return kind(f"{cls.__name__} cannot be sent: {text}", problems=problems)


def _explained(cls: type[BaseModel], problem: ErrorDetails) -> str:
    if problem["type"] == "extra_forbidden":
        return f"is not a field of {cls.__name__}{did_you_mean(str(problem['loc'][-1]), cls.model_fields)}"
    known = _IN_OUR_WORDS.get(problem["type"])
    if known is None:
        return problem["msg"].removeprefix("Value error, ")
    # The type of the input only: its value may be a secret.
    return known.format(type=type(problem["input"]).__name__, **problem.get("ctx", {}))
