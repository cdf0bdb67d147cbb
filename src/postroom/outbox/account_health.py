"""How accounts do (a circuit breaker): failures show at once, fade with time, and move what is tried and how often."""

from __future__ import annotations

import hashlib
import logging
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING

from postroom.errors import MessageError, Outcome, PostroomError, Scope
from postroom.outbox.records import AccountHealth, account_of, queue_of
from postroom.receipts import Attempt

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping, Sequence

    from postroom.delivery.accounts import Target
    from postroom.delivery.failover import Order
    from postroom.delivery.progress import DeliveryProgress
    from postroom.messages import Message
    from postroom.receipts import Channel

_log = logging.getLogger("postroom.outbox")

FADES_BY_HALF = 30.0
"""Seconds after which half of an account's trouble is forgotten."""

WEIGHT = 0.2
"""How much one hand-over counts against all before it."""

LEAST_SHARE = 0.02
"""Part of the messages that go to an account in trouble all the same, so that it shows when that has ended."""

SLOW = 4.0
"""An account this many times slower than the fastest of its route gets less."""

LONGEST_REST = 30.0
SHORTEST_REST = 0.25
MOST_FAILURES_IN_A_ROW = 3
"""Failures in a row, for the account's sake, after which it rests between attempts."""

LONG_REST = 2.0
"""Seconds; for less it is not worth moving messages."""

FIRST_PAUSE = 60.0
LONGEST_PAUSE = 3600.0


@dataclass(frozen=True, slots=True)
class HealthSample:
    """What one hand-over says of the account: how long it took (seconds), and the error for the account's sake."""

    latency: float
    error: Attempt | PostroomError | None = None


def health_sample_of(
    skipped: PostroomError | None, before: Attempt | None, delivery: DeliveryProgress
) -> HealthSample | None:
    """What the hand-over says of the account: nothing when it was the message that could not go.

    Nor when the message brought the credentials: whoever wrote them would stop everybody else's messages.
    """
    if delivery.message.options:
        return None
    if skipped is not None:
        return None if isinstance(skipped, MessageError) else HealthSample(0.0, skipped)
    attempt = delivery.last_attempt
    if attempt is None or attempt is before:
        return None
    blamed = attempt.outcome is Outcome.UNKNOWN or (
        attempt.outcome is not Outcome.ACCEPTED and attempt.scope is Scope.ACCOUNT
    )
    return HealthSample(attempt.duration, attempt if blamed else None)


def unanswered(target: Target, timeout: float, since: float, now: float) -> HealthSample | None:
    """What a hand-over says of the account that still waits for an answer, more than `timeout` seconds later."""
    seconds = now - since
    if seconds <= timeout:
        return None
    attempt = Attempt(
        account=target.name,
        provider=target.provider,
        outcome=Outcome.UNKNOWN,
        started_at=datetime.fromtimestamp(since, UTC),
        duration=seconds,
        detail=f"no answer for more than {timeout:g} s",
    )
    return HealthSample(seconds, attempt)


def observed(health: AccountHealth, samples: Sequence[HealthSample], now: float, rng: random.Random) -> AccountHealth:
    """Return the account's health after hand-overs, in the order they ended."""
    for failed, group in groupby(samples, lambda sample: sample.error is not None):
        alike = list(group)
        if not failed:
            health = record_success(health, now, sum(sample.latency for sample in alike) / len(alike), len(alike))
        for error in (sample.error for sample in alike):
            if error is not None:
                health = _after_failure(health, error, now, rng)
    return health


def fresh(queue: str) -> AccountHealth:
    """The health of an account without a history."""
    return AccountHealth(queue=queue)


def troubled(health: AccountHealth) -> bool:
    """Whether there is a rest, a pause or a row of failures to end."""
    return health.paused or health.consecutive_failures > 0 or health.cooldown_until > 0


def refreshed(health: AccountHealth) -> AccountHealth:
    """The health of an account that a person says works again."""
    return AccountHealth(queue=health.queue, latency=health.latency)


def failure_rate_now(health: AccountHealth, now: float) -> float:
    """How much of the trouble is left."""
    passed = max(0.0, now - health.observed_at)
    return health.failure_rate * math.pow(0.5, passed / FADES_BY_HALF)


def record_success(health: AccountHealth, now: float, latency: float, times: int = 1) -> AccountHealth:
    """After hand-overs that the account answered as it should, whatever it said of the messages."""
    old = (1 - WEIGHT) ** times
    usual = latency if not health.latency else latency + old * (health.latency - latency)
    return AccountHealth(
        queue=health.queue,
        failure_rate=_rounded(failure_rate_now(health, now) * old),
        latency=usual,
        observed_at=now,
    )


