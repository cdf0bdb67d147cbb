"""The parts of an e-mail: each its Content-* headers, an empty line and its body, all lines ended by CRLF."""

from __future__ import annotations

import re
from binascii import b2a_base64, b2a_qp
from hashlib import blake2b
from typing import TYPE_CHECKING, AnyStr
from urllib.parse import quote

from postroom.mime.headers import folded

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from postroom.messages import Attachment

Part = list[bytes]
"""A part, in the order of its bytes: small ones are whole, large ones come in pieces."""

_LONGEST_LINE = 998
_PLAIN_NAME = re.compile(r"[ -~]*")
_WIDTH = 70
_ENCODED_LINE = 76
_OCTETS_IN_BASE64_LINE = 57
_OCTETS_IN_UTF8 = 4
_PIECE = _OCTETS_IN_BASE64_LINE * 512
"""Bytes that are encoded with one call, during which no other thread runs: 25 MB would take a tenth of a second.

It also keeps ten megabytes from being there as text, as 180,000 lines and as their sum at one time.
"""


def text_part(text: str, subtype: str, parameters: str = "") -> Part:
    """Return `text` as it is, or in whichever transfer encoding is shorter."""
    lines = _with_lf(piece.encode() for piece in _pieces(text)) or [b""]
    if not lines[-1].endswith(b"\n"):
        lines[-1] += b"\n"
    encoding, body = _encoded(lines)
    head = f'Content-Type: text/{subtype}; charset="utf-8"{parameters}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n'
    return [head.encode(), *body]


def file_part(attachment: Attachment) -> Part:
    """Return `attachment`, byte for byte.

    RFC 2046 section 5.2.1 forbids to encode a message: one that 7bit can carry goes as it is, but for its line
    ends, and any other one as a file.
    """
    content, media_type = attachment.content, attachment.content_type
    if not media_type.lower().startswith("message/"):
        return [_file_head(attachment, media_type, "base64"), *_base64(_pieces(content))]
    lines = _with_lf(_pieces(content))
    if _is_7bit(lines):
        return [_file_head(attachment, media_type, "7bit"), *_with_crlf(lines), b"\r\n"]
    return [_file_head(attachment, "application/octet-stream", "base64"), *_base64(_pieces(content))]


def multipart(subtype: str, parts: Sequence[Part], parameters: str = "") -> Part:
    """Return `parts` as one part; the same each time, so that a signature over it stays true."""
    # No quoted-printable or base64 line can begin so (RFC 2045 section 6.7). Nobody can write a text that holds it: the
    # text would have to hold a digest of itself.
    digest = blake2b(subtype.encode(), digest_size=16)
    for part in parts:
        digest.update(b"%d:" % sum(map(len, part)))
        for piece in part:
            digest.update(piece)
    boundary = f"=_{digest.hexdigest()}"
    mark = b"--%b\r\n" % boundary.encode()
    whole = [f'Content-Type: multipart/{subtype}; boundary="{boundary}"{parameters}\r\n\r\n'.encode()]
    for part in parts:
        whole += [mark, *part, b"\r\n"]
    whole.append(b"--%b--\r\n" % boundary.encode())
    return whole


def _pieces(content: AnyStr) -> Iterator[AnyStr]:
    """Cut `content` where no line end is cut."""
    line_end = "\r\n" if isinstance(content, str) else b"\r\n"
    size = _PIECE if isinstance(content, bytes) or content.isascii() else _PIECE // _OCTETS_IN_UTF8
    at = 0
    while at < len(content):
        end = at + size
        if content[end - 1 : end + 1] == line_end:
            end += 1
        yield content[at:end]
        at = end


def _with_lf(pieces: Iterable[bytes]) -> list[bytes]:
    return [piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n") for piece in pieces]


def _with_crlf(lines: Iterable[bytes]) -> Iterator[bytes]:
    return (piece.replace(b"\n", b"\r\n") for piece in lines)


def _encoded(lines: list[bytes]) -> tuple[str, Iterable[bytes]]:
    if _is_7bit(lines):
        return "7bit", _with_crlf(lines)
    if quoted := _quoted_printable(lines):
        return "quoted-printable", _with_crlf(quoted)
    return "base64", _base64(_with_crlf(lines))


def _is_7bit(lines: list[bytes]) -> bool:
    """Whether `lines` may go as they are: ASCII, no NUL, no line of more than 998 octets (RFC 2045 section 2.7)."""
    if not all(piece.isascii() and b"\0" not in piece for piece in lines):
        return False
    longest = begun = 0
    for piece in lines:
        if longest > _LONGEST_LINE:
            return False
        lengths = [len(line) for line in piece.split(b"\n")]
        lengths[0] += begun
        longest, begun = max(longest, *lengths), lengths[-1]
    return longest <= _LONGEST_LINE


def _quoted_printable(lines: list[bytes]) -> list[bytes] | None:
    """Return `lines` in quoted-printable; None when base64 is shorter."""
    room = sum(map(len, lines)) * 4 // 3
    found: list[bytes] = []
    for piece in lines:
        quoted = b2a_qp(piece)
        found.append(quoted if piece.endswith(b"\n") else _with_soft_break(quoted))
        room -= len(found[-1])
        if room < 0:
            return None
    return found


def _with_soft_break(quoted: bytes) -> bytes:
    """End a piece that ends within a line (RFC 2045 section 6.7).

    Where 76 octets leave no room for it, the last one goes to the next line; it is never one that is quoted.
    """
    if len(quoted) - (quoted.rfind(b"\n") + 1) >= _ENCODED_LINE:
        quoted = quoted[:-1] + b"=\n" + quoted[-1:]
    return quoted + b"=\n"


def _base64(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Return lines of base64 that are full but for the last one, wherever the pieces are cut."""
    rest = b""
    for piece in pieces:
        octets = rest + piece
        whole = len(octets) - len(octets) % _OCTETS_IN_BASE64_LINE
        yield _base64_lines(octets[:whole])
        rest = octets[whole:]
    yield _base64_lines(rest)


def _base64_lines(octets: bytes) -> bytes:
    text = b2a_base64(octets, newline=False)
    return b"".join([text[at : at + _ENCODED_LINE] + b"\r\n" for at in range(0, len(text), _ENCODED_LINE)])


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
