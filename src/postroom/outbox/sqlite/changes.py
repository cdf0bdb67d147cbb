"""When to look whether the file has changed: when the kernel says that its WAL was written, else again and again."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from postroom.outbox.sqlite.inotify import FileWatch

SHORTEST = 0.005
"""Seconds between two looks while something happens, where the kernel says nothing."""

LONGEST = 0.025
"""The same when nothing has happened for long: a message from another process waits no longer than this."""

SAFETY = 1.0
"""Seconds until the next look where the kernel would say what happens."""

SOON = 0.003
"""Seconds from a write to the first look; a commit shows only once it is synced."""

MOST_BEFORE_IT_SHOWS = 0.01
"""Seconds between two looks after a write of which no commit is to be seen yet."""


class Changes:
    """Wakes whoever waits for a change of the file whose WAL is at `wal`. `clock` gives monotonic seconds.

    A write is heard of before its commit is to be seen, since it has to be synced first: so the looks after it are
    close together, and then further and further apart. Whatever is not heard of, a look finds within `SAFETY`.
    """

    def __init__(self, wal: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._wal = wal
        self._clock = clock
        self._woken = asyncio.Event()
        self._written_at = clock()
        self._changed_at = clock()
        self._watch: FileWatch | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting = 0
        self._listening = self._pausing = False
        self._tried_at = float("-inf")

    @property
    def watching(self) -> bool:
        """Whether the kernel says when the file is written."""
        return self._watch is not None

    def wake(self) -> None:
        """Wake all in this process who wait, at once."""
        if self._waiting:
            self._woken.set()
            self._woken = asyncio.Event()

    def note(self) -> None:
        """Take note that a look has found a change."""
        self._changed_at = self._clock()

    async def wait(self) -> None:
        """Return when it is time to look again."""
        self._keep_watching()
        woken = self._woken
        self._waiting += 1
        try:
            self._listen()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pause()):
                    await woken.wait()
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Listen no more."""
        watch, self._watch = self._watch, None
        if watch is not None:
            assert self._loop
            if not self._loop.is_closed():
                self._loop.remove_reader(watch.fileno())
            watch.close()
        self._listening = self._pausing = False
        self._tried_at = float("-inf")

    def _pause(self) -> float:
        now = self._clock()
        if self._watch is None:
            return min(max((now - self._changed_at) / 100, SHORTEST), LONGEST)
        since = now - self._written_at
        pause = min(max(since / 2, SOON), SAFETY)
        to_be_seen = self._changed_at < self._written_at and since < SAFETY
        return min(pause, MOST_BEFORE_IT_SHOWS) if to_be_seen else pause

    def _keep_watching(self) -> None:
        """Have a watch in the loop that runs; where there is none, try again now and then."""
        loop = asyncio.get_running_loop()
        if self._watch is not None and self._loop is not loop:
            self.close()
        if self._watch is None and self._clock() - self._tried_at >= SAFETY:
            self._tried_at = self._clock()
            with suppress(OSError, NotImplementedError, ImportError):
                self._begin(loop)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        from postroom.outbox.sqlite.inotify import FileWatch  # noqa: PLC0415 - only for those who wait

        self._watch, self._loop = FileWatch(self._wal), loop
        self._written_at = self._changed_at = self._clock()  # something may have been written just before it listened

    def _on_written(self) -> None:
        assert self._watch
        assert self._loop
        if not self._watch.read():
            self.close()
        else:
            # Not for each of many writes: those who wait look again soon anyway.
            self._loop.remove_reader(self._watch.fileno())
            self._listening, self._pausing = False, True
            self._loop.call_later(SHORTEST, self._listen_again, self._watch)
        self._written_at = self._clock()
        self.wake()

    def _listen_again(self, watch: FileWatch) -> None:
        if watch is self._watch:
            self._pausing = False
            self._listen()

    def _listen(self) -> None:
        """Have the loop say when the file is written, as long as anybody waits: what was written before shows then."""
        if self._waiting and self._watch and self._loop and not (self._listening or self._pausing):
            try:
                self._loop.add_reader(self._watch.fileno(), self._on_written)
            except (OSError, NotImplementedError):
                self.close()
                self._tried_at = self._clock()
            else:
                self._listening = True
