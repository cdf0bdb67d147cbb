"""Files that hold what people wrote and what accounts are opened with: for their owner only."""

from __future__ import annotations

import logging
import os
import stat
from typing import TYPE_CHECKING

from postroom.errors import OutboxError

if TYPE_CHECKING:
    from pathlib import Path

_log = logging.getLogger("postroom.outbox")

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def ensure_private(path: Path) -> None:
    """Take the rights that others have to a file away, with a warning; nothing where there is no file.

    Raises OutboxError when only somebody else may do so: what others can read, or put another one in the place of, is
    not to be trusted.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return
    if os.name != "posix" or not mode & _OTHERS:
        return
    try:
        path.chmod(mode & ~_OTHERS)
    except OSError:
        raise OutboxError(
            f"{path} is open to others (mode {mode:04o}), and this user may not change that; as its owner, "
            f"run `chmod 600 {path}`"
        ) from None
    _log.warning("%s was open to others (mode %04o); it is its owner's alone now", path, mode)
