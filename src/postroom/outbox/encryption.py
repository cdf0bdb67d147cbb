"""Credentials that messages bring, encrypted as long as they lie in the outbox (AES-256-GCM)."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from postroom.errors import ConfigError, MissingCredential, OutboxError, PostroomError
from postroom.outbox.private_files import ensure_private

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_VARIABLE = "POSTROOM_SECRET_KEY"
SHORTEST_KEY = 32
_NONCE = 12
"""Bytes (NIST SP 800-38D section 8.2)."""


class CredentialCipher:
    """Encrypts and decrypts credentials with one key: that of POSTROOM_SECRET_KEY, else of `key_file`.

    The file is made when it is first needed, readable by its owner only.
    """

    def __init__(self, key_file: Path) -> None:
        self._file = key_file
        self._key: bytes | None = None

    def encrypt(self, options: Mapping[str, str], message_id: str) -> bytes:
        """Encrypt `options` for this message alone."""
        nonce = os.urandom(_NONCE)
        text = json.dumps(dict(options)).encode()
        return nonce + _cipher(self._material(make=True)).encrypt(nonce, text, message_id.encode())

    def decrypt(self, sealed: bytes, message_id: str) -> dict[str, str]:
        """Decrypt; raises OutboxError when the key is not the one it was encrypted with."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - only messages with credentials need it

        try:
            text = _cipher(self._material(make=False)).decrypt(sealed[:_NONCE], sealed[_NONCE:], message_id.encode())
        except InvalidTag:
            raise OutboxError(
                f"message {message_id}: its credentials cannot be decrypted; give {KEY_VARIABLE} the value it had when "
                f"the message was accepted, or put {self._file} back, and let it go: postroom outbox retry {message_id}"
            ) from None
        found: dict[str, str] = json.loads(text)
        return found

    def _material(self, *, make: bool) -> bytes:
        if self._key is None:
            self._key = _key_of_environment() or self._key_of_file(make=make)
        return self._key

    def opened(self, encrypted: bytes | None, message_id: str) -> tuple[dict[str, str], PostroomError | None]:
        """Return a message's credentials, or the error of a key that is missing or another one."""
        try:
            return (self.decrypt(encrypted, message_id) if encrypted else {}), None
        except PostroomError as error:
            return {}, error

    def _key_of_file(self, *, make: bool) -> bytes:
        if make:
            self._make_file()
            # Whoever made it: without its name on disk, what is encrypted now could not be read after a crash.
            sync_folder(self._file)
        ensure_private(self._file)
        try:
            text = self._file.read_text(encoding="ascii").strip()
        except OSError as error:
            raise MissingCredential(
                f"the key for stored credentials is missing ({self._file}: {error.strerror}); put the file back, or "
                f"set {KEY_VARIABLE}"
            ) from error
        return hashlib.sha256(text.encode()).digest()

    def _make_file(self) -> None:
        """Write a fresh key in one step, so that two processes cannot end up with two."""
        if self._file.exists():
            return
        fresh = self._file.with_name(f"{self._file.name}.{os.getpid()}.{os.urandom(4).hex()}")
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(os.urandom(32).hex() + "\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            self._file.hardlink_to(fresh)
        fresh.unlink()


def sync_folder(path: Path) -> None:
    """Have the name of a new file on disk (fsync of its folder), where the system has that."""
    if os.name != "posix":
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class SharedKeyCipher(CredentialCipher):
    """Encrypts with the key of POSTROOM_SECRET_KEY alone: machines that share an outbox share no file."""

    def __init__(self) -> None:
        super().__init__(Path())

    def _key_of_file(self, *, make: bool) -> bytes:
        del make
        raise MissingCredential(
            f"credentials in an outbox that machines share are encrypted with one key for all: set {KEY_VARIABLE} to "
            "the same text everywhere, such as `openssl rand -hex 32` prints"
        )


def _key_of_environment() -> bytes | None:
    text = os.environ.get(KEY_VARIABLE, "")
    if not text:
        return None
    if len(text) < SHORTEST_KEY:
        raise ConfigError(
            f"must be at least {SHORTEST_KEY} characters that cannot be guessed, such as `openssl rand -hex 32` prints",
            path=KEY_VARIABLE,
        )
    return hashlib.sha256(text.encode()).digest()


def _cipher(key: bytes) -> AESGCM:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - see above
    except ImportError as error:
        raise ConfigError(
            "messages with credentials of their own are stored encrypted, which needs the package cryptography: "
            "pip install 'postroom[outbox]'"
        ) from error
    return AESGCM(key)
