"""Rate limiter of one account in one process: at most so many messages a second, evenly spaced."""

from __future__ import annotations

import asyncio
from collections import deque

_BURST_SECONDS = 0.05
"""Seconds of the rate that may start at once after a pause."""


class RateLimiter:
    """Spaces messages out to a rate: a burst of at most a twentieth of a second's worth, then evenly.

    A batch starts all its messages at one moment; it waits until the second it falls into has room for them.
    `per_second` is the rate in messages a second.
    """

    def __init__(self, per_second: float) -> None:
        self._interval = 1 / per_second
        self._slack = max(self._interval, _BURST_SECONDS)
        self._due = 0.0
        self._limit = per_second * 1.05 + 1
        self._second: deque[tuple[float, int]] = deque()
        self._started = 0

    async def acquire(self, messages: int = 1) -> None:
        """Wait until `messages` more may start."""
        now = asyncio.get_running_loop().time()
        start = max(self._due, now - self._slack + self._interval)
        moment = self._room_for(messages, max(start, now))
        start = moment if moment > now else start
        self._due = start + messages * self._interval
        if start > now:
            await asyncio.sleep(start - now)

    def _room_for(self, messages: int, start: float) -> float:
        """Return the first moment from `start` whose second has room for `messages` more, and take it."""
        while self._second and self._started + messages > self._limit:
            began, count = self._second.popleft()
            self._started -= count
            start = max(start, began + 1)  # what began more than a second ago puts nothing off
        self._second.append((start, messages))
        self._started += messages
        return start
