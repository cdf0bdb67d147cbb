"""How trouble of an account is noticed, fades, and moves what is tried."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom import ConfigError, Email, MessageError, Outcome, Receipt, Scope, Status
from postroom.delivery.accounts import Target
from postroom.delivery.progress import DeliveryProgress
from postroom.outbox.account_health import (
    LEAST_SHARE,
    LONGEST_PAUSE,
    LONGEST_REST,
    MOST_FAILURES_IN_A_ROW,
    HealthSample,
    failure_rate_now,
    fresh,
    health_sample_of,
    in_cooldown,
    most_at_once,
    observed,
    ordered,
    paused,
    record_failure,
    record_success,
    refreshed,
    share,
    should_drain,
    troubled,
)
from postroom.outbox.records import AccountHealth
from postroom.receipts import Attempt, Channel

NOW = 1_800_000_000.0
A, B = Target("a", "stage"), Target("b", "stage")


def fail(health: AccountHealth, now: float = NOW, *, times: int = 1, retry_after: float | None = None) -> AccountHealth:
    for _ in range(times):
        health = record_failure(health, now, random.Random(1), reason="down", retry_after=retry_after)
    return health


def first_choices(healths: dict[str, AccountHealth], now: float = NOW, many: int = 2000) -> float:
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
def test_trouble_and_share_stay_within_their_bounds(answers: list[bool], later: float) -> None:
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


def sample(outcome: Outcome, scope: Scope = Scope.MESSAGE, **more: Any) -> HealthSample | None:
    """What an attempt that took a tenth of a second says of its account."""
    attempt = attempt_of(outcome, scope)
    return health_sample_of(None, more.get("before"), delivery_of(attempt, more.get("options", {})))


def attempt_of(outcome: Outcome, scope: Scope) -> Attempt:
    return Attempt(
        account="a",
        provider="stage",
        outcome=outcome,
        scope=scope,
        started_at=datetime(2027, 1, 1, tzinfo=UTC),
        duration=0.1,
        recipients=("ann@example.org",),
    )


def delivery_of(attempt: Attempt | None, options: dict[str, str]) -> DeliveryProgress:
    message = Email(to="ann@example.org", text="x", options=options, id="m")
    receipt = Receipt(
        id="m", channel=Channel.EMAIL, status=Status.RETRYING, account="a", attempts=(attempt,) if attempt else ()
    )
    return DeliveryProgress.resumed(message, receipt, None)


@pytest.mark.parametrize(
    ("outcome", "scope", "blamed"),
    [
        (Outcome.ACCEPTED, Scope.MESSAGE, False),
        (Outcome.PERMANENT, Scope.MESSAGE, False),
        (Outcome.TRANSIENT, Scope.MESSAGE, False),
        (Outcome.TRANSIENT, Scope.ACCOUNT, True),
        (Outcome.PERMANENT, Scope.ACCOUNT, True),
        (Outcome.ACCEPTED, Scope.ACCOUNT, False),
        (Outcome.UNKNOWN, Scope.MESSAGE, True),
    ],
)
def test_an_account_is_blamed_for_what_is_its_own_fault(outcome: Outcome, scope: Scope, blamed: bool) -> None:
    found = sample(outcome, scope)
    assert found is not None
    assert (found.latency, found.error is not None) == (0.1, blamed)


def test_what_says_nothing_of_the_account_is_no_sample() -> None:
    attempt = attempt_of(Outcome.UNKNOWN, Scope.ACCOUNT)
    assert health_sample_of(None, None, delivery_of(None, {})) is None, "nothing was tried"
    assert health_sample_of(None, attempt, delivery_of(attempt, {})) is None, "that was an earlier attempt"
    assert sample(Outcome.UNKNOWN, options={"token": "t"}) is None, "the credentials were the message's own"
    assert health_sample_of(MessageError("too long"), None, delivery_of(None, {})) is None
    unfit = ConfigError("no such option", path="options.token")
    assert health_sample_of(unfit, None, delivery_of(None, {"token": "t"})) is None, "the message's own, unfit"


def test_an_account_that_cannot_be_opened_is_blamed() -> None:
    error = ConfigError("no password")
    assert health_sample_of(error, None, delivery_of(None, {})) == HealthSample(0.0, error)


def test_samples_count_in_their_order_and_equal_ones_together() -> None:
    good, rng = HealthSample(0.1), random.Random(1)
    bad = HealthSample(0.1, attempt_of(Outcome.UNKNOWN, Scope.ACCOUNT))
    assert observed(fresh("a/email"), [bad, bad, good], NOW, rng).consecutive_failures == 0
    assert observed(fresh("a/email"), [good, bad, bad], NOW, rng).consecutive_failures == 2
    assert observed(fail(fresh("a/email"), times=2), [bad], NOW, rng).consecutive_failures == 3
    once = record_success(record_success(fail(fresh("a/email")), NOW, 0.1), NOW, 0.3)
    together = observed(fail(fresh("a/email")), [HealthSample(0.1), HealthSample(0.3)], NOW, rng)
    assert together.failure_rate == pytest.approx(once.failure_rate)
    assert together.latency == pytest.approx(0.2)


def test_refused_credentials_pause_and_anything_else_counts() -> None:
    rng = random.Random(1)
    refused = HealthSample(0.1, attempt_of(Outcome.PERMANENT, Scope.ACCOUNT))
    assert observed(fresh("a/email"), [refused], NOW, rng).paused
    assert observed(fresh("a/email"), [HealthSample(0.0, ConfigError("no"))], NOW, rng).paused
    unknown = HealthSample(0.1, attempt_of(Outcome.UNKNOWN, Scope.ACCOUNT))
    assert not observed(fresh("a/email"), [unknown], NOW, rng).paused


def test_latency_is_the_first_and_then_moves_a_fifth_of_the_way() -> None:
    first = record_success(fresh("a/email"), NOW, 1.0)
    assert first.latency == 1.0
    assert record_success(first, NOW, 2.0).latency == pytest.approx(1.2)
    assert record_success(first, NOW, 2.0, 2).latency == pytest.approx(1.36)
    assert record_success(fail(fresh("a/email")), NOW, 1.0).failure_rate == pytest.approx(0.16)


def test_only_a_rest_a_pause_or_failures_in_a_row_can_be_ended() -> None:
    assert not troubled(fresh("a/email"))
    assert not troubled(record_success(fail(fresh("a/email")), NOW, 0.1))
    for trouble in ({"paused": True}, {"consecutive_failures": 1}, {"cooldown_until": NOW}):
        health = AccountHealth(queue="a/email", latency=0.4, **trouble)
        assert troubled(health)
        assert refreshed(health) == AccountHealth(queue="a/email", latency=0.4)


def test_messages_leave_an_account_for_a_long_rest_only() -> None:
    def resting(seconds: float, **more: Any) -> AccountHealth:
        return AccountHealth(queue="a/email", observed_at=NOW, cooldown_until=NOW + seconds, **more)

    assert not should_drain(resting(1.9), NOW)
    assert should_drain(resting(2.1), NOW)
    assert should_drain(resting(0.5, consecutive_failures=3), NOW)
    assert should_drain(resting(0.5, paused=True), NOW)
    assert not should_drain(resting(0.5, consecutive_failures=2), NOW)
    assert not should_drain(resting(-1.0, consecutive_failures=9, paused=True), NOW), "its rest is over"


def test_a_rest_holds_for_a_second_on_a_clock_set_back_and_no_longer() -> None:
    health = AccountHealth(queue="a/email", observed_at=NOW, cooldown_until=NOW + 10)
    assert in_cooldown(health, NOW - 1)
    assert not in_cooldown(health, NOW - 1.1)
    assert not in_cooldown(health, NOW + 10)


def test_after_a_row_of_failures_or_a_pause_one_message_tries_and_few_are_sent_there() -> None:
    row = AccountHealth(queue="a/email", consecutive_failures=3)
    assert [most_at_once(row.model_copy(update={"consecutive_failures": n}), 50, NOW) for n in (2, 3)] == [50, 1]
    healed = AccountHealth(queue="a/email", paused=True, observed_at=NOW - 1000, cooldown_until=NOW - 1)
    assert share(healed, NOW) == LEAST_SHARE
    assert share(AccountHealth(queue="a/email"), NOW) == 1.0


def test_a_slow_account_is_one_that_takes_four_times_as_long_and_over_half_a_second() -> None:
    def at(latency: float) -> float:
        healths = {
            name: record_success(fresh(f"{name}/email"), NOW, each) for name, each in (("a", latency), ("b", 0.2))
        }
        return first_choices(healths)

    assert at(0.8) == 1.0
    assert 0.4 < at(1.6) < 0.6
    healths = {name: record_success(fresh(f"{name}/email"), NOW, each) for name, each in (("a", 0.5), ("b", 0.01))}
    assert first_choices(healths) == 1.0, "half a second is never slow"
    healths["a"] = record_success(fresh("a/email"), NOW, 0.6)
    assert first_choices(healths) < 0.2


def test_every_account_of_a_route_stays_in_its_order() -> None:
    dead = {"a/email": fail(fresh("a/email"), times=30)}
    for number in range(200):
        order = ordered([A, B], Channel.EMAIL, dead, f"m{number}", NOW)
        assert sorted(target.name for target in order) == ["a", "b"]


def test_a_rest_that_was_asked_for_is_not_shortened_by_a_later_failure() -> None:
    asked = fail(fresh("a/email"), retry_after=120.0)
    assert fail(asked, NOW + 1).cooldown_until == NOW + 120
    assert fail(asked, NOW - 3600, retry_after=5.0).cooldown_until == NOW - 3595, "its end was by a clock set back"


def test_a_paused_account_is_wholly_in_trouble_and_the_rest_of_a_trouble_is_forgotten() -> None:
    assert paused(fresh("a/email"), NOW, reason="bad credentials").failure_rate == 1.0
    faint = AccountHealth(queue="a/email", failure_rate=0.00124, observed_at=NOW)
    assert record_success(faint, NOW, 0.1).failure_rate == 0.0
    assert record_success(faint.model_copy(update={"failure_rate": 0.5}), NOW, 0.1).failure_rate == pytest.approx(0.4)


def test_concurrency_falls_with_the_square_of_what_succeeds() -> None:
    half = AccountHealth(queue="a/email", failure_rate=0.5, observed_at=NOW)
    assert most_at_once(half, 100, NOW) == 25


def test_the_reason_is_what_the_provider_said_or_else_what_the_error_is() -> None:
    rng = random.Random(1)
    attempt = attempt_of(Outcome.UNKNOWN, Scope.ACCOUNT)
    said = attempt.model_copy(update={"detail": "421 go away", "error": "provider_unavailable"})
    silent = attempt.model_copy(update={"error": "provider_unavailable"})
    assert observed(fresh("a/email"), [HealthSample(0.1, said)], NOW, rng).reason == "421 go away"
    assert observed(fresh("a/email"), [HealthSample(0.1, silent)], NOW, rng).reason == "provider_unavailable"
    assert observed(fresh("a/email"), [HealthSample(0.0, ConfigError("no password"))], NOW, rng).reason == "no password"
