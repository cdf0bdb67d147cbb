"""The parts of an e-mail: each its Content-* headers, an empty line and its body, all lines ended by CRLF."""

from __future__ import annotations

import re
from binascii import b2a_base64, b2a_qp
from hashlib import blake2b
from typing import TYPE_CHECKING
from urllib.parse import quote

from postroom.mime.headers import folded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from postroom.messages import Attachment

_LONGEST_LINE = 998
_PLAIN_NAME = re.compile(r"[ -~]*")
_WIDTH = 70
_BASE64_LINE = 76
_BASE64_PIECE = 57 * 4096
"""Bytes, of which every line takes 57."""


def text_part(text: str, subtype: str, parameters: str = "") -> bytes:
    """Return `text` as it is, or in whichever transfer encoding is shorter."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").encode()
    if not lines.endswith(b"\n"):
        lines += b"\n"
    encoding, body = _encoded(lines)
    head = f'Content-Type: text/{subtype}; charset="utf-8"{parameters}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n'
    return head.encode() + body


def file_part(attachment: Attachment) -> bytes:
    """Return `attachment`, byte for byte.

    RFC 2046 section 5.2.1 forbids to encode a message: one that 7bit can carry goes as it is, but for its line
    ends, and any other one as a file.
    """
    content, media_type = attachment.content, attachment.content_type
    if not media_type.lower().startswith("message/"):
        return _file_head(attachment, media_type, "base64") + _base64(content)
    lines = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if _is_7bit(lines):
        return _file_head(attachment, media_type, "7bit") + lines.replace(b"\n", b"\r\n") + b"\r\n"
    return _file_head(attachment, "application/octet-stream", "base64") + _base64(content)


def multipart(subtype: str, parts: Sequence[bytes], parameters: str = "") -> bytes:
    """Return `parts` as one part; the same each time, so that a signature over it stays true."""
    # No quoted-printable or base64 line can begin so (RFC 2045 section 6.7). Nobody can write a text that holds it: the
    # text would have to hold a digest of itself.
    digest = blake2b(subtype.encode(), digest_size=16)
    for part in parts:
        digest.update(b"%d:" % len(part))
        digest.update(part)
    boundary = f"=_{digest.hexdigest()}"
    head = f'Content-Type: multipart/{subtype}; boundary="{boundary}"{parameters}\r\n\r\n'
    mark = b"--%b\r\n" % boundary.encode()
    body = b"".join(b"%b%b\r\n" % (mark, part) for part in parts)
    return b"%b%b--%b--\r\n" % (head.encode(), body, boundary.encode())


def _encoded(lines: bytes) -> tuple[str, bytes]:
    if _is_7bit(lines):
        return "7bit", lines.replace(b"\n", b"\r\n")
    quoted = b2a_qp(lines)
    if len(quoted) * 3 <= len(lines) * 4:
        return "quoted-printable", quoted.replace(b"\n", b"\r\n")
    return "base64", _base64(lines.replace(b"\n", b"\r\n"))


def _is_7bit(lines: bytes) -> bool:
    """Whether `lines` may go as they are: ASCII, no NUL, no line of more than 998 octets (RFC 2045 section 2.7)."""
    if not lines.isascii() or b"\0" in lines:
        return False
    return len(lines) <= _LONGEST_LINE or max(map(len, lines.split(b"\n"))) <= _LONGEST_LINE


def _base64(content: bytes) -> bytes:
    # Piece by piece: in one go ten megabytes would be there as text, as 180,000 lines and as their sum at one time.
    view = memoryview(content)
    return b"".join([_base64_lines(view[at : at + _BASE64_PIECE]) for at in range(0, len(content), _BASE64_PIECE)])


def _base64_lines(content: memoryview) -> bytes:
    text = b2a_base64(content, newline=False)
    return b"".join([text[at : at + _BASE64_LINE] + b"\r\n" for at in range(0, len(text), _BASE64_LINE)])


def _file_head(attachment: Attachment, media_type: str, encoding: str) -> bytes:
    disposition = "inline" if attachment.inline else "attachment"
    lines = [
        folded("Content-Type", media_type),
        f"Content-Transfer-Encoding: {encoding}",
        f"Content-Disposition: {disposition}" + "".join(f";\r\n {name}" for name in _filename(attachment.filename)),
    ]
    if attachment.content_id:
        lines.append(f"Content-ID: <{attachment.content_id}>")
    return "\r\n".join([*lines, "", ""]).encode()


def _filename(name: str) -> list[str]:
    """The parameters that say `name`: quoted, or by RFC 2231, in pieces that fit on a line."""
    if _PLAIN_NAME.fullmatch(name) and "=?" not in name:
        escaped = name.replace("\\", "\\\\").replace('"', '\\"')
        return [f'filename="{escaped}"']
    pieces = [""]
    for character in map(_percent_encoded, name):
        if len(pieces[-1]) + len(character) > _WIDTH - len("filename*00*=utf-8'';"):
            pieces.append("")
        pieces[-1] += character
    if len(pieces) == 1:
        return [f"filename*=utf-8''{pieces[0]}"]
    return [f"filename*0*=utf-8''{pieces[0]}", *(f"filename*{n}*={p}" for n, p in enumerate(pieces[1:], 1))]


def _percent_encoded(character: str) -> str:
    return quote(character, safe="")
