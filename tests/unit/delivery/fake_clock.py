"""A loop whose time is that of the next timer: hours pass in no time, and exactly."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

START = 1000.0


class _Clock(selectors.DefaultSelector):
    """Moves its time on where a real selector would wait."""

    now = START

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(timeout if timeout is None else 0)
        if timeout and not ready:
            self.now += timeout
        return ready


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._clock = _Clock()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now


def on_fake_clock(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` in such a loop, which begins at `START` seconds."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(work)
