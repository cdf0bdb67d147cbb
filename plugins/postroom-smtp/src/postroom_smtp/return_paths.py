"""Return paths: an envelope sender of its own for each message (VERP), signed, so that a bounce shows what it is about.

RFC 3464 section 4 warns that delivery reports can be forged, and RFC 5965 section 8 the same of complaints. A bounce
goes to the envelope sender: where that is `bounces+TOKEN@example.org`, and the token holds the message's id and a MAC
of it, only those whom the message passed know it, and nobody can make one up.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import b32decode, b32encode
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_ID = re.compile(r"[0-9a-f]{32}")
_ID_BYTES, _MAC_BYTES = 16, 10
"""The ids that postroom gives, and 80 bits of the MAC: guesses must be posted one by one."""

_TOKEN = 42
"""Characters of a token: base32, since some servers change the case of a local part."""

LONGEST_LOCAL_PART = 64
"""Octets (RFC 5321 section 4.5.3.1.1)."""

LONGEST_NAME = LONGEST_LOCAL_PART - _TOKEN - 1
"""Characters that may stand before the `+` of a return path."""


class ReturnPaths:
    """Makes and checks the return paths below one address; `secret` is known to this service alone."""

    def __init__(self, address: str, secret: str) -> None:
        self.address = address
        self._name, _, self._domain = address.rpartition("@")
        self._secret = secret.encode()
        name, domain = re.escape(self._name), re.escape(self._domain)
        self._pattern = re.compile(rf"(?<![^\s<,;:]){name}\+([a-z2-7]{{{_TOKEN}}})@{domain}(?![\w.\-])", re.IGNORECASE)

    def path_for(self, message_id: str | None) -> str:
        """Return the envelope sender of a message; the address itself for an id that postroom did not give."""
        if message_id is None or not _ID.fullmatch(message_id):
            return self.address
        id_bytes = bytes.fromhex(message_id)
        token = b32encode(id_bytes + self._mac(id_bytes)).decode().rstrip("=").lower()
        return f"{self._name}+{token}@{self._domain}"

    def message_id(self, fields: Iterable[str]) -> str | None:
        """Return the id of the message whose return path stands in one of `fields`; None where none holds."""
        for field in fields:
            for token in self._pattern.findall(field):
                content = b32decode(token.upper() + "=" * (-_TOKEN % 8))
                id_bytes, mac = content[:_ID_BYTES], content[_ID_BYTES:]
                if hmac.compare_digest(mac, self._mac(id_bytes)):
                    return id_bytes.hex()
        return None

    def _mac(self, id_bytes: bytes) -> bytes:
        return hmac.new(self._secret, b"return path\0" + id_bytes, hashlib.sha256).digest()[:_MAC_BYTES]
