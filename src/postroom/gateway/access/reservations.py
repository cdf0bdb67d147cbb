"""Counting what may flow now and what must wait: a message above a limit gets the time when it fits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from postroom.gateway.access import sqlite

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from postroom.config.gateway import Limit
    from postroom.gateway.access.sliding_window import Window


@dataclass(frozen=True, slots=True)
class Booking:
    """`cost` to be counted against `limit`, under `name`."""

    name: str
    limit: Limit
    cost: int


def book(connection: sqlite3.Connection, key_id: str, wanted: Sequence[Sequence[Booking]], now: float) -> list[float]:
    """Count all that is wanted, in its order; for each message, the Unix time from which it fits (0: now).

    A time that is taken is taken: those who come later wait behind it. What is larger than a whole limit fits
    never (infinity).
    """
    windows: dict[tuple[str, Limit], Window] = {}
    times = []
    for bookings in wanted:
        free = 0.0
        for booking in bookings:
            place = booking.name, booking.limit
            if place not in windows:
                windows[place] = sqlite.read_window(connection, key_id, *place)
            free = max(free, windows[place].book(now, booking.cost))
        times.append(free)
    sqlite.write_windows(connection, key_id, [(name, window) for (name, _), window in windows.items()])
    sqlite.forget_windows(connection, now)
    return times
