"""The database's clock, as every machine beside it reads it: one time for all, whatever each machine's own says."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

WARN_ABOVE = 5.0
"""Seconds by which a machine's clock may differ from the database's until a log line says so."""


class ServerClock:
    """Seconds since 1970 by the database: its answer, carried on by a clock of this machine that never jumps.

    Until it was first asked, this machine's own time. `elapsed` gives seconds that only go forward.
    """

    def __init__(
        self, *, elapsed: Callable[[], float] = time.monotonic, local: Callable[[], float] = time.time
    ) -> None:
        self._elapsed = elapsed
        self._local = local
        self._ahead: float | None = None

    def __call__(self) -> float:
        """Return what the database's clock says now."""
        return self._local() if self._ahead is None else self._elapsed() + self._ahead

    def set(self, server_time: float, asked_at: float) -> None:
        """Take the database's answer, which was asked for at `asked_at` by `elapsed`: it is of the time in between."""
        self._ahead = server_time - (asked_at + self._elapsed()) / 2

    @property
    def now(self) -> float:
        """What `set` wants to know of the moment before the question."""
        return self._elapsed()

    @property
    def difference(self) -> float:
        """Seconds by which the database's clock is ahead of this machine's."""
        return self() - self._local()
