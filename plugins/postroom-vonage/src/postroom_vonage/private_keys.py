"""Private keys of an application: PEM text from anywhere, or the path of a file from the configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from postroom.errors import MissingCredential
from postroom.plugin import read_secret_file

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

_PEM = "-----BEGIN"


def parse_private_key(text: str) -> RSAPrivateKey:
    r"""Return the key in `text`, which is PEM or the path of a PEM file.

    A PEM that came through an environment variable may have `\n` for its line ends. Raises MissingCredential.
    """
    try:
        key = _loaded(text if _PEM in text else read_secret_file(text), checked=True)
    except (OSError, ValueError, TypeError, RuntimeError):
        raise MissingCredential(
            "private_key is neither the text nor the path of an unencrypted PEM key; Vonage's dashboard makes one when "
            "you generate the application's keys"
        ) from None
    return key


def check_key_text(text: str) -> None:
    """Raise ValueError unless `text` is the PEM of an unencrypted RSA key; it names no file, whatever it says.

    Whether the numbers fit each other is left to `parse_private_key`, which takes a hundred times as long.
    """
    try:
        if _PEM not in text:
            raise ValueError("not PEM")  # noqa: TRY301 - one answer for every fault, below
        _loaded(text, checked=False)
    except (ValueError, TypeError, RuntimeError):
        raise ValueError(
            "must be the text of an unencrypted PEM key of an RSA key pair; a message names no file"
        ) from None


def _loaded(pem: str, *, checked: bool) -> RSAPrivateKey:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey  # noqa: PLC0415 - loaded when used
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415 - loaded when used

    content = pem.replace("\\n", "\n").strip().encode("ascii")
    key = load_pem_private_key(content, password=None, unsafe_skip_rsa_key_validation=not checked)
    if not isinstance(key, RSAPrivateKey):
        raise ValueError("not an RSA key")  # noqa: TRY004 - the text is wrong, whatever its type
    return key
