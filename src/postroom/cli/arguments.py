"""Command-line arguments -> message fields."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from postroom.errors import MessageError


def pairs(given: list[str], option: str, *, separator: str = "=") -> dict[str, str]:
    """Split `NAME=VALUE` arguments; the value is kept as it is and never shown, since it may be a secret."""
    found: dict[str, str] = {}
    for text in given:
        name, found_separator, value = text.partition(separator)
        name = name.strip()
        if not (name and found_separator):
            raise MessageError(f"{option}: write it as NAME{separator}VALUE")
        if name in found:
            raise MessageError(f"{option}: {name!r} is given twice; give it once")
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
    except ValueError as error:
        raise MessageError(f"{option}: is not valid JSON: {error}") from None
    if not isinstance(found, dict):
        raise MessageError(f"{option}: must be a JSON object")
    return found


def moment(given: str | None, option: str) -> datetime | None:
    """Read an ISO 8601 time; one without an offset is local."""
    if not given:
        return None
    try:
        found = datetime.fromisoformat(given)
        return found if found.tzinfo else found.astimezone()
    except (ValueError, OverflowError, OSError):
        raise MessageError(f"{option}: write a time like 2030-01-31T09:00:00+00:00") from None


def bodies(given: dict[str, str | None], *, fallback: str | None) -> dict[str, str | None]:
    """Return bodies by field, the one that is `-` read from standard input.

    `fallback` names the field that takes what was piped in when there is no other body.
    """
    piped = [field for field, value in given.items() if value == "-"]
    if len(piped) > 1:
        raise MessageError(f"--{piped[0]}, --{piped[1]}: only one of them can be '-', standard input")
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
        raise MessageError(f"standard input is not UTF-8 text ({error.reason}); convert it first") from None


def file_text(path: Path | None, option: str) -> str | None:
    """Read a text file named by an option."""
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise MessageError(f"{option}: cannot read {path}: {error.strerror}") from None
    except ValueError:
        raise MessageError(f"{option}: cannot read {path}: it is not UTF-8 text") from None


def given(fields: dict[str, Any]) -> dict[str, Any]:
    """Keep the fields that were given, so that the others have their defaults."""
    return {name: value for name, value in fields.items() if value not in (None, [], {}, ())}


def _json_or_text(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value
