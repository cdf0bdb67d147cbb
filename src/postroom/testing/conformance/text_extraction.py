"""Text extraction: every text in a recorded request or e-mail, whatever it is encoded in."""

from __future__ import annotations

import base64
import binascii
import json
from contextlib import suppress
from email import message_from_bytes
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.policy import default
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from email.message import EmailMessage

    from postroom.testing.http import RecordedRequest

_SHORTEST_BASE64 = 8


def request_texts(request: RecordedRequest) -> list[str]:
    """Path, query and body of a request: as they are, and every value in JSON, a form or a multipart body."""
    found = [unquote(request.path), *(value for pair in parse_qsl(request.query) for value in pair)]
    content_type = request.headers.get("content-type", "")
    if content_type.startswith("multipart/"):
        head = f"Content-Type: {content_type}\r\n\r\n".encode()
        found += mime_texts(head + request.body)
    else:
        found += body_texts(request.body.decode("utf-8", "replace"))
    return [text.replace("\r\n", "\n") for text in found]


def body_texts(body: str) -> list[str]:
    """The body itself, and what JSON or a form in it says."""
    tree = _tree(body)
    if tree is not None:
        return [body, *_leaves(tree)]
    fields = parse_qsl(body, keep_blank_values=True)
    return [body, *(leaf for pair in fields for text in pair for leaf in _leaves(_tree(text) or text))]


def mime_texts(content: bytes) -> list[str]:
    """Header values, file names and contents of a MIME message, decoded."""
    message = message_from_bytes(content, policy=default)
    return [text.replace("\r\n", "\n") for part in message.walk() for text in _part_texts(part)]


def _part_texts(part: EmailMessage) -> Iterator[str]:
    for name, value in part.items():
        yield name
        yield _unfolded(str(value))
    if part.get_filename():
        yield str(part.get_filename())
    if not part.is_multipart():
        content = part.get_payload(decode=True)
        if isinstance(content, bytes):
            text = content.decode(part.get_content_charset() or "utf-8", "replace")
            yield from body_texts(text)


def _tree(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _leaves(tree: Any) -> Iterator[str]:
    if isinstance(tree, dict):
        for name, value in tree.items():
            yield from _leaves(name)
            yield from _leaves(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _leaves(value)
    elif isinstance(tree, str):
        yield from _forms(tree)
    else:
        yield json.dumps(tree)


def _forms(text: str) -> Iterator[str]:
    """A text as it is, without base64, without encoded words (RFC 2047)."""
    yield text
    if len(text) >= _SHORTEST_BASE64:
        with suppress(binascii.Error, ValueError):
            yield base64.b64decode(text, validate=True).decode("utf-8", "replace")
    if "=?" in text:
        yield _unfolded(text)


def _unfolded(text: str) -> str:
    try:
        return str(make_header(decode_header(text)))
    except (HeaderParseError, LookupError, UnicodeDecodeError):
        return text


def places(sent: Any, value: str) -> set[str]:
    """Where `value` stands in a recorded request or e-mail: names of JSON members, form fields and headers."""
    if hasattr(sent, "data"):
        message = message_from_bytes(sent.data, policy=default)
        return {name.lower() for name, text in message.items() if value in str(text)}
    body = sent.body.decode("utf-8", "replace")
    tree = _tree(body)
    if tree is not None:
        return {path for path, text in _paths(tree) if value in text}
    return {name for name, text in parse_qsl(body, keep_blank_values=True) if value in text}


def _paths(tree: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every text with the names that lead to it; items of a list share theirs."""
    if isinstance(tree, dict):
        for name, value in tree.items():
            yield from _paths(value, f"{path}.{name}")
    elif isinstance(tree, list):
        for value in tree:
            yield from _paths(value, path)
    elif isinstance(tree, str):
        yield path, tree


def beside(sent: Any, address: str, word: str, addresses: Iterable[str]) -> bool:
    """Whether `word` stands in the part of a JSON request that is about `address` and about no other of `addresses`."""
    tree = _tree(getattr(sent, "body", b"").decode("utf-8", "replace"))
    others = [other for other in addresses if other != address]
    parts = (json.dumps(part) for part in _parts(tree))
    return any(address in part and word in part and not any(other in part for other in others) for part in parts)


def _parts(tree: Any) -> Iterator[Any]:
    """Every object in `tree`, and every member of one with its name."""
    if isinstance(tree, dict):
        yield tree
        for name, value in tree.items():
            yield {name: value}
            yield from _parts(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _parts(value)