def record_failure(
    health: AccountHealth, now: float, rng: random.Random, *, reason: str, retry_after: float | None
) -> AccountHealth:
    """After one that failed for the account's sake: it rests when it was asked to, or failed again and again."""
    consecutive_failures = health.consecutive_failures + 1
    rest = retry_after or 0.0
    if consecutive_failures >= MOST_FAILURES_IN_A_ROW:
        longest = min(LONGEST_REST, SHORTEST_REST * 2.0 ** min(consecutive_failures - MOST_FAILURES_IN_A_ROW, 20))
        rest = max(rest, rng.uniform(longest / 2, longest))
    failure_rate = failure_rate_now(health, now)
    return AccountHealth(
        queue=health.queue,
        failure_rate=failure_rate + WEIGHT * (1 - failure_rate),
        latency=health.latency,
        consecutive_failures=consecutive_failures,
        observed_at=now,
        cooldown_until=max(health.cooldown_until if in_cooldown(health, now) else 0.0, now + rest),
        paused=health.paused,
        reason=reason,
    )


def paused(health: AccountHealth, now: float, *, reason: str) -> AccountHealth:
    """After the account itself was refused: one message tries again later, and later still."""
    consecutive_failures = health.consecutive_failures + 1
    rest = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(consecutive_failures - 1, 20))
    return AccountHealth(
        queue=health.queue,
        failure_rate=1.0,
        latency=health.latency,
        consecutive_failures=consecutive_failures,
        observed_at=now,
        cooldown_until=now + rest,
        paused=True,
        reason=reason,
    )


def in_cooldown(health: AccountHealth, now: float) -> bool:
    """Whether nothing is tried now. A clock that was set back does not make a rest longer."""
    return health.observed_at - 1 <= now < health.cooldown_until


def most_at_once(health: AccountHealth, at_once: int, now: float) -> int:
    """How many messages may be under way: fewer the more trouble there is, one after a row of failures."""
    if in_cooldown(health, now):
        return 0
    if health.paused or health.consecutive_failures >= MOST_FAILURES_IN_A_ROW:
        return 1
    return max(1, round(at_once * (1 - failure_rate_now(health, now)) ** 2))


def ordered(
    targets: Sequence[Target], channel: Channel, health: Mapping[str, AccountHealth], message_id: str, now: float
) -> list[Target]:
    """Return a route's accounts in the order to try them.

    One in trouble keeps its place for a share of the messages only; which ones, their ids decide.
    """
    if len(targets) < 2:
        return list(targets)
    shares = _shares(targets, channel, health, now)
    kept = [t for t in targets if _draw(message_id, t.name) < shares[t.name]]
    passed_over = sorted((t for t in targets if t not in kept), key=lambda t: -shares[t.name])
    return kept + passed_over


def order_by_health(health: Mapping[str, AccountHealth], now: float) -> Order:
    """Return the order that `ordered` gives, for those who know neither health nor time."""

    def order(targets: Sequence[Target], message: Message) -> Sequence[Target]:
        return ordered(targets, message.channel_name, health, message.id or "", now)

    return order


def share(health: AccountHealth, now: float) -> float:
    """Which part of the messages meant for it an account gets."""
    if in_cooldown(health, now):
        return 0.0 if health.paused else LEAST_SHARE
    return LEAST_SHARE if health.paused else max(LEAST_SHARE, 1 - failure_rate_now(health, now))


def should_drain(health: AccountHealth, now: float) -> bool:
    """Whether messages that wait for this account go to another of their route instead."""
    long_rest = health.cooldown_until - now > LONG_REST
    return in_cooldown(health, now) and (
        health.paused or health.consecutive_failures >= MOST_FAILURES_IN_A_ROW or long_rest
    )


def _after_failure(
    health: AccountHealth, error: Attempt | PostroomError, now: float, rng: random.Random
) -> AccountHealth:
    retry_after = getattr(error, "retry_after", None)
    reason = getattr(error, "detail", None) or str(getattr(error, "error", None) or error)
    if isinstance(error, PostroomError) or error.outcome is Outcome.PERMANENT:
        if not health.paused:
            _log.error(
                "account %s is paused: %s; its messages wait, or go another way", account_of(health.queue), reason
            )
        return paused(health, now, reason=reason)
    return record_failure(health, now, rng, reason=reason, retry_after=retry_after)


def _shares(
    targets: Sequence[Target], channel: Channel, health: Mapping[str, AccountHealth], now: float
) -> dict[str, float]:
    by_name = {t.name: health.get(queue_of(t.name, channel)) or fresh(t.name) for t in targets}
    fastest = min((each.latency for each in by_name.values() if each.latency), default=0.0)
    shares = {}
    for name, each in by_name.items():
        slow = each.latency / (SLOW * fastest) if fastest and each.latency > _NOTICED else 1.0
        shares[name] = share(each, now) / max(1.0, slow)
    return shares


_NOTICED = 0.5
"""Seconds; a faster answer is never slow."""


def _rounded(failure_rate: float) -> float:
    return failure_rate if failure_rate > 0.001 else 0.0


def _draw(message_id: str, account: str) -> float:
    digest = hashlib.blake2b(f"{message_id} {account}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2.0**64
