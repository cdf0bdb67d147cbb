"""Several processes of one service on one socket: started, replaced when they die, and ended together."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import time
from multiprocessing.connection import wait
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.context import SpawnProcess

_log = logging.getLogger("postroom.gateway")

_GLANCE = 0.5
"""Seconds until a signal is noticed at the latest."""

_SHORT_LIFE = 5.0
"""Seconds a process lives at least, or the next one waits for that long: so that a fault at the start is no storm."""


class Supervisor:
    """Keeps `count` processes of `target` running until SIGTERM or SIGINT."""

    def __init__(self, target: Callable[[], None], count: int) -> None:
        self._target = target
        self._count = count
        self._ending = False
        self._running: dict[SpawnProcess, float] = {}

    def run(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)
        while not self._ending:
            self._fill_up()
            wait([process.sentinel for process in self._running], timeout=_GLANCE)
            self._bury()
        for process in self._running:
            process.terminate()
        for process in self._running:
            process.join()

    def _fill_up(self) -> None:
        while len(self._running) < self._count and not self._ending:
            process = multiprocessing.get_context("spawn").Process(target=self._target)
            process.start()
            self._running[process] = time.monotonic()

    def _bury(self) -> None:
        for process in [process for process in self._running if process.exitcode is not None]:
            lived = time.monotonic() - self._running.pop(process)
            if self._ending:
                return
            _log.error("process %s ended with %s; another takes its place", process.pid, process.exitcode)
            if lived < _SHORT_LIFE:
                time.sleep(_SHORT_LIFE - lived)

    def _end(self, number: int, frame: object) -> None:
        del number, frame
        self._ending = True
