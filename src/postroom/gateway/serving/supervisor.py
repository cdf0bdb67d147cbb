"""Process supervisor: several processes of one service on one socket, replaced when they die, ended together.

uvicorn's own (`uvicorn.supervisors.Multiprocess`) is not used: it starts a process that dies at its start anew twice a
second, kills one that does not answer for five seconds (which a large body may take), leaves the others behind when
it is killed itself, does not say how a process ended, and what it takes differs between the versions we support.
"""

from __future__ import annotations

import logging
import multiprocessing
import time
from multiprocessing.connection import wait
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.context import SpawnProcess

    from postroom.gateway.serving.signals import ShutdownSignals

_log = logging.getLogger("postroom.gateway")

_SHORT_LIFE = 5.0
"""Seconds a process lives at least, or the next one waits for that long: so that a fault at the start is no storm."""


class Supervisor:
    """Keeps `count` processes of `target` running until a signal to end."""

    def __init__(self, target: Callable[[], None], count: int, signals: ShutdownSignals) -> None:
        self._target = target
        self._count = count
        self._signals = signals
        self._running: dict[SpawnProcess, float] = {}
        self._start_at = 0.0

    def run(self) -> None:
        while not self._signals.received:
            pause = self._start_missing()
            wait([self._signals.fileno(), *(process.sentinel for process in self._running)], timeout=pause)
            self._remove_dead()
        for process in self._running:
            process.terminate()
        for process in self._running:
            process.join()

    def _start_missing(self) -> float | None:
        """Start what is missing, or return how long that has to wait."""
        while len(self._running) < self._count and not self._signals.received:
            pause = self._start_at - time.monotonic()
            if pause > 0:
                return pause
            process = multiprocessing.get_context("spawn").Process(target=self._target)
            process.start()
            self._running[process] = time.monotonic()
        return None

    def _remove_dead(self) -> None:
        if self._signals.received:  # it dies since it was asked to
            return
        for process in [process for process in self._running if process.exitcode is not None]:
            self._start_at = max(self._start_at, self._running.pop(process) + _SHORT_LIFE)
            _log.error("process %s ended with %s; another takes its place", process.pid, process.exitcode)
