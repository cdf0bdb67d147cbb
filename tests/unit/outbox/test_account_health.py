"""How trouble of an account is noticed, fades, and moves what is tried."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.delivery.accounts import Target
from postroom.outbox.account_health import (
    LEAST_SHARE,
    LONGEST_PAUSE,
    LONGEST_REST,
    MOST_FAILURES_IN_A_ROW,
    fresh,
    in_cooldown,
    most_at_once,
    ordered,
    paused,
    share,
    should_drain,
    failure_rate_now,
    record_failure,
    record_success,
)
from postroom.outbox.records import AccountHealth
from postroom.receipts import Channel

NOW = 1_800_000_000.0
A, B = Target("a", "stage"), Target("b", "stage")


def fail(health, now=NOW, *, times=1, retry_after=None):
    for _ in range(times):
        health = record_failure(health, now, random.Random(1), reason="down", retry_after=retry_after)
    return health


def first_choices(healths, now=NOW, many=2000):
    """Which part of many messages goes to `a` first."""
    known = {f"{name}/email": health for name, health in healths.items()}
    firsts = [ordered([A, B], Channel.EMAIL, known, f"m{n}", now)[0].name for n in range(many)]
    return firsts.count("a") / many


def test_one_failure_alone_does_not_rest_an_account() -> None:
    assert not in_cooldown(fail(fresh("a/email")), NOW)


def test_failures_in_a_row_rest_it_and_the_rest_is_bounded() -> None:
    health = fail(fresh("a/email"), times=MOST_FAILURES_IN_A_ROW)
    assert in_cooldown(health, NOW)
    assert fail(health, times=50).cooldown_until <= NOW + LONGEST_REST


def test_every_failure_counts_once_and_the_rest_begins_with_the_third() -> None:
    healths = [fail(fresh("a/email"), times=times) for times in range(6)]
    assert [health.consecutive_failures for health in healths] == [0, 1, 2, 3, 4, 5]
    assert MOST_FAILURES_IN_A_ROW == 3
    assert [in_cooldown(health, NOW) for health in healths] == [False, False, False, True, True, True]


@pytest.mark.parametrize(("failures", "longest"), [(3, 0.25), (4, 0.5), (5, 1.0), (10, 30.0), (1000, 30.0)])
def test_a_rest_is_at_least_half_of_its_longest_which_doubles(failures: int, longest: float) -> None:
    rests = []
    for seed in range(200):
        health = AccountHealth(queue="a/email", consecutive_failures=failures - 1)
        failed = record_failure(health, NOW, random.Random(seed), reason="down", retry_after=None)
        rests.append(failed.cooldown_until - NOW)
    assert longest / 2 <= min(rests) < 0.6 * longest
    assert 0.9 * longest < max(rests) <= longest


def test_a_pause_is_a_minute_and_doubles_up_to_an_hour() -> None:
    health, pauses = fresh("a/email"), []
    for _ in range(9):
        health = paused(health, NOW, reason="bad credentials")
        pauses.append(health.cooldown_until - NOW)
    assert pauses == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]


def test_a_success_ends_the_row() -> None:
    health = record_success(fail(fresh("a/email"), times=MOST_FAILURES_IN_A_ROW - 1), NOW, 0.1)
    assert not in_cooldown(fail(health), NOW)


def test_what_the_provider_asked_for_is_kept() -> None:
    assert fail(fresh("a/email"), retry_after=120.0).cooldown_until == NOW + 120.0


def test_trouble_fades_by_half_in_thirty_seconds() -> None:
    health = fail(fresh("a/email"), times=3)
    assert failure_rate_now(health, NOW + 30) == health.failure_rate / 2


@given(st.lists(st.booleans(), max_size=60), st.floats(0, 3600))
def test_trouble_and_share_stay_within_their_bounds(answers, later) -> None:
    health = fresh("a/email")
    for good in answers:
        health = record_success(health, NOW, 0.1) if good else fail(health)
    assert 0 <= failure_rate_now(health, NOW + later) <= 1
    assert LEAST_SHARE <= share(health, NOW + later) <= 1
    assert 0 <= most_at_once(health, 50, NOW + later) <= 50


def test_an_account_in_trouble_is_tried_less_and_drifts_back() -> None:
    health = fail(fresh("a/email"), times=2)
    parts = [first_choices({"a": health}, NOW + passed) for passed in (0, 30, 60, 300)]
    assert parts == sorted(parts)
    assert parts[0] < 0.75
    assert parts[-1] > 0.98


def test_a_healthy_route_keeps_its_order() -> None:
    assert first_choices({}) == 1.0


def test_a_dead_account_still_gets_the_few_that_show_when_it_is_back() -> None:
    dead = fail(fresh("a/email"), times=30)
    assert 0.005 < first_choices({"a": dead}) < 0.05


def test_a_slow_account_gets_less_than_a_fast_one() -> None:
    slow, fast = record_success(fresh("a/email"), NOW, 8.0), record_success(fresh("b/email"), NOW, 0.1)
    assert first_choices({"a": slow, "b": fast}) < 0.2
    assert first_choices({"a": fast, "b": slow}) == 1.0


def test_a_paused_account_is_left_and_tried_later_and_later() -> None:
    health = paused(fresh("a/email"), NOW, reason="bad credentials")
    assert should_drain(health, NOW)
    assert first_choices({"a": health}) == 0.0
    longer = paused(health, NOW, reason="bad credentials")
    assert longer.cooldown_until > health.cooldown_until
    for _ in range(30):
        longer = paused(longer, NOW, reason="bad credentials")
    assert longer.cooldown_until == NOW + LONGEST_PAUSE


def test_after_a_pause_one_message_tries() -> None:
    health = paused(fresh("a/email"), NOW, reason="bad credentials")
    assert most_at_once(health, 50, NOW) == 0
    assert most_at_once(health, 50, health.cooldown_until) == 1
    assert most_at_once(record_success(health, health.cooldown_until, 0.1), 50, health.cooldown_until + 300) == 50


def test_a_clock_set_back_does_not_keep_an_account_resting() -> None:
    health = fail(fresh("a/email"), times=MOST_FAILURES_IN_A_ROW)
    assert not in_cooldown(health, NOW - 3600)


def test_the_order_of_one_message_is_the_same_whoever_asks() -> None:
    health = {"a/email": fail(fresh("a/email"), times=3)}
    orders = {tuple(t.name for t in ordered([A, B], Channel.EMAIL, health, "m1", NOW)) for _ in range(20)}
    assert len(orders) == 1
