"""Rate limits of an API key: requests and messages within sliding windows, shared by all processes."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal
from weakref import WeakValueDictionary

from postroom.gateway.access.keys import key_suspended
from postroom.gateway.access.storage import Counter
from postroom.gateway.http.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from postroom.config.gateway import GatewaySettings, Limit
    from postroom.gateway.access.keys import ApiKey
    from postroom.gateway.access.sliding_window import SlidingWindow
    from postroom.gateway.access.storage import AccessStorage

Unit = Literal["requests", "messages"]

_log = logging.getLogger("postroom.gateway")

_BATCHES = 2000
"""A limit of 2,000 or more is taken in batches, so that not every request writes: what is left of one is lost."""

MOST_REPEATED = 25
REPEATED_FOR = 1.0
"""How often, and for how many seconds, a process refuses a key without a look at what others have counted."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """The decision "yes": `remaining` more of `limit` now; `tokens` were taken, good until `until` (Unix time)."""

    limit: Limit
    remaining: int
    tokens: int
    until: float


@dataclass(frozen=True, slots=True)
class Exceeded:
    """The decision "no": `limit` is used up until `free_at` (Unix time, or infinity).

    `flag` and `suspend` say whether the key has been over its limits often enough for that; `spare` how many more
    times change neither.
    """

    limit: Limit
    free_at: float
    flag: bool
    suspend: bool
    spare: int


class RateLimiter:
    """Counts what a key does against its limits; a key that goes on regardless is flagged, then suspended."""

    def __init__(
        self, storage: AccessStorage, settings: GatewaySettings, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._storage = storage
        self._settings = settings
        self._clock = clock
        self._batches = TokenBatches(clock)
        self._overruns = KnownOverruns(clock)

    async def consume(self, key: ApiKey, unit: Unit, cost: int = 1) -> dict[str, str]:
        """Count `cost` requests or messages; return the RateLimit headers, none when nothing limits them.

        Raises ApiError: 429 with the time to come again, 413 for more than a limit ever allows, 403 when this
        was once too often.
        """
        limits = self._settings.rate_limit if unit == "requests" else self._settings.message_limit
        if not limits:
            return {}
        decision = self._known(key, unit, cost)
        if decision is None:
            async with self._batches.lock(key.id, unit):
                decision = self._known(key, unit, cost) or await self._decide(key, unit, limits, cost)
        if isinstance(decision, Exceeded):
            raise await self._over_limit(key, unit, decision)
        return _rate_headers(decision)

    def _known(self, key: ApiKey, unit: Unit, cost: int) -> Allowed | Exceeded | None:
        """The decision, where it needs no look into the storage."""
        return self._batches.use(key.id, unit, cost) or self._overruns.repeat(key, unit, cost)

    async def _decide(self, key: ApiKey, unit: Unit, limits: Sequence[Limit], cost: int) -> Allowed | Exceeded:
        now, unwritten = self._clock(), self._overruns.unwritten(key.id, unit)
        thresholds = Counter("flag", self._settings.flag_after), Counter("suspend", self._settings.suspend_after)
        counters = [*(Counter(unit, limit) for limit in limits), *thresholds]
        decision = await self._storage.update_windows(
            key.id, counters, lambda windows: decide(windows, now, cost, unwritten=unwritten)
        )
        if isinstance(decision, Allowed):
            self._overruns.forget(key.id, unit)
            self._batches.keep(key.id, unit, decision, cost)
        else:
            self._overruns.keep(key, unit, cost, decision)
        return decision

    async def _over_limit(self, key: ApiKey, unit: Unit, exceeded: Exceeded) -> ApiError:
        """Mark the key if it has earned it, and return what its caller is told."""
        now = self._clock()
        if exceeded.suspend:
            if await self._storage.mark_key(key.id, "suspended", now):
                _log.warning("key %s (%s) went on over its limit and was suspended", key.id, key.name)
            return key_suspended()
        flagged = exceeded.flag or key.flagged_at is not None
        if exceeded.flag and key.flagged_at is None and await self._storage.mark_key(key.id, "flagged", now):
            _log.warning("key %s (%s) goes on over its limit: flagged for suspension", key.id, key.name)
        if math.isinf(exceeded.free_at):
            return ApiError(
                413, "too_large", f"This is more than {exceeded.limit} {unit} ever allow; send less at once."
            )
        return _too_many(exceeded, unit, now, flagged=flagged, explained_at=f"{self._settings.public_url or ''}/docs")


def decide(windows: Sequence[SlidingWindow], now: float, cost: int, *, unwritten: int = 0) -> Allowed | Exceeded:
    """Count `cost` against every limit, or none; being over one is counted too.

    `windows` are those of the limits, one at least, then those that count how often a key was over one: the first
    flags it, the second suspends it. `unwritten` is how often it was since this was last asked.
    """
    *limited, flag, suspend = windows
    if unwritten:
        for overruns in (flag, suspend):
            overruns.add(now, unwritten)
    times = [window.free_at(now, cost) for window in limited]
    latest = max(range(len(times)), key=times.__getitem__)
    if times[latest] > now:
        for overruns in (flag, suspend):
            overruns.add(now)
        left = [overruns.remaining(now) for overruns in (flag, suspend)]
        spare = min((each - 1 for each in left if each > 0), default=0)
        return Exceeded(limited[latest].limit, times[latest], flag=left[0] <= 0, suspend=left[1] <= 0, spare=spare)
    tokens = max(cost, min(min(window.limit.count // _BATCHES, window.remaining(now)) for window in limited))
    for window in limited:
        window.add(now, tokens)
    tightest = min(limited, key=lambda window: window.remaining(now))
    until = min(window.slot_ends(now) for window in limited)
    return Allowed(tightest.limit, tightest.remaining(now), tokens, until)


class TokenBatches:
    """Tokens this process has taken of a key's limit and not used yet."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._left: dict[tuple[str, Unit], tuple[Allowed, int]] = {}
        self._locks: WeakValueDictionary[tuple[str, Unit], asyncio.Lock] = WeakValueDictionary()

    def use(self, key_id: str, unit: Unit, cost: int) -> Allowed | None:
        """Use some of a batch, if there is one that is still good and large enough."""
        batch = self._left.get((key_id, unit))
        if batch is None:
            return None
        allowed, left = batch
        if left < cost or self._clock() >= allowed.until:
            del self._left[key_id, unit]
            return None
        self._left[key_id, unit] = (allowed, left - cost)
        return allowed

    def keep(self, key_id: str, unit: Unit, allowed: Allowed, used: int) -> None:
        """Keep what is left of a batch after `used` tokens of it."""
        if allowed.tokens > used:
            self._left[key_id, unit] = (allowed, allowed.tokens - used)

    def lock(self, key_id: str, unit: Unit) -> AbstractAsyncContextManager[object]:
        """Wait for whoever is taking a batch for the same key: there may be enough for all in it."""
        return self._locks.setdefault((key_id, unit), asyncio.Lock())


