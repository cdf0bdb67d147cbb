"""When a message is tried again: exponential back-off with full jitter, and what the provider asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

    from postroom.config.outbox import OutboxSettings

QUESTIONS = (5.0, 15.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0)
"""Seconds between the questions to a provider about a message in doubt; after the last one it stays in doubt."""


def backoff(settings: OutboxSettings, rounds: int, rng: random.Random, retry_after: float | None = None) -> float:
    """Return the seconds to wait after `rounds` rounds failed.

    A random time up to the bound, so that messages that failed together do not come back together.
    """
    bound = min(settings.retry_most, settings.retry_first * 2.0 ** min(max(rounds - 1, 0), 60))
    return rng.uniform(0, bound) + (retry_after or 0.0)
