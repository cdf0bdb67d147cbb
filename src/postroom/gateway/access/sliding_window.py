"""Sliding window counters: how much was used, how much fits, and when. Pure; storage keeps them."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from postroom.config.gateway import Limit

_log = logging.getLogger("postroom.gateway")

_SLOTS = 60
"""Parts of a window that are counted as one; a count leaves the window up to a sixtieth of it too late."""


def slots_of_text(text: str | bytes) -> dict[int, int]:
    """Read back what was counted, as pairs in JSON; a count that is damaged begins anew."""
    try:
        return {int(slot): int(count) for slot, count in json.loads(text)}
    except (ValueError, TypeError):
        _log.error("what an API key used cannot be read back from the outbox, and is counted anew")
        return {}


@dataclass(slots=True)
class SlidingWindow:
    """What was counted within a limit's window, by slot: never more than the limit in any window of time."""

    limit: Limit
    slots: dict[int, int] = field(default_factory=dict)
    changed: bool = field(default=False, compare=False)
    """Whether anything was added since it was read."""

    def used(self, now: float) -> int:
        """Return what counts at `now` (Unix time)."""
        self._drop_outdated(now)
        return sum(self.slots.values())

    def remaining(self, now: float) -> int:
        return self.limit.count - self.used(now)

    def add(self, now: float, cost: int = 1) -> None:
        slot = int(now / self._width)
        self.slots[slot] = self.slots.get(slot, 0) + cost
        self.changed = True

    def free_at(self, now: float, cost: int = 1) -> float:
        """Return when `cost` more fit: `now`, a later Unix time, or infinity."""
        excess = self.used(now) + cost - self.limit.count
        if excess <= 0:
            return now
        for slot in sorted(self.slots):
            excess -= self.slots[slot]
            if excess <= 0:
                return (slot + 1) * self._width + self.limit.window
        return float("inf")

    def reserve(self, now: float, cost: int) -> float:
        """Count `cost` at the first time it fits behind all that is counted; 0 when that is now, or infinity."""
        begin = max([now, *(slot * self._width for slot in self.slots)])
        free = self.free_at(begin, cost)
        if free < float("inf"):
            self.add(free, cost)
        return free if free > now else 0.0

    def stale_at(self) -> float:
        """Return when nothing of it counts any more (Unix time)."""
        return (max(self.slots, default=0) + 2) * self._width + self.limit.window

    def slot_ends(self, now: float) -> float:
        """Return until when what is counted now is counted as one."""
        return (int(now / self._width) + 1) * self._width

    @property
    def _width(self) -> float:
        return self.limit.window / _SLOTS

    def _drop_outdated(self, now: float) -> None:
        """Drop what has left the window, and what a clock set back has put out of reach."""
        oldest = (now - self.limit.window) / self._width - 1
        newest = (now + self.limit.window) / self._width
        for slot in [slot for slot in self.slots if not oldest < slot <= newest]:
            del self.slots[slot]
