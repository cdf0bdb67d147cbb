"""Authentication of requests to Vonage: Basic, a JWT, or a signature over the fields.

By hand, because the SDK parses the PEM key for every token (30 ms, measured with vonage-jwt 1.1.5), refuses PKCS#1
keys, and signs empty fields that it then does not send. Tests hold tokens and signatures to what the SDK makes and
checks.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from base64 import b64encode
from typing import TYPE_CHECKING
from uuid import uuid4

from postroom_vonage.private_keys import parse_private_key

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    from postroom_vonage.settings import SignatureMethod

LIFETIME = 15 * 60
"""Seconds a token is valid, as in the SDK (vonage-jwt 1.1.5)."""

RENEWED_AFTER = 10 * 60
"""Seconds after which the next request takes a new token, well before the old one ends."""


def basic(user: str, password: str) -> str:
    """Return the Authorization value for a user name and password (RFC 7617)."""
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


class Tokens:
    """Bearer tokens of one application: the key is parsed once, and a token serves for ten minutes.

    `private_key` is PEM text (PKCS#1 or PKCS#8) or the path of a PEM file; `clock` gives seconds since 1970.
    """

    def __init__(self, application_id: str, private_key: str, *, clock: Callable[[], float] = time.time) -> None:
        self._application_id = application_id
        self._private_key = private_key
        self._clock = clock
        self._key: RSAPrivateKey | None = None
        self._token = ""
        self._issued_at = float("-inf")

    async def open(self) -> None:
        """Parse the key and make the first token, off the event loop.

        Raises MissingCredential when the key cannot be read.
        """
        await asyncio.to_thread(self._make_ready)

    def authorization(self) -> str:
        """Return the Authorization value to send now."""
        now = self._clock()
        if not 0 <= now - self._issued_at < RENEWED_AFTER:
            self._issue(now)
        return f"Bearer {self._token}"

    def _make_ready(self) -> None:
        self._key = parse_private_key(self._private_key)
        self._issue(self._clock())

    def _issue(self, now: float) -> None:
        from jwt import encode  # noqa: PLC0415 - brings cryptography; only accounts with a key need it

        assert self._key
        claims = {"application_id": self._application_id, "iat": int(now), "jti": str(uuid4())}
        self._token = encode({**claims, "exp": int(now) + LIFETIME}, self._key, algorithm="RS256")
        self._issued_at = now


def signed(fields: Mapping[str, str], secret: str, method: SignatureMethod, *, timestamp: int) -> dict[str, str]:
    """Return `fields` with `timestamp` (seconds since 1970) and `sig`."""
    whole = {**fields, "timestamp": str(timestamp)}
    return {**whole, "sig": signature(whole, secret, method)}


def signature(fields: Mapping[str, str], secret: str, method: SignatureMethod) -> str:
    """Return the signature of `fields`, in hexadecimal digits.

    Source: developer.vonage.com, "Signing Messages": fields by name, `&` and `=` in values as `_`; then either the
    MD5 of that text and the secret, or an HMAC of it.
    """
    text = "".join(f"&{name}={fields[name].replace('&', '_').replace('=', '_')}" for name in sorted(fields))
    if method == "md5hash":
        return hashlib.md5((text + secret).encode(), usedforsecurity=False).hexdigest()
    return hmac.new(secret.encode(), text.encode(), method).hexdigest()
