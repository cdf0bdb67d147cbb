"""SIGTERM and SIGINT of a process, owned from its first moment on, so that none is lost on the way to the server."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    Handler = Callable[[int, FrameType | None], object]


class ShutdownSignals:
    """Remembers every signal to end that comes, and passes it on as soon as somebody can act on it.

    It owns them from when it is made until the process ends: between two handlers there is no moment in which a
    signal would be swallowed, or end the process with what it accepted half done. A `fileno` that becomes
    readable with the first of them can be waited for.
    """

    def __init__(self) -> None:
        self.received: list[int] = []
        self._handler: Handler | None = None
        self._readable, self._writable = os.pipe()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._receive)

    def fileno(self) -> int:
        return self._readable

    def stop(self) -> None:
        """Do what SIGTERM does."""
        self._receive(signal.SIGTERM, None)

    @contextmanager
    def passed_to(self, handler: Handler) -> Iterator[None]:
        """Pass signals to `handler` meanwhile, first those that came before."""
        self._handler = handler
        for number in self.received[:]:
            handler(number, None)
        yield
        self._handler = None

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if not self.received:
            os.write(self._writable, b"!")
        self.received.append(number)
        if self._handler is not None:
            self._handler(number, frame)
