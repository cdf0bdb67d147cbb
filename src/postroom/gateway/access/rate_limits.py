"""How much a key may do: requests and messages within their windows, kept where all processes see them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal
from weakref import WeakValueDictionary

from postroom.gateway.access import sqlite

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from postroom.config.gateway import GatewaySettings, Limit
    from postroom.gateway.access.sliding_window import Window

Counted = Literal["requests", "messages"]

_LOTS = 2000
"""A limit of 2,000 or more is taken in lots, so that not every request writes: what is left of a lot is lost."""


@dataclass(frozen=True, slots=True)
class Granted:
    """Yes: `remaining` more of `limit` at the moment; `lot` were taken, good until `until` (Unix time)."""

    limit: Limit
    remaining: int
    lot: int
    until: float


@dataclass(frozen=True, slots=True)
class Denied:
    """No: `limit` is used up until `free_at` (Unix time, or infinity). This refusal may have marked the key."""

    limit: Limit
    free_at: float
    flagged: bool = False
    suspended: bool = False


@dataclass(frozen=True, slots=True)
class Ask:
    """`cost` requests or messages of a key, at the Unix time `now`."""

    key_id: str
    counted: Counted
    cost: int
    now: float


def limits_of(settings: GatewaySettings, counted: Counted) -> Sequence[Limit]:
    return settings.rate_limit if counted == "requests" else settings.message_limit


def take(connection: sqlite3.Connection, ask: Ask, settings: GatewaySettings) -> Granted | Denied:
    """Count against every limit of a key, or none; a refusal is counted too and may flag or suspend the key.

    There must be a limit.
    """
    limits, now, cost = limits_of(settings, ask.counted), ask.now, ask.cost
    windows = [sqlite.read_window(connection, ask.key_id, ask.counted, limit) for limit in limits]
    times = [window.free_at(now, cost) for window in windows]
    latest = max(range(len(times)), key=times.__getitem__)
    if times[latest] > now:
        return _denied(connection, ask, settings, Denied(limits[latest], times[latest]))
    lot = max(cost, _lot(windows, now))
    for window in windows:
        window.add(now, lot)
    sqlite.write_windows(connection, ask.key_id, [(ask.counted, window) for window in windows])
    tightest = min(windows, key=lambda window: window.limit.count - window.used(now))
    until = min(window.slot_ends(now) for window in windows)
    return Granted(tightest.limit, tightest.limit.count - tightest.used(now), lot, until)


def _lot(windows: Sequence[Window], now: float) -> int:
    return min(min(window.limit.count // _LOTS, window.limit.count - window.used(now)) for window in windows)


def _denied(connection: sqlite3.Connection, ask: Ask, settings: GatewaySettings, denied: Denied) -> Denied:
    marks: list[bool] = []
    refusals = []
    for name, threshold in (("flag", settings.flag_after), ("suspend", settings.suspend_after)):
        window = sqlite.read_window(connection, ask.key_id, name, threshold)
        window.add(ask.now)
        refusals.append((name, window))
        reached = window.used(ask.now) >= threshold.count
        marks.append(reached and sqlite.mark_key(connection, ask.key_id, ask.now, suspend=name == "suspend"))
    sqlite.write_windows(connection, ask.key_id, refusals)
    return replace(denied, flagged=marks[0], suspended=marks[1])


class TokenBatches:
    """What this process has taken and not used yet, by key."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lots: dict[tuple[str, Counted], tuple[Granted, int]] = {}
        self._turns: WeakValueDictionary[tuple[str, Counted], asyncio.Lock] = WeakValueDictionary()

    def use(self, key_id: str, counted: Counted, cost: int) -> Granted | None:
        """Use some of a lot, if there is one that is still good and large enough."""
        held = self._lots.get((key_id, counted))
        if held is None:
            return None
        granted, left = held
        if left < cost or self._clock() >= granted.until:
            del self._lots[key_id, counted]
            return None
        self._lots[key_id, counted] = (granted, left - cost)
        return granted

    def keep(self, ask: Ask, granted: Granted) -> None:
        """Keep what is left of a lot that `ask` took."""
        if granted.lot > ask.cost:
            self._lots[ask.key_id, ask.counted] = (granted, granted.lot - ask.cost)

    def turn(self, key_id: str, counted: Counted) -> AbstractAsyncContextManager[object]:
        """Wait for whoever is taking a lot for the same key: there may be enough for all in it."""
        return self._turns.setdefault((key_id, counted), asyncio.Lock())
