"""Reading a JSON body: strict, bounded, and helpful about what is wrong and where."""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import islice
from typing import Any

from postroom.gateway.http.errors import ApiError, bad_request

DEEPEST = 32
"""Levels of lists and objects in a body; the deepest body a real client sends has six."""

MOST_OBJECTS = 1_000_000
"""Lists and objects in a body, counted by their brackets, since each takes far more memory than its two characters."""

MOST_NAMES = 500_000
"""Names in all objects of a body together: a batch of 1,000 e-mails to 150 people each, with three names for each."""

_NAME = re.compile(rb'"[ \t\r\n]*:')

_HINTS = {
    "'": "JSON text stands in double quotes, not single quotes",
    "/": "JSON has no comments; take them out",
    "#": "JSON has no comments; take them out",
    "}": "a comma before it is one too many",
    "]": "a comma before it is one too many",
}


def parse_json(body: bytes) -> dict[str, Any]:
    """Return the object in `body`. Raises ApiError (400) with line and column, or with the field's name.

    A name given twice in one object is refused, since another program on the way may have read the other one;
    NaN and Infinity are no JSON (RFC 8259 section 6).
    """
    brackets = body.count(b"{") + body.count(b"[")
    if brackets > MOST_OBJECTS:
        raise bad_request("invalid_json", f"The body holds more than {MOST_OBJECTS:,} lists and objects.")
    if sum(1 for _ in islice(_NAME.finditer(body), MOST_NAMES + 1)) > MOST_NAMES:
        raise bad_request("invalid_json", f"The body holds more than {MOST_NAMES:,} names.")
    text = _text(body)
    try:
        found = json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise _bad_json(text, error) from None
    except RecursionError:
        raise _too_deep() from None
    except ValueError:
        raise bad_request("invalid_json", "The body holds a number with too many digits.") from None
    if not isinstance(found, dict):
        raise bad_request("invalid_body", f"The body must be a JSON object, not {_kind(found)}.")
    if brackets > DEEPEST and _depth_over(found, DEEPEST):
        raise _too_deep()
    return found


def _text(body: bytes) -> str:
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise bad_request("invalid_json", f"The body is not UTF-8 text: byte {error.start + 1} is wrong.") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = next(name for name, count in counts.items() if count > 1)
        raise bad_request("invalid_json", f"The name {twice[:100]!r} is given twice in one object; give it once.")
    return found


def _no_constant(name: str) -> None:
    raise bad_request("invalid_json", f"The body holds {name}, which is not JSON.")


def _bad_json(text: str, error: json.JSONDecodeError) -> ApiError:
    at = error.pos
    if error.msg.startswith("Illegal trailing comma"):  # Python 3.13 and later point at the comma
        hint = _HINTS["}"]
    elif error.msg.startswith("Invalid control character"):
        hint = "a line break or tab inside a text is written as \\n or \\t"
    elif not text[at:].strip():
        hint = "the body ends too early" if text.strip() else "the body is empty"
    else:
        found = text[at] if text[at] not in " \t\r\n" else text[at:].lstrip()[0]
        hint = _HINTS.get(found, f"{error.msg[0].lower()}{error.msg[1:]}, found {found!r}")
    place = f"line {error.lineno}, column {error.colno}"
    return ApiError(
        400,
        "invalid_json",
        f"The body is not valid JSON at {place}: {hint}.",
        extra={"line": error.lineno, "column": error.colno},
    )


def _too_deep() -> ApiError:
    return bad_request("invalid_json", f"The body is nested more than {DEEPEST} levels deep.")


def _depth_over(value: object, most: int) -> bool:
    """Whether containers are nested more than `most` levels deep."""
    level: list[Any] = [value]
    for _ in range(most):
        level = [child for item in level for child in _children(item) if isinstance(child, (dict, list))]
        if not level:
            return False
    return True


def _children(item: dict[str, Any] | list[Any]) -> list[Any]:
    return list(item.values()) if isinstance(item, dict) else item


def _kind(value: object) -> str:
    names = {list: "a list", str: "a text", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), "null")
