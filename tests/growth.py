"""Growth of a cost with the size of an input, compared within one run: never in seconds."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

FACTOR = 8
"""How many times larger the larger input is: what is linear costs 8 times as much, what is quadratic 64 times."""

MOST = 24.0
"""Times dearer that the larger input may be: three times what is linear, and far from what is quadratic."""

TRIES = 5
"""Of these the least growth counts: other work on the machine makes some dearer, and no quadratic one linear."""


def growth(make: Callable[[int], T], work: Callable[[T], object], size: int) -> float:
    """Return how many times dearer `work` is with an input of FACTOR times `size`, made by `make`.

    In processor time of this thread, of which the least of several runs counts: what else the machine does adds to
    some of them, and takes from none.
    """
    small, large = make(size), make(size * FACTOR)
    found = float("inf")
    for _ in range(TRIES):
        found = min(found, _cost(large, work, 2) / _cost(small, work, 5))
        if found < MOST:
            break
    return found


@contextmanager
def measured() -> Iterator[list[float]]:
    """Append the processor time that this thread spends within.

    Without the collector, which goes through all that the tests before have left when the larger input wakes it.
    """
    found: list[float] = []
    gc.disable()
    begun = time.thread_time()
    try:
        yield found
    finally:
        found.append(time.thread_time() - begun)
        gc.enable()


def _cost(given: T, work: Callable[[T], object], runs: int) -> float:
    def once() -> float:
        with measured() as spent:
            work(given)
        return spent[0]

    return max(min(once() for _ in range(runs)), 1e-6)
