"""How accounts do: trouble is noticed at once, fades with time, and moves what is tried and how often."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING

from postroom.outbox.records import AccountHealth, lane_of

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping, Sequence

    from postroom.accounts import Target
    from postroom.receipts import Channel

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
STRIKES = 3
"""Failures in a row, for the account's sake, after which it rests between attempts."""

LONG_REST = 2.0
"""Seconds; for less it is not worth moving messages."""

FIRST_PAUSE = 60.0
LONGEST_PAUSE = 3600.0


def fresh(lane: str) -> AccountHealth:
    """The health of an account that nothing is known of."""
    return AccountHealth(lane=lane)


def trouble_now(health: AccountHealth, now: float) -> float:
    """How much of the trouble is left."""
    passed = max(0.0, now - health.observed_at)
    return health.trouble * math.pow(0.5, passed / FADES_BY_HALF)


def well(health: AccountHealth, now: float, latency: float, times: int = 1) -> AccountHealth:
    """After hand-overs that the account answered as it should, whatever it said of the messages."""
    old = (1 - WEIGHT) ** times
    usual = latency if not health.latency else latency + old * (health.latency - latency)
    return AccountHealth(
        lane=health.lane,
        trouble=_rounded(trouble_now(health, now) * old),
        latency=usual,
        observed_at=now,
    )


def unwell(
    health: AccountHealth, now: float, dice: random.Random, *, reason: str, retry_after: float | None
) -> AccountHealth:
    """After one that failed for the account's sake: it rests when it was asked to, or failed again and again."""
    strikes = health.strikes + 1
    rest = retry_after or 0.0
    if strikes >= STRIKES:
        longest = min(LONGEST_REST, SHORTEST_REST * 2.0 ** min(strikes - STRIKES, 20))
        rest = max(rest, dice.uniform(longest / 2, longest))
    trouble = trouble_now(health, now)
    return AccountHealth(
        lane=health.lane,
        trouble=trouble + WEIGHT * (1 - trouble),
        latency=health.latency,
        strikes=strikes,
        observed_at=now,
        rests_until=max(health.rests_until if is_resting(health, now) else 0.0, now + rest),
        paused=health.paused,
        reason=reason,
    )


def paused(health: AccountHealth, now: float, *, reason: str) -> AccountHealth:
    """After the account itself was refused: one message tries again later, and later still."""
    strikes = health.strikes + 1
    rest = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(strikes - 1, 20))
    return AccountHealth(
        lane=health.lane,
        trouble=1.0,
        latency=health.latency,
        strikes=strikes,
        observed_at=now,
        rests_until=now + rest,
        paused=True,
        reason=reason,
    )


def is_resting(health: AccountHealth, now: float) -> bool:
    """Whether nothing is tried now. A clock that was set back does not make a rest longer."""
    return health.observed_at - 1 <= now < health.rests_until


def most_at_once(health: AccountHealth, at_once: int, now: float) -> int:
    """How many messages may be under way: fewer the more trouble there is, one after a row of failures."""
    if is_resting(health, now):
        return 0
    if health.paused or health.strikes >= STRIKES:
        return 1
    return max(1, round(at_once * (1 - trouble_now(health, now)) ** 2))


def ordered(
    targets: Sequence[Target], channel: Channel, known: Mapping[str, AccountHealth], message_id: str, now: float
) -> list[Target]:
    """Return a route's accounts in the order to try them.

    One in trouble keeps its place for a share of the messages only; which ones, their ids decide.
    """
    if len(targets) < 2:
        return list(targets)
    shares = _shares(targets, channel, known, now)
    kept = [t for t in targets if _draw(message_id, t.name) < shares[t.name]]
    passed_over = sorted((t for t in targets if t not in kept), key=lambda t: -shares[t.name])
    return kept + passed_over


def share(health: AccountHealth, now: float) -> float:
    """Which part of the messages meant for it an account gets."""
    if is_resting(health, now):
        return 0.0 if health.paused else LEAST_SHARE
    return LEAST_SHARE if health.paused else max(LEAST_SHARE, 1 - trouble_now(health, now))


def should_be_left(health: AccountHealth, now: float) -> bool:
    """Whether messages that wait for this account go to another of their route instead."""
    long_rest = health.rests_until - now > LONG_REST
    return is_resting(health, now) and (health.paused or health.strikes >= STRIKES or long_rest)


def _shares(
    targets: Sequence[Target], channel: Channel, known: Mapping[str, AccountHealth], now: float
) -> dict[str, float]:
    healths = {t.name: known.get(lane_of(t.name, channel)) or fresh(t.name) for t in targets}
    fastest = min((h.latency for h in healths.values() if h.latency), default=0.0)
    shares = {}
    for name, health in healths.items():
        slow = health.latency / (SLOW * fastest) if fastest and health.latency > _NOTICED else 1.0
        shares[name] = share(health, now) / max(1.0, slow)
    return shares


_NOTICED = 0.5
"""Seconds; a faster answer is never slow."""


def _rounded(trouble: float) -> float:
    return trouble if trouble > 0.001 else 0.0


def _draw(message_id: str, account: str) -> float:
    digest = hashlib.blake2b(f"{message_id} {account}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2.0**64
