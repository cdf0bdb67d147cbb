"""Growth of a cost with the size of an input, compared within one run: never in seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

FACTOR = 8
"""How many times larger the larger input is: what is linear costs 8 times as much, what is quadratic 64 times."""

MOST = 24.0
"""Times dearer that the larger input may be: three times what is linear, and far from what is quadratic."""


def growth(make: Callable[[int], T], work: Callable[[T], object], size: int) -> float:
    """Return how many times dearer `work` is with an input of FACTOR times `size`, made by `make`.

    In processor time of this thread, of which the least of several runs counts: what else the machine does adds to
    some of them, and takes from none.
    """
    return _cost(make(size * FACTOR), work, 2) / _cost(make(size), work, 5)


def _cost(given: T, work: Callable[[T], object], runs: int) -> float:
    def once() -> float:
        begun = time.thread_time()
        work(given)
        return time.thread_time() - begun

    return max(min(once() for _ in range(runs)), 1e-6)
