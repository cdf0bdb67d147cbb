"""Sliding windows: never more than the limit in any window of time, and the time given is the time it is free."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from postroom.config.gateway import Limit, OneLimit
from postroom.gateway.access.sliding_window import SlidingWindow

LIMITS = st.builds(Limit, st.integers(1, 8), st.sampled_from([1, 30, 60, 86_400]))


@given(LIMITS, st.lists(st.tuples(st.floats(0, 2), st.integers(1, 3)), max_size=60))
def test_no_window_of_time_ever_holds_more_than_the_limit(limit: Limit, steps: Any) -> None:
    window, now, taken = SlidingWindow(limit), 1_700_000_000.0, []
    for wait, cost in steps:
        now += wait * limit.window / 4
        if window.free_at(now, cost) <= now:
            window.add(now, cost)
            taken.append((now, cost))
    for start, _ in taken:
        assert sum(cost for at, cost in taken if start <= at < start + limit.window) <= limit.count


@given(LIMITS, st.floats(0, 1), st.integers(1, 8))
def test_at_the_time_it_names_there_is_room(limit: Limit, part: float, cost: int) -> None:
    window, now = SlidingWindow(limit), 1_700_000_000.0 + part * limit.window
    window.add(now, limit.count)
    at = window.free_at(now, cost)
    if cost > limit.count:
        assert at == float("inf")
    else:
        assert now < at <= now + limit.window * (1 + 1 / 59)
        assert window.free_at(at, cost) == at


@pytest.mark.parametrize(("now", "ends"), [(1_800_000_000.0, 1_800_000_000.5), (1_800_000_000.7, 1_800_000_001.0)])
def test_a_slot_is_a_sixtieth_of_its_window(now: float, ends: float) -> None:
    assert SlidingWindow(Limit(1, 30)).slot_ends(now) == pytest.approx(ends, abs=1e-6)


def test_a_clock_set_back_does_not_lock_anyone_out_for_longer_than_the_window() -> None:
    window = SlidingWindow(Limit(1, 30))
    window.add(1_700_000_000.0)
    assert window.free_at(1_600_000_000.0) == 1_600_000_000.0


def test_what_is_kept_does_not_grow() -> None:
    window = SlidingWindow(Limit(10**6, 30))
    for tick in range(10_000):
        window.used(1_700_000_000 + tick)
        window.add(1_700_000_000 + tick)
    assert len(window.slots) <= 62


@pytest.mark.parametrize(
    ("text", "count", "window", "again"),
    [
        ("20/30s", 20, 30, "20/30s"),
        ("100/m", 100, 60, "100/m"),
        (" 5 / 2h", 5, 7200, "5/2h"),
        ("9/1d", 9, 86400, "9/d"),
        ("1/90s", 1, 90, "1/90s"),
    ],
)
def test_a_limit_is_read_and_written(text: str, count: int, window: int, again: str) -> None:
    read = TypeAdapter(OneLimit).validate_python(text)
    assert read == Limit(count, window)
    assert str(read) == again


@pytest.mark.parametrize("text", ["20", "20/", "/s", "20/0s", "-1/s", "1/w", "x", 20.5, None])
def test_what_is_no_limit_is_refused_with_the_notation(text: str) -> None:
    with pytest.raises(ValidationError, match="20/30s"):
        TypeAdapter(OneLimit).validate_python(text)


@given(st.lists(st.tuples(st.floats(0, 40), st.integers(1, 5)), max_size=60))
def test_what_is_booked_never_flows_faster_than_the_limit_and_in_the_order_it_came(steps: Any) -> None:
    window, now, flows = SlidingWindow(Limit(5, 10)), 1_000_000.0, []
    for pause, cost in steps:
        now += pause
        free = window.reserve(now, cost)
        assert free == 0 or free > now
        flows.append((max(now, free), cost))
    times = [time for time, _ in flows]
    assert times == sorted(times)
    for time in times:
        assert sum(cost for at, cost in flows if time - 10 + 1e-6 < at <= time) <= 5


def test_what_is_larger_than_the_limit_never_fits_and_takes_no_room() -> None:
    window = SlidingWindow(Limit(5, 10))
    assert window.reserve(1_000_000.0, 6) == float("inf")
    assert window.reserve(1_000_000.0, 5) == 0


def test_a_window_is_forgotten_once_nothing_of_it_counts() -> None:
    window = SlidingWindow(Limit(5, 60))
    window.add(1_000_000.0)
    assert window.used(window.stale_at()) == 0
    assert window.stale_at() < 1_000_000.0 + 70
    window = SlidingWindow(Limit(5, 60))
    window.add(1_000_000.0)
    window.add(1_000_030.0)
    assert 1_000_030.0 + 60 < window.stale_at() < 1_000_030.0 + 70
