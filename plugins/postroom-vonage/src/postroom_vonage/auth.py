"""How a request to Vonage proves who sends it: Basic, a JWT, or a signature over the fields.

The SDK's own JWT client parses the PEM key on every request (30 ms of CPU, measured with vonage-jwt 1.1.5) and its
signing covers fields that are then not sent; tests hold ours to what the SDK makes and checks.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from postroom.errors import MissingCredential

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

    from postroom_vonage.settings import SignatureMethod

LIFETIME = 15 * 60
"""Seconds a token is valid: developer.vonage.com, "JSON Web Tokens (JWTs)"."""

RENEWED_AFTER = 10 * 60
"""Seconds after which the next request takes a new token, well before the old one ends."""


def basic(key: str, secret: str) -> str:
    """Return the Authorization value for an API key and secret."""
    return "Basic " + b64encode(f"{key}:{secret}".encode()).decode()


class Tokens:
    """Bearer tokens of one application: the key is parsed once, a token serves for ten minutes."""

    def __init__(self, application_id: str, private_key: str, *, clock: Callable[[], float] = time.time) -> None:
        self._application_id = application_id
        self._pem = private_key
        self._clock = clock
        self._key: PrivateKeyTypes | None = None
        self._token = ""
        self._issued_at = float("-inf")

    async def open(self) -> None:
        """Parse the key, off the event loop. Raises MissingCredential when it cannot be read."""
        self._key = await asyncio.to_thread(_parsed, self._pem)

    def authorization(self) -> str:
        """Return the Authorization value to send now."""
        now = self._clock()
        if not 0 <= now - self._issued_at < RENEWED_AFTER:
            self._token, self._issued_at = self._issued(int(now)), now
        return f"Bearer {self._token}"

    def _issued(self, now: int) -> str:
        from jwt import encode  # noqa: PLC0415 - loaded when first used

        claims = {"application_id": self._application_id, "iat": now, "jti": str(uuid4()), "exp": now + LIFETIME}
        return encode(claims, self._key, algorithm="RS256", headers={"typ": "JWT"})  # type: ignore[arg-type] # RSA


def signed(fields: dict[str, str], secret: str, method: SignatureMethod) -> dict[str, str]:
    """Return `fields` with `timestamp` and `sig`: developer.vonage.com, "Signing Messages"."""
    whole = {**fields, "timestamp": str(int(time.time()))}
    text = "".join(f"&{name}={_plain(whole[name])}" for name in sorted(whole))
    if method == "md5hash":
        whole["sig"] = hashlib.md5((text + secret).encode(), usedforsecurity=False).hexdigest()
    else:
        whole["sig"] = hmac.new(secret.encode(), text.encode(), method).hexdigest()
    return whole


def _plain(value: str) -> str:
    return value.replace("&", "_").replace("=", "_")


def _parsed(pem: str) -> PrivateKeyTypes:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey  # noqa: PLC0415 - loaded when used
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415 - loaded when used

    try:
        text = pem if "-----BEGIN" in pem else Path(pem).read_text(encoding="ascii")
        key = load_pem_private_key(text.replace("\\n", "\n").encode(), password=None)
    except (OSError, ValueError, TypeError):
        raise MissingCredential(
            "private_key is neither the text nor the path of an unencrypted PEM key; get it from Vonage's dashboard"
        ) from None
    if not isinstance(key, RSAPrivateKey):
        raise MissingCredential("private_key must be an RSA key, as Vonage's dashboard makes them")
    return key