class KnownOverruns:
    """Answers "over the limit" that this process repeats by itself: whoever goes on regardless costs next to nothing.

    None changes anything in the storage but how often the key was over its limit, which is written with the next look
    there: after MOST_REPEATED of them, REPEATED_FOR seconds, or when the next one would flag or suspend the key.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._kept: dict[tuple[str, Unit], _Overrun] = {}

    def repeat(self, key: ApiKey, unit: Unit, cost: int) -> Exceeded | None:
        """The decision the storage would make again; None where it must be asked."""
        found = self._kept.get((key.id, unit))
        if found is None or found.repeated >= found.most or (found.key, found.cost) != (key, cost):
            return None
        if not found.at <= self._clock() < min(found.exceeded.free_at, found.at + REPEATED_FOR):
            return None
        found.repeated += 1
        return found.exceeded

    def keep(self, key: ApiKey, unit: Unit, cost: int, exceeded: Exceeded) -> None:
        """Keep a decision of the storage, which knows of all overruns now."""
        most = min(exceeded.spare, MOST_REPEATED)
        self._kept[key.id, unit] = _Overrun(key, cost, exceeded, self._clock(), most)

    def unwritten(self, key_id: str, unit: Unit) -> int:
        """How many overruns the storage does not know of."""
        found = self._kept.get((key_id, unit))
        return found.repeated if found else 0

    def forget(self, key_id: str, unit: Unit) -> None:
        """The key is within its limit again."""
        self._kept.pop((key_id, unit), None)


@dataclass(slots=True)
class _Overrun:
    key: ApiKey
    cost: int
    exceeded: Exceeded
    at: float
    most: int
    repeated: int = 0


def _too_many(exceeded: Exceeded, unit: Unit, now: float, *, flagged: bool, explained_at: str) -> ApiError:
    """Return the 429 the pages of the API show, with the headers programs look for."""
    wait = max(1, math.ceil(exceeded.free_at - now))
    valid = datetime.fromtimestamp(exceeded.free_at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    warning = " This key has been flagged, and will be suspended if it goes on." if flagged else ""
    return ApiError(
        429,
        "rate_limited",
        f"Too many {unit} in this time frame; please try again in {_duration(wait)}.{warning}",
        headers={
            "retry-after": str(wait),
            "ratelimit-policy": f'"{unit}";q={exceeded.limit.count};w={exceeded.limit.window}',
            "ratelimit": f'"{unit}";r=0;t={wait}',
        },
        extra={"referenceUrl": explained_at, "nextValidRequestDate": valid},
    )


def _rate_headers(allowed: Allowed) -> dict[str, str]:
    """Say what is left (draft-ietf-httpapi-ratelimit-headers-10)."""
    limit = allowed.limit
    return {
        "ratelimit-policy": f'"default";q={limit.count};w={limit.window}',
        "ratelimit": f'"default";r={max(0, allowed.remaining)};t={limit.window}',
    }


def _duration(seconds: int) -> str:
    if seconds < 90:
        return "a second" if seconds == 1 else f"{seconds} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.0f} hours"
