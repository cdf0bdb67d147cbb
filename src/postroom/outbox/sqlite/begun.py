"""What one worker has begun to hand over: a file beside the outbox that outlives the process, not the machine.

What a process has written to a file the kernel keeps when it is killed. So a mark costs no fsync, and can be made in
the very moment before the first byte: a mark in the database is on disk a whole fsync before the message leaves, and
most of what a killed worker had marked there would not have left either. After a crash of the machine the file may be
old; the boot id in it shows that, and everything that was claimed counts as begun.
"""

from __future__ import annotations

import os
import struct
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

try:
    import fcntl
except ImportError:  # Windows: no marks are kept
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    Claim = tuple[int, int]
    """A message's number and its attempt: no other claim has both."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
"""Another one after each start of the machine (https://man7.org/linux/man-pages/man4/random.4.html)."""

_MAGIC = b"postroom begun 1"
_REVOKED_AT = 56
_HEADER = 64
_MARK = struct.Struct("<qq")


def path_of_worker(outbox: Path, worker: int) -> Path:
    """Where the marks of a worker are."""
    return outbox.with_name(f"{outbox.name}-begun-{worker}")


def marked_workers(outbox: Path) -> Iterator[int]:
    """The workers whose marks are there."""
    for path in outbox.parent.glob(f"{outbox.name}-begun-*"):
        number = path.name.rpartition("-")[2]
        if number.isdecimal():
            yield int(number)


class BegunMarks:
    """The marks of one worker of this process. Where none can be kept, all it claims counts as begun.

    Whoever takes a worker's messages over revokes its marks first. Each mark is made under a lock on the file and
    after a look at whether they are revoked, so that a message is either marked for those who take over to see, or
    surely not handed over any more, however long the process was frozen in between.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._claims: dict[int, int] = {}
        self._slots: dict[int, int] = {}
        self._free: list[int] = []
        self._lock = threading.Lock()
        self._file = -1
        boot_id = _boot_id()
        if boot_id is None or fcntl is None:
            return
        try:
            self._file = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_RDWR, 0o600)
            os.write(self._file, (_MAGIC + boot_id).ljust(_HEADER, b"\0"))
        except OSError:
            self._remove()

    def claimed(self, claims: Iterable[Claim]) -> None:
        """Take note of what this worker has claimed now."""
        with self._lock:
            self._claims.update(claims)

    def add(self, claims: Collection[Claim]) -> bool:
        """Mark messages; False when one of them is not claimed, or the marks are revoked: none may be handed over."""
        with self._lock:
            for seq, attempts in claims:
                if self._claims.get(seq) != attempts:
                    return False
            try:
                return self._file < 0 or self._add(claims)
            except OSError:  # the disk is full, perhaps; without the file, all count as begun
                self._remove()
                return True

    def drop(self, seqs: Iterable[int]) -> None:
        """Forget messages that were settled, and use the room of their marks again."""
        with self._lock:
            for seq in seqs:
                self._claims.pop(seq, None)
                slot = self._slots.pop(seq, None)
                if slot is not None:
                    self._free.append(slot)

    def remove(self) -> None:
        """Remove the file."""
        with self._lock:
            self._remove()

    def close(self) -> None:
        """Leave the file as it is."""
        with self._lock:
            if self._file >= 0:
                os.close(self._file)
            self._file = -1

    def _add(self, claims: Collection[Claim]) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # somebody is revoking them
            return False
        try:
            if os.pread(self._file, 1, _REVOKED_AT) != b"\0":
                return False
            for seq, attempts in claims:
                os.pwrite(self._file, _MARK.pack(seq, attempts), _HEADER + self._slot(seq) * _MARK.size)
            return True
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def _slot(self, seq: int) -> int:
        if seq not in self._slots:  # free ones are used first, so that those in use are never more than there are
            self._slots[seq] = self._free.pop() if self._free else len(self._slots)
        return self._slots[seq]

    def _remove(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file = -1
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


def carry_over(path: Path, claims: Collection[Claim]) -> None:
    """Write marks that a worker of another outbox left; where none can be kept, all it claimed counts as begun."""
    marks = BegunMarks(path)
    marks.claimed(claims)
    marks.add(claims)
    marks.close()


def revoke(path: Path) -> set[Claim] | None:
    """Let the worker at `path` begin nothing any more; returns what it has begun, None when that cannot be known."""
    boot_id = _boot_id()
    if boot_id is None or fcntl is None:
        return None
    try:
        file = os.open(path, os.O_RDWR)
    except OSError:
        return None
    try:
        os.pwrite(file, b"x", _REVOKED_AT)
        # Frozen while it held the lock: nobody knows whether that one is marked, or comes to be.
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        content = os.pread(file, os.fstat(file).st_size, 0)
    except OSError:
        return None
    finally:
        os.close(file)
    if not content.startswith(_MAGIC + boot_id) or (len(content) - _HEADER) % _MARK.size:
        return None
    return set(_MARK.iter_unpack(content[_HEADER:]))


def _boot_id() -> bytes | None:
    try:
        return _BOOT_ID.read_bytes().strip()[: _REVOKED_AT - len(_MAGIC)]
    except OSError:
        return None
