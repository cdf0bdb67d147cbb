"""Parsing attachments and images into `Attachment`: text, encoded text, or a Node Buffer."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from postroom.attachments import LARGEST_EMAIL
from postroom.gateway.http.errors import Problem, too_large

ENCODINGS = (
    "base64",
    "base64url",
    "hex",
    "binary",
    "latin1",
    "utf8",
    "utf-8",
    "ascii",
    "utf16le",
    "utf-16le",
    "ucs2",
    "ucs-2",
)
"""What `encoding` may say, in any case: the names of Node's Buffer (nodejs.org, "Buffers and character encodings")."""

_TEXT_CODECS = {"utf16le": "utf-16-le", "utf-16le": "utf-16-le", "ucs2": "utf-16-le", "ucs-2": "utf-16-le"}
# Node writes the low byte of each character for `ascii`, as it does for `latin1` and its other name, `binary`.
_TEXT_CODECS |= {"utf8": "utf-8", "utf-8": "utf-8", "ascii": "latin-1", "latin1": "latin-1", "binary": "latin-1"}


def parse_files(given: object, where: str, most: int, problems: list[Problem]) -> list[tuple[str, dict[str, Any]]]:
    """Return the fields of one `Attachment` for each item of `attachments` or `images`, with the item's path.

    Mistakes go to `problems`. Raises ApiError (413) when the files together are larger than an e-mail may be;
    the size is reckoned before anything is decoded.
    """
    items = [given] if isinstance(given, dict) else given or []
    if not isinstance(items, list):
        problems.append(Problem(where, "must be a list of objects"))
        return []
    if len(items) > most:
        problems.append(Problem(where, f"has {len(items):,} files; at most {most:,} are taken"))
        return []
    found, left = [], LARGEST_EMAIL
    for index, item in enumerate(items):
        path = f"{where}[{index}]"
        if not isinstance(item, dict):
            problems.append(Problem(path, "must be an object with name, type and content"))
            continue
        try:
            fields = _image(item, left) if where == "images" else _attachment(item, left)
        except _WrongField as wrong:
            problems.append(Problem(f"{path}.{wrong.name}", str(wrong)))
            continue
        left -= len(fields["content"])
        found.append((path, fields))
    return found


class _WrongField(Exception):
    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


def _attachment(item: dict[str, Any], left: int) -> dict[str, Any]:
    encoding = _encoding(item.get("encoding"))
    fields = {"filename": _text(item, "name"), "content": _content(item, encoding or "utf8", left)}
    media_type = _text(item, "type", "")
    as_text = encoding in {None, "utf8", "utf-8"} and isinstance(item.get("content"), str)
    if as_text and media_type.startswith("text/") and "charset" not in media_type:
        media_type += "; charset=utf-8"
    return {**fields, "content_type": media_type}


def _image(item: dict[str, Any], left: int) -> dict[str, Any]:
    """An inline image; `name` is its Content-ID and `content` is base64 unless `encoding` says otherwise.

    Both as in Mandrill's `images`, where the field comes from. `filename` is what a program saves it as.
    """
    name = _text(item, "name")
    content = _content(item, _encoding(item.get("encoding")) or "base64", left)
    return {
        "filename": _text(item, "filename", name),
        "content": content,
        "content_type": _text(item, "type", ""),
        "inline": True,
        "content_id": name,
    }


def _text(item: dict[str, Any], name: str, default: str | None = None) -> str:
    value = item.get(name) or default
    if value is None:
        raise _WrongField(name, "is missing")
    if not isinstance(value, str):
        raise _WrongField(name, "must be a text")
    return value


def _encoding(given: object) -> str | None:
    if given is None or given == "":
        return None
    if not isinstance(given, str) or given.lower() not in ENCODINGS:
        raise _WrongField("encoding", f"must be one of {', '.join(ENCODINGS)}")
    return given.lower()


def _content(item: dict[str, Any], encoding: str, left: int) -> bytes:
    content = item.get("content")
    if isinstance(content, dict):
        return _buffer(content, left)
    if not isinstance(content, str):
        raise _WrongField("content", "is missing" if content is None else "must be a text or a Node Buffer object")
    _check_size(_decoded_size(len(content), encoding), left)
    try:
        return _decoded(content, encoding)
    except UnicodeEncodeError as error:
        what = f"character {error.start + 1} does not fit {encoding}"
    except (ValueError, binascii.Error):
        what = f"is not valid {encoding}" + ("; leave the 'data:…,' in front out" if content[:5] == "data:" else "")
    raise _WrongField("content", what)


def _check_size(size: int, left: int) -> None:
    if size > left:
        raise too_large(f"The attachments of an e-mail hold at most {LARGEST_EMAIL:,} bytes; send a link instead.")


def _decoded_size(characters: int, encoding: str) -> int:
    """Return the fewest bytes that `characters` of text may stand for, line breaks within base64 allowed for."""
    if encoding.startswith("base64"):
        return characters * 3 // 4 - characters // 16
    return characters // 2 if encoding == "hex" else characters


def _decoded(content: str, encoding: str) -> bytes:
    if encoding == "hex":
        return binascii.unhexlify(content)
    if encoding in _TEXT_CODECS:
        return content.encode(_TEXT_CODECS[encoding])
    # Node reads both alphabets under either name, needs no padding, and skips white space.
    standard = "".join(content.split()).rstrip("=").translate({ord("-"): "+", ord("_"): "/"})
    return base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)


def _buffer(given: dict[str, Any], left: int) -> bytes:
    """Read what `JSON.stringify` makes of a Buffer: `{"type": "Buffer", "data": [72, 105]}`."""
    data = given.get("data")
    if given.get("type") != "Buffer" or not isinstance(data, list):
        raise _WrongField("content", "must be a text or a Node Buffer object")
    _check_size(len(data), left)
    try:
        return bytes(data)
    except (TypeError, ValueError):
        raise _WrongField("content", "the Buffer's data must be numbers from 0 to 255") from None
