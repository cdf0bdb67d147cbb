"""Hear of writes to a file from the kernel (Linux, https://man7.org/linux/man-pages/man7/inotify.7.html)."""

from __future__ import annotations

import ctypes
import os
import struct
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_MODIFY, _DELETED, _MOVED, _IGNORED = 0x2, 0x400, 0x800, 0x8000
_EVENT = struct.Struct("iIII")
_BUFFER = 65_536


class FileWatch:
    """A file descriptor that is readable once the file at `path` was written.

    Raises OSError where the file is not there, or the system gives no such thing, or no more of them.
    """

    def __init__(self, path: Path) -> None:
        libc = _libc()
        self._fd: int = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        if libc.inotify_add_watch(self._fd, os.fsencode(path), _MODIFY | _DELETED | _MOVED) < 0:
            error = OSError(ctypes.get_errno(), "inotify_add_watch")
            self.close()
            raise error

    def fileno(self) -> int:
        """The descriptor to wait for."""
        return self._fd

    def read(self) -> bool:
        """Take what has happened; False when the file is not at its path any more."""
        events = b""
        try:
            while piece := os.read(self._fd, _BUFFER):
                events += piece
        except BlockingIOError:
            pass
        position = 0
        while position + _EVENT.size <= len(events):
            _, mask, _, length = _EVENT.unpack_from(events, position)
            if mask & (_DELETED | _MOVED | _IGNORED):
                return False
            position += _EVENT.size + length
        return True

    def close(self) -> None:
        """Hear no more."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


@cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "inotify_init1"):
        raise OSError("no inotify")
    return libc
