"""The rate of an account: how many messages may start, whoever starts them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.outbox.gcra import BURST, SAFETY_FACTOR, advanced, allowed

NOW = 1_800_000_000.0


def test_a_slow_rate_lets_one_start_and_then_none_until_its_interval_has_passed() -> None:
    interval = 1 / SAFETY_FACTOR
    assert allowed(0.0, 1.0, NOW).messages == 1
    start = advanced(0.0, 1.0, NOW, 1)
    assert start == pytest.approx(NOW + interval)
    soon = allowed(start, 1.0, NOW + 0.5)
    assert soon.messages == 0
    assert soon.free_at == pytest.approx(NOW + interval)
    assert allowed(start, 1.0, NOW + interval - 0.001).messages == 0
    assert allowed(start, 1.0, NOW + interval).messages == 1


def test_a_fast_rate_lets_a_burst_start_together() -> None:
    rate = 1000.0
    burst = int(BURST * rate * SAFETY_FACTOR)
    assert burst == 44
    assert allowed(0.0, rate, NOW).messages == burst
    start = advanced(0.0, rate, NOW, burst)
    assert allowed(start, rate, NOW).messages == 0
    assert allowed(start, rate, NOW).free_at == pytest.approx(NOW, abs=2 / rate)
    assert allowed(start, rate, NOW + 10 / (rate * SAFETY_FACTOR)).messages == 10


def test_what_was_started_partly_leaves_the_rest_of_the_burst() -> None:
    start = advanced(0.0, 1000.0, NOW, 40)
    assert allowed(start, 1000.0, NOW).messages == 4


def test_an_idle_queue_saves_nothing_up() -> None:
    start = advanced(NOW - 3600, 100.0, NOW, 1)
    assert start == pytest.approx(NOW + 1 / (100 * SAFETY_FACTOR))
    assert allowed(NOW - 3600, 100.0, NOW) == allowed(0.0, 100.0, NOW)


def test_a_clock_that_was_set_back_stops_nothing_for_long() -> None:
    start = advanced(0.0, 1.0, NOW, 1)
    assert allowed(start, 1.0, NOW - 3600).messages == 1
    assert allowed(start, 1.0, NOW - 0.999).messages == 0, "that little is no clock set back"
    assert allowed(start, 1.0, NOW - 1.001).messages == 1
    assert advanced(start, 1.0, NOW - 3600, 1) < NOW


@given(st.floats(0.1, 2000.0), st.lists(st.floats(0.0, 2.0), min_size=1, max_size=60))
def test_no_second_has_more_starts_than_its_rate_and_a_burst(rate: float, pauses: list[float]) -> None:
    start, now, starts = 0.0, NOW, []
    for pause in pauses:
        now += pause
        free = allowed(start, rate, now).messages
        if free:
            start = advanced(start, rate, now, free)
            starts += [now] * free
    burst = max(1.0, BURST * rate)
    for begin in set(starts):
        assert sum(begin <= at < begin + 1 for at in starts) <= rate + burst


@given(st.floats(0.1, 2000.0), st.integers(0, 500), st.floats(0.0, 3.0))
def test_when_a_queue_is_said_to_be_free_it_is(rate: float, started: int, later: float) -> None:
    start = advanced(0.0, rate, NOW, started)
    asked = allowed(start, rate, NOW + later)
    if not asked.messages and asked.free_at > NOW + later:
        assert allowed(start, rate, asked.free_at + 1e-5).messages >= 1
