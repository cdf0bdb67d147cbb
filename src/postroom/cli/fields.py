"""Command-line arguments -> message fields."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import typer


def pairs(given: list[str], option: str, *, separator: str = "=") -> dict[str, str]:
    """Split `NAME=VALUE` arguments; the value is never shown, since it may be a secret."""
    found = {}
    for text in given:
        name, found_separator, value = text.partition(separator)
        if not (name.strip() and found_separator):
            raise typer.BadParameter(f"write it as NAME{separator}VALUE", param_hint=option)
        found[name.strip()] = value.strip()
    return found


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
        raise typer.BadParameter(f"is not valid JSON: {error}", param_hint=option) from None
    if not isinstance(found, dict):
        raise typer.BadParameter("must be a JSON object", param_hint=option)
    return found


def moment(given: str | None, option: str) -> datetime | None:
    """Read an ISO 8601 time; one without an offset is local."""
    if not given:
        return None
    try:
        found = datetime.fromisoformat(given)
    except ValueError:
        raise typer.BadParameter("write a time like 2030-01-31T09:00:00+00:00", param_hint=option) from None
    return found if found.tzinfo else found.astimezone()


def body_text(given: str | None) -> str | None:
    """Return the text, read from standard input for `-`."""
    return sys.stdin.read() if given == "-" else given


def piped_text() -> str | None:
    """Return what was piped in, or None when standard input is a terminal or empty."""
    if sys.stdin is None or sys.stdin.isatty():
        return None
    return sys.stdin.read() or None


def file_text(path: Path | None, option: str) -> str | None:
    """Read a text file named by an option."""
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"cannot read {path}: {error}", param_hint=option) from None


def given(fields: dict[str, Any]) -> dict[str, Any]:
    """Keep the fields that were given, so that the others have their defaults."""
    return {name: value for name, value in fields.items() if value not in (None, [], {}, ())}


def _json_or_text(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value
