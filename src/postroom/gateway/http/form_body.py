"""Reading a url-encoded body, whose names say where values belong: `to[0][email]`, `to[]`, `data[body]`.

The notation is the one jQuery's `$.param` and the `qs` package of Node write.
"""

from __future__ import annotations

import binascii
import re
from typing import TYPE_CHECKING, Any

from postroom.gateway.http.errors import ApiError, bad_request

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_FIELDS = 20_000
"""Fields in one body: a batch of 1,000 e-mails with ten fields each fits twice."""

LONGEST_NAME = 1000
"""Characters of a field's name."""

_STRAY = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_NAME = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")
_DEEPEST = 12

Tree = dict[str, Any]


def parse_form(body: bytes) -> dict[str, Any]:
    """Return the object that `body` describes; its values are texts. Raises ApiError (400) with the field's name.

    Names whose parts are numbers make lists, in the order of the numbers, however far apart those are.
    """
    if body.count(b"&") >= MOST_FIELDS:
        raise bad_request("invalid_body", f"The body has more than {MOST_FIELDS:,} fields.")
    try:
        body.decode("ascii")
        pairs = [(_unquoted(name), _unquoted(value)) for name, _, value in _split(body)]
    except UnicodeDecodeError:
        raise bad_request("invalid_body", "The body is not url-encoded UTF-8 text.") from None
    tree: Tree = {}
    for name, value in pairs:
        _plant(tree, _parts(name), value, name)
    return {name: _grown(value) for name, value in tree.items()}


def _split(body: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    return (field.partition(b"=") for field in body.split(b"&") if field)


def _unquoted(text: bytes) -> str:
    """Take the percent-encoding off, in as many passes as there are kinds of it and not as there are characters.

    `urllib.parse.unquote` makes an object of each `%XX`: 18 seconds for a body of 60 MB. What it makes of them is what
    quoted-printable makes of `=XX`, and the decoder of that is one loop in C. A `%` without two digits stays.
    """
    text = text.replace(b"+", b" ")
    if b"%" not in text:
        return text.decode()
    text = _STRAY.sub(b"%25", text) if _STRAY.search(text) else text
    return binascii.a2b_qp(text.replace(b"=", b"%3D").replace(b"\n", b"%0A").replace(b"\r", b"%0D")
                           .replace(b"%", b"=")).decode()  # fmt: skip


def _parts(name: str) -> list[str]:
    found = _NAME.fullmatch(name) if len(name) <= LONGEST_NAME else None
    if not found or found[2].count("[") > _DEEPEST:
        raise _bad_name(name)
    return [found[1], *re.findall(r"\[([^\[\]]*)\]", found[2])]


def _plant(tree: Tree, parts: list[str], value: str, name: str) -> None:
    *above, last = parts
    for part in above:
        tree = tree.setdefault(part or str(len(tree)), {})
        if not isinstance(tree, dict):
            raise _bad_name(name)
    key = last or str(len(tree))
    if key in tree:
        raise bad_request("invalid_body", f"The field {name[:100]!r} is given twice; write {name[:100]}[] for a list.")
    tree[key] = value


def _grown(value: Any) -> Any:
    """Make lists of the objects whose every name is a number."""
    if not isinstance(value, dict):
        return value
    children = {name: _grown(child) for name, child in value.items()}
    if all(re.fullmatch("[0-9]{1,6}", name) for name in children):
        return [children[name] for name in sorted(children, key=int)]
    return children


def _bad_name(name: str) -> ApiError:
    return bad_request("invalid_body", f"The field name {name[:100]!r} is not understood; write it like to[0][email].")
