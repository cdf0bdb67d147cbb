"""Files that the configuration names: read whole, if they are regular files of a size that a secret may have."""

from __future__ import annotations

import os
import stat
from pathlib import Path

LARGEST_SECRET = 65_536
"""Bytes of a file with a password or key; an RSA key of 16,384 bits takes 13 kB as PEM."""


def read_secret_file(path: str | Path) -> str:
    """Return the text of a file that the configuration names for a secret.

    Raises ValueError for what is no regular file, has more than LARGEST_SECRET bytes, or is no text, and OSError for
    what cannot be read. A device or a pipe would have no end, or nobody at its other one.
    """
    descriptor = os.open(Path(path).expanduser(), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("is not a regular file")
        content = file.read(LARGEST_SECRET + 1)
    if len(content) > LARGEST_SECRET:
        raise ValueError(f"has more than {LARGEST_SECRET:,} bytes")
    return content.decode()
