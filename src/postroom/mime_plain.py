"""The content of the common e-mail, a text and an HTML body and nothing else, built by hand for speed.

A test holds it to the standard library's parser and to the content `postroom.mime` builds for other messages.
"""

from __future__ import annotations

import os
import re
from base64 import encodebytes
from binascii import b2a_qp

_LONG_LINE = re.compile(rb"[^\n]{998}")


def plain_content(text: str | None, html: str | None) -> bytes:
    """Return the Content-* headers and body for a text, an HTML body, or both as alternatives."""
    if html is None:
        return _part(text or "", b"plain")
    if text is None:
        return _part(html, b"html")
    return _multipart(_part(text, b"plain"), _part(html, b"html"))


def _part(text: str, subtype: bytes) -> bytes:
    encoding, body = _encoded(text)
    return b'Content-Type: text/%b; charset="utf-8"\r\nContent-Transfer-Encoding: %b\r\n\r\n%b' % (
        subtype,
        encoding,
        body,
    )


def _encoded(text: str) -> tuple[bytes, bytes]:
    """The transfer encoding and the encoded lines: as they are, or whichever encoding is shorter."""
    plain = text.replace("\r\n", "\n").replace("\r", "\n").encode()
    if not plain.endswith(b"\n"):
        plain += b"\n"
    if plain.isascii() and not _LONG_LINE.search(plain):
        return b"7bit", plain.replace(b"\n", b"\r\n")
    quoted = b2a_qp(plain)
    if len(quoted) * 3 <= len(plain) * 4:
        return b"quoted-printable", quoted.replace(b"\n", b"\r\n")
    return b"base64", encodebytes(plain.replace(b"\n", b"\r\n")).replace(b"\n", b"\r\n")


def _multipart(*parts: bytes) -> bytes:
    boundary = b"=_%b" % os.urandom(16).hex().encode()
    head = b'Content-Type: multipart/alternative; boundary="%b"\r\n\r\n' % boundary
    body = b"".join(b"--%b\r\n%b\r\n" % (boundary, part) for part in parts)
    return b"%b%b--%b--\r\n" % (head, body, boundary)
