"""When a message is tried again."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from postroom.config.outbox import OutboxSettings
from postroom.outbox.retry_policy import QUESTIONS, backoff

SETTINGS = OutboxSettings(retry_first=5.0, retry_most=3600.0)


@given(st.integers(1, 10_000), st.integers(0, 2**32))
def test_the_wait_is_within_the_bound_of_its_round(rounds: int, seed: int) -> None:
    bound = min(3600.0, 5.0 * 2.0 ** min(rounds - 1, 60))
    assert 0 <= backoff(SETTINGS, rounds, random.Random(seed)) <= bound


def test_waits_are_spread_over_the_whole_bound() -> None:
    rng = random.Random(1)
    waits = [backoff(SETTINGS, 4, rng) for _ in range(1000)]
    assert min(waits) < 0.5
    assert max(waits) > 38.0
    assert 18.0 < sum(waits) / len(waits) < 22.0


@given(st.floats(0, 86_400), st.integers(0, 2**32))
def test_what_the_provider_asked_for_is_never_cut_short(retry_after: float, seed: int) -> None:
    assert backoff(SETTINGS, 1, random.Random(seed), retry_after) >= retry_after


def test_a_provider_is_asked_soon_and_then_ever_later_for_about_an_hour() -> None:
    assert QUESTIONS == (5, 15, 60, 120, 300, 600, 1200, 1800)
