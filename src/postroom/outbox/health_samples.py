"""What hand-overs say of an account: answered as it should, or failed for the account's own sake."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from postroom.errors import MessageError, Outcome, PostroomError, Scope
from postroom.outbox.account_health import paused, record_failure, record_success
from postroom.outbox.records import account_of

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from postroom.delivery.progress import DeliveryProgress
    from postroom.outbox.records import AccountHealth
    from postroom.receipts import Attempt

_log = logging.getLogger("postroom.outbox")


@dataclass(frozen=True, slots=True)
class HealthSample:
    """What one hand-over says of the account: how long it took (seconds), and the error for the account's sake."""

    latency: float
    error: Attempt | PostroomError | None = None


def health_sample_of(
    refusal: PostroomError | None, before: Attempt | None, delivery: DeliveryProgress
) -> HealthSample | None:
    """What the hand-over says of the account: nothing when it was the message that could not go."""
    if refusal is not None:
        return None if isinstance(refusal, MessageError) else HealthSample(0.0, refusal)
    attempt = delivery.last_attempt
    if attempt is None or attempt is before or delivery.message.options:
        return None
    blamed = attempt.outcome is Outcome.UNKNOWN or (
        attempt.outcome is not Outcome.ACCEPTED and attempt.scope is Scope.ACCOUNT
    )
    return HealthSample(attempt.duration, attempt if blamed else None)


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
