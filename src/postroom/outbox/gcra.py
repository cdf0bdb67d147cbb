"""How many messages of a rate may start now: the generic cell rate algorithm (GCRA), over all workers.

All that is kept of a queue is the theoretical time of its next start: each start moves it on by the interval of the
rate, and it may run ahead of the clock by the burst. The functions are pure; an engine calls them within the
transaction that claims, so that workers of other processes see the same time.
"""

from __future__ import annotations

import math
from typing import NamedTuple

BURST = 0.045
"""Seconds of a rate that may start together: what a worker makes up for after it was kept waiting."""

SAFETY_FACTOR = 0.985
"""Part of an account's rate that is used, so that what the network bunches together stays within it."""

_ROUNDING = 1e-6

_SET_BACK = 1.0
"""Seconds by which a stored time may run ahead of the clock; more means that the clock was set back."""


class Allowed(NamedTuple):
    """How many may start now, and when the next one may if none can."""

    messages: int
    free_at: float


def allowed(theoretical_start: float, rate: float, now: float) -> Allowed:
    """Return what a queue at `rate` messages a second may start at `now`."""
    interval = _interval(rate)
    burst = max(interval, BURST)
    ahead = _current(theoretical_start, interval, now) - now
    count = math.floor((burst - ahead) / interval + _ROUNDING)
    return Allowed(max(count, 0), now + ahead + interval - burst)


def advanced(theoretical_start: float, rate: float, now: float, started: int) -> float:
    """Return the theoretical time of the next start after `started` messages."""
    interval = _interval(rate)
    return _current(theoretical_start, interval, now) + started * interval


def _interval(rate: float) -> float:
    return 1 / (rate * SAFETY_FACTOR)


def _current(theoretical_start: float, interval: float, now: float) -> float:
    """Never in the past, so that an idle queue saves nothing up; a clock set back must not stop it for long."""
    return now if theoretical_start > now + _SET_BACK + interval else max(now, theoretical_start)
