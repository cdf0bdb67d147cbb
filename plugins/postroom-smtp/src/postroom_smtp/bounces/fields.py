"""Fields of reports and headers (RFC 3464, RFC 5965, RFC 5322), and the values that stand in them.

Strangers write them, so everything here takes time in proportion to the length, and nothing of it calls itself.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from email.utils import getaddresses, parsedate_to_datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import JsonValue

MOST_FIELDS = 30
"""Fields of a report that an event keeps; RFC 5965 and its extensions know 20."""

LONGEST_FIELD = 1000
"""Characters of a field that is taken apart: RFC 5322 section 2.1.1 allows 998 in a line."""

_FIRST_YEAR = 1982
"""When RFC 821 began mail as we know it."""

AHEAD = timedelta(days=1)
"""How far a server's clock, or its time zone, may be ahead of ours."""

_FIELD = re.compile(r"([!-9;-~]{1,100})[ \t]*:[ \t]*(.*)", re.DOTALL)
_POINT = re.compile(r"\\x\{([0-9A-Fa-f]{1,6})\}")
_ENCODED = re.compile(r"\+([0-9A-F]{2})")
_ROUTE = re.compile(r"@[^:\s]{1,500}:")
_ADDRESS = re.compile(r"[^\s<>()@,;:]{1,320}@[^\s<>()@,;:]{1,255}")


class Fields:
    """Fields in their order. A line that is none belongs to the field before it: some servers break lines so."""

    def __init__(self, text: str) -> None:
        lines: list[tuple[str, list[str]]] = []
        for line in text.splitlines():
            found = None if line[:1] in {" ", "\t"} else _FIELD.match(line)
            if found:
                lines.append((found[1], [found[2]]))
            elif lines:
                lines[-1][1].append(line)
        self._items = [(name, " ".join(" ".join(value).split())) for name, value in lines]
        self._first = {name.lower(): value for name, value in reversed(self._items)}

    def __bool__(self) -> bool:
        return bool(self._items)

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._first

    def get(self, name: str) -> str:
        """The first field of that name, on one line; empty where there is none."""
        return self._first.get(name.lower(), "")

    def all(self, name: str) -> list[str]:
        return [value for each, value in self._items if each.lower() == name.lower()]

    def kept(self) -> dict[str, JsonValue]:
        """As many of them, and as much of each, as an event keeps."""
        return {name: value[:LONGEST_FIELD] for name, value in self._items[:MOST_FIELDS]}


def typed(value: str) -> str | None:
    """Return what stands behind its type: `smtp; 550 no such user`."""
    kind, semicolon, said = value.partition(";")
    return (said if semicolon else kind).strip() or None


def recipient_forms(value: str) -> list[str]:
    r"""Return the addresses that a recipient field may mean, the likeliest first: `rfc822; ann@example.org (Ann)`.

    Of the type utf-8 characters beyond ASCII come as `\x{E4}` (RFC 6533 section 3). What came by ORCPT is xtext
    (RFC 3461 section 4), which some servers pass on as it is; `ann+2B` may be meant, too.
    """
    kind, semicolon, said = value[:LONGEST_FIELD].partition(";")
    address = without_comments(said if semicolon else kind).strip()
    if "<" in address:
        address = address.partition("<")[2].partition(">")[0]
    address = _ROUTE.sub("", address.strip(" \t<>'"), count=1) if address.lstrip().startswith("@") else address
    address = address.strip(" \t<>'")
    plain = _ENCODED.sub(lambda found: chr(int(found[1], 16)), address)
    if kind.strip().lower() == "utf-8":
        plain, address = _from_points(plain), _from_points(address)
    if " " in address and (found := _ADDRESS.search(address)):
        address = found[0]
    encoded = "@" not in address or any(f"+{each}" in address for each in ("2B", "3D", "5C"))
    forms = [plain, address] if encoded and "@" in plain else [address, plain]
    return list(dict.fromkeys(form for form in forms if form and form.isprintable()))


def _from_points(text: str) -> str:
    return _POINT.sub(lambda found: _character(int(found[1], 16)), text)


def _character(point: int) -> str:
    return "\ufffd" if 0xD800 <= point <= 0xDFFF or point > 0x10FFFF else chr(point)


def without_comments(text: str) -> str:
    """Return `text` without what stands in round brackets (RFC 5322 section 3.2.2), however deep."""
    kept: list[str] = []
    depth, quoted = 0, False
    for character in text:
        if character == '"' and not depth:
            quoted = not quoted
        if character == "(" and not quoted:
            depth += 1
        elif character == ")" and depth and not quoted:
            depth -= 1
        elif not depth:
            kept.append(character)
    return "".join(kept)


def addresses(value: str) -> list[str]:
    """Return the addresses of a header; none where nothing can be made of it, which is no reason to refuse a mail."""
    try:
        return [address for _, address in getaddresses([value[:LONGEST_FIELD]]) if "@" in address]
    except (RecursionError, ValueError, IndexError):
        return []


def dated(text: str) -> Mapping[str, Any] | None:
    """Return the time in a field, in UTC; None for what is none, or none that a mail server can have written by now."""
    try:
        found = parsedate_to_datetime(text[:LONGEST_FIELD])
        found = found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, TypeError, IndexError, OverflowError, RecursionError):
        return None
    if found.year < _FIRST_YEAR or found > datetime.now(UTC) + AHEAD:
        return None
    return {"occurred_at": found, "dated": True}
