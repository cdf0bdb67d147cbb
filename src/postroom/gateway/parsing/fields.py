"""Parsing the fields that e-mail and SMS of the API share."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from postroom.gateway.http.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from postroom.errors import MessageError

_TRUE: Sequence[object] = (True, 1, "true", "1")
_FALSE: Sequence[object] = (False, 0, "false", "0", "", None)

LONGEST_TEXT = 10_000
"""Characters of a text that is no body: a header, a subject, a tag, a URL. Who sends it looks at each of them."""

_TAKEN_AS_THEY_ARE = ("provider", "category", "send_at", "expires_at", "priority")


def shared_fields(item: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of `Message` that the wire names alike; empty ones are left out."""
    return {name: item[name] for name in _TAKEN_AS_THEY_ARE if item.get(name) not in (None, "")}


def check_count(fields: dict[str, Any], name: str, most: int, problems: list[Problem], where: str = "") -> None:
    """Take out a list or object of more than `most`, before anything in it is looked at."""
    value = fields.get(name)
    if isinstance(value, (list, dict)) and len(value) > most:
        problems.append(Problem(where or name, f"has {len(value):,} entries; at most {most:,} are taken"))
        del fields[name]


def is_too_long(value: object, path: str, problems: list[Problem], most: int = LONGEST_TEXT) -> bool:
    """Whether it is a text of more than `most` characters, which is a problem then."""
    if not isinstance(value, str) or len(value) <= most:
        return False
    problems.append(Problem(path[:200], f"has more than {most:,} characters"))
    return True


def check_lengths(fields: dict[str, Any], name: str, problems: list[Problem], where: str = "") -> None:
    """Take out a text, or a list or object of texts, one of which is too long."""
    value = fields.get(name)
    texts: list[tuple[str, object]] = [("", value)]
    if isinstance(value, list):
        texts = [(f"[{index}]", text) for index, text in enumerate(value)]
    elif isinstance(value, dict):
        texts = [(f".{key[:100]}", text) for key, content in value.items() for text in (key, content)]
    if any(is_too_long(text, f"{where or name}{place}", problems) for place, text in texts):
        del fields[name]


def parse_bool(value: object, path: str, problems: list[Problem]) -> bool:
    """Read true or false, also as the texts that url-encoded bodies have."""
    if value in _TRUE:
        return True
    if value not in _FALSE:
        problems.append(Problem(path, "must be true or false"))
    return False


def problems_of(error: MessageError) -> tuple[tuple[str, str], ...]:
    """Return what a message's own check found: the path of each field, and what is wrong with it."""
    return error.problems or (("", str(error)),)


def field_path(where: str, places: Mapping[str, str]) -> str:
    """Return the path a field of a message stood at in the body; `places` has those that differ."""
    for model_path, body_path in places.items():
        if where == model_path or where.startswith(f"{model_path}."):
            return body_path + _indexed(where[len(model_path) :])
    return _indexed(where)


def _indexed(path: str) -> str:
    return re.sub(r"\.(\d+)(?=\.|$)", r"[\1]", path)
