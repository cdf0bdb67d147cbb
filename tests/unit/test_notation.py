"""Times and rates as settings write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.notation import SECONDS, read_rate, read_time


@pytest.mark.parametrize(
    ("text", "seconds"), [("10s", 10), ("5 m", 300), (" 3h ", 10_800), ("7d", 604_800), ("250ms", 0.25), ("1.5m", 90)]
)
def test_a_time_is_a_number_and_a_unit(text: str, seconds: float) -> None:
    assert read_time(text) == seconds


@pytest.mark.parametrize(
    ("text", "rate"), [("50/s", (50, 1)), ("100 / m", (100, 60)), ("20/30s", (20, 30)), ("0.5/d", (0.5, 86_400))]
)
def test_a_rate_is_a_count_in_a_time(text: str, rate: tuple[float, int]) -> None:
    assert read_rate(text) == rate


@pytest.mark.parametrize("text", ["", "s", "10", "10 years", "-1s", "1e3s", "١s", "10s 5s"])
def test_anything_else_is_no_time(text: str) -> None:
    assert read_time(text) is None


@pytest.mark.parametrize("text", ["", "5", "5/", "/s", "5/0s", "5/ms", "5/-1s", "fast", "5/s/s"])
def test_anything_else_is_no_rate(text: str) -> None:
    assert read_rate(text) is None


@given(st.integers(0, 999_999_999), st.integers(1, 999_999), st.sampled_from("smhd"))
def test_every_whole_rate_is_read_as_it_was_written(count: int, amount: int, unit: str) -> None:
    assert read_rate(f"{count}/{amount}{unit}") == (count, amount * SECONDS[unit])
