"""Command-line arguments: options that commands share, and their values as fields of a message."""

from __future__ import annotations

import functools
import inspect
import json
import sys
from collections.abc import Callable
from dataclasses import MISSING, Field, fields, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from postroom.cli.output import UsageError

AsJson = Annotated[bool, typer.Option("--json", help="Answer with JSON on standard output.")]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="Configuration file; else POSTROOM_CONFIG, else ./postroom.toml.")
]


def with_option_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Let parameters of `command` be option groups: dataclasses whose fields are the options that typer shows."""
    parameters = inspect.signature(command, eval_str=True).parameters.values()
    groups: dict[str, Any] = {p.name: p.annotation for p in parameters if is_dataclass(p.annotation)}

    @functools.wraps(command)
    def run(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in fields(group)})
        command(**given)

    shown = [each for p in parameters for each in (_options_of(p) if p.name in groups else [p])]
    run.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined] # read by inspect, and so by typer
    run.__annotations__ = {p.name: p.annotation for p in shown}
    return run


def _options_of(group: inspect.Parameter) -> list[inspect.Parameter]:
    hints = get_type_hints(group.annotation, include_extras=True)
    return [
        group.replace(name=option.name, annotation=hints[option.name], default=_default_of(option))
        for option in fields(group.annotation)
    ]


def _default_of(option: Field[Any]) -> object:
    return option.default if option.default_factory is MISSING else option.default_factory()


def pairs(given: list[str], option: str, *, separator: str = "=") -> dict[str, str]:
    """Split `NAME=VALUE` arguments; the value is kept as it is and never shown, since it may be a secret."""
    found: dict[str, str] = {}
    for text in given:
        name, found_separator, value = text.partition(separator)
        name = name.strip()
        if not (name and found_separator):
            raise UsageError(f"write it as NAME{separator}VALUE", option=option)
        if name in found:
            raise UsageError(f"{name!r} is given twice; give it once", option=option)
        found[name] = value
    return found


def headers(given: list[str]) -> dict[str, str]:
    """Split `Name: value` arguments."""
    return {name: value.strip() for name, value in pairs(given, "--header", separator=":").items()}


def json_pairs(given: list[str], option: str) -> dict[str, Any]:
    """Split `NAME=VALUE` arguments whose values are JSON, or else text."""
    return {name: _json_or_text(value) for name, value in pairs(given, option).items()}


def json_object(given: str | None, option: str) -> dict[str, Any]:
    """Read a JSON object, or return an empty one."""
    if not given:
        return {}
    try:
        found = json.loads(given)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"is not valid JSON: {error}", option=option) from None
    if not isinstance(found, dict):
        raise UsageError("must be a JSON object", option=option)
    return found


def moment(given: str | None, option: str) -> datetime | None:
    """Read an ISO 8601 time; one without an offset is local."""
    if not given:
        return None
    try:
        found = datetime.fromisoformat(given)
        return found if found.tzinfo else found.astimezone()
    except (ValueError, OverflowError, OSError):
        raise UsageError("write a time like 2030-01-31T09:00:00+00:00", option=option) from None


def bodies(given: dict[str, str | None], *, fallback: str | None) -> dict[str, str | None]:
    """Return bodies by field, the one that is `-` read from standard input.

    `fallback` names the field that takes what was piped in when there is no other body.
    """
    piped = [field for field, value in given.items() if value == "-"]
    if len(piped) > 1:
        raise UsageError("only one of them can be '-', standard input", option=f"--{piped[0]}, --{piped[1]}")
    if piped:
        return {**given, piped[0]: _standard_input()}
    if fallback and sys.stdin is not None and not sys.stdin.isatty():
        return {**given, fallback: _standard_input() or None}
    return given


def _standard_input() -> str:
    """Read standard input as UTF-8, whatever the locale says."""
    if sys.stdin is None:
        return ""
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise UsageError(f"standard input is not UTF-8 text ({error.reason}); convert it first") from None


def file_text(path: Path | None, option: str) -> str | None:
    """Read a text file named by an option."""
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", option=option) from None
    except ValueError:
        raise UsageError(f"cannot read {path}: it is not UTF-8 text", option=option) from None


def given(values: dict[str, Any]) -> dict[str, Any]:
    """Keep the values that were given, so that the others have their defaults."""
    return {name: value for name, value in values.items() if value not in (None, [], {}, ())}


def _json_or_text(value: str) -> Any:
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value
