"""Validation errors of a configuration: what pydantic found wrong, by the dotted path of the setting."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from postroom.config.fields import is_secret, setting_names
from postroom.config.masking import unmasked
from postroom.errors import ConfigError, InvalidOption, MissingCredential
from postroom.plugin.settings import AccountSettings
from postroom.validation import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic_core import ErrorDetails

ModelT = TypeVar("ModelT", bound=BaseModel)


def validated(
    model: type[ModelT], values: object, path: str = "", *, context: Mapping[str, object] | None = None
) -> ModelT:
    """Validate `values`; a problem becomes a ConfigError that names the setting below `path`.

    `context` is what validators of the model are told besides.

    A missing secret is a MissingCredential, everything else an InvalidOption. Values are never shown.
    """
    try:
        # In the call, so that no variable of ours has them plain: an error's traceback keeps each of those.
        return model.model_validate(
            unmasked(values) if issubclass(model, AccountSettings) else values, context=dict(context or {})
        )
    except ConfigError as error:
        if not path:
            raise
        raise type(error)(str(error), path=path) from error
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
    except Exception as error:
        raise ConfigError(
            f"{model.__name__} raised {type(error).__name__}, a fault in the plugin", path=path
        ) from error
    (first_path, first), *others = [_explained(model, problem, path) for problem in problems]
    kind = MissingCredential if all(_lacks_secret(model, p) for p in problems) else InvalidOption
    more = "".join(f"\n{where}: {what}" if where else f"\n{what}" for where, what in others)
    raise kind(first + more, path=first_path or None)


def _explained(model: type[BaseModel], problem: ErrorDetails, path: str) -> tuple[str, str]:
    where = ".".join(str(part) for part in (path, *problem["loc"]) if part != "")
    if problem["type"] == "extra_forbidden":
        key = str(problem["loc"][-1])
        return where, f"unknown key{did_you_mean(key, _keys_at(model, problem['loc'][:-1]))}"
    if problem["type"] == "missing":
        return where, "is required but not set"
    return where, problem["msg"].removeprefix("Value error, ")


def _keys_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    current: type[BaseModel] | None = model
    for part in location:
        if current is not None and part in current.model_fields:
            current = _model_in(current.model_fields[str(part)].annotation)
    return [] if current is None else list(setting_names(current))


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part))), None)


def _lacks_secret(model: type[BaseModel], problem: ErrorDetails) -> bool:
    field = model.model_fields.get(str(problem["loc"][-1])) if len(problem["loc"]) == 1 else None
    return problem["type"] == "missing" and field is not None and is_secret(field)
