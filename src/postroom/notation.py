"""Notation of times and rates in settings: `10s`, `3h`; `50/s`, `20/30s`, `1000/d`."""

from __future__ import annotations

import re

SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}
"""Units of time."""

_TIME = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s*(ms|s|m|h|d)", re.ASCII)
_RATE = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s*/\s*((?:[1-9]\d{0,5})?)\s*(s|m|h|d)", re.ASCII)


def read_time(text: str) -> float | None:
    """Return the seconds of `10s`, or None for what is no time."""
    found = _TIME.fullmatch(text.strip())
    return float(found[1]) * SECONDS[found[2]] if found else None


def read_rate(text: str) -> tuple[float, int] | None:
    """Return count and seconds of `20/30s`, or None for what is no rate."""
    found = _RATE.fullmatch(text.strip())
    return (float(found[1]), int(found[2] or 1) * int(SECONDS[found[3]])) if found else None
