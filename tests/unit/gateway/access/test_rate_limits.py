"""Rate limits: who is let through, what is left, when to come again, and who is flagged or suspended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from postroom.config.gateway import GatewaySettings, Limit
from postroom.gateway.access.rate_limits import (
    MOST_REPEATED,
    REPEATED_FOR,
    Allowed,
    Exceeded,
    RateLimiter,
    TokenBatches,
    decide,
)
from postroom.gateway.access.sliding_window import SlidingWindow
from postroom.gateway.access.storage import AccessStorage
from postroom.gateway.http.errors import ApiError

if TYPE_CHECKING:
    from tests.unit.gateway.access.conftest import Clock, MakeKey

NOW = 1_800_000_000.0


def windows(*limits: Limit) -> list[SlidingWindow]:
    """Windows of these limits, and of how often a key may be over them until it is flagged (2) or suspended (3)."""
    return [SlidingWindow(limit) for limit in (*limits, Limit(2, 60), Limit(3, 60))]


def slots(given: Sequence[SlidingWindow]) -> list[int]:
    return [window.used(NOW) for window in given]


def test_what_fits_counts_against_every_limit_and_the_tightest_is_named() -> None:
    given = windows(Limit(5, 60), Limit(3, 3600))
    assert decide(given, NOW, 2) == Allowed(Limit(3, 3600), 1, 2, min(window.slot_ends(NOW) for window in given[:2]))
    assert slots(given) == [2, 2, 0, 0]


def test_what_is_over_one_limit_counts_against_none_but_is_remembered() -> None:
    given = windows(Limit(5, 60), Limit(3, 3600))
    decide(given, NOW, 3)
    exceeded = decide(given, NOW, 1)
    assert exceeded == Exceeded(Limit(3, 3600), given[1].free_at(NOW), flag=False, suspend=False, spare=0)
    assert slots(given) == [3, 3, 1, 1]


def test_of_two_limits_that_are_over_the_one_that_is_free_last_is_named() -> None:
    given = windows(Limit(1, 60), Limit(1, 3600), Limit(1, 30))
    decide(given, NOW, 1)
    exceeded = decide(given, NOW, 1)
    assert isinstance(exceeded, Exceeded)
    assert exceeded.limit == Limit(1, 3600)


def test_who_is_over_often_enough_is_to_be_flagged_then_suspended() -> None:
    given = windows(Limit(1, 3600))
    decide(given, NOW, 1)
    found = [decide(given, NOW, 1) for _ in range(3)]
    assert [(each.flag, each.suspend) for each in found if isinstance(each, Exceeded)] == [
        (False, False),
        (True, False),
        (True, True),
    ]


@pytest.mark.parametrize(("count", "tokens"), [(1999, 1), (2000, 1), (3999, 1), (4000, 2), (40_000, 20)])
def test_of_a_large_limit_a_batch_of_tokens_is_taken(count: int, tokens: int) -> None:
    allowed = decide(windows(Limit(count, 60)), NOW, 1)
    assert isinstance(allowed, Allowed)
    assert (allowed.tokens, allowed.remaining) == (tokens, count - tokens)


def test_a_batch_is_no_larger_than_what_is_left_or_than_the_smallest_limit_gives() -> None:
    given = windows(Limit(40_000, 60))
    given[0].add(NOW, 39_995)
    allowed = decide(given, NOW, 1)
    assert isinstance(allowed, Allowed)
    assert allowed.tokens == 5
    allowed = decide(windows(Limit(40_000, 60), Limit(4000, 60)), NOW, 1)
    assert isinstance(allowed, Allowed)
    assert allowed.tokens == 2


def test_a_batch_is_used_up_and_no_more(clock: Clock) -> None:
    batches, allowed = TokenBatches(clock), Allowed(Limit(4000, 60), 10, 3, NOW + 5)
    assert batches.use("k", "requests", 1) is None
    batches.keep("k", "requests", allowed, 1)
    assert batches.use("k", "messages", 1) is None
    assert batches.use("other", "requests", 1) is None
    assert batches.use("k", "requests", 1) is allowed
    assert batches.use("k", "requests", 1) is allowed
    assert batches.use("k", "requests", 1) is None


def test_a_batch_is_not_used_beyond_its_time_or_for_more_than_it_has(clock: Clock) -> None:
    batches, allowed = TokenBatches(clock), Allowed(Limit(4000, 60), 10, 3, clock.now + 5)
    batches.keep("k", "requests", allowed, 1)
    assert batches.use("k", "requests", 3) is None
    batches.keep("k", "requests", allowed, 1)
    assert batches.use("k", "requests", 2) is allowed
    batches.keep("k", "requests", allowed, 1)
    clock.now += 5
    assert batches.use("k", "requests", 1) is None


def test_of_a_batch_that_was_used_whole_nothing_is_kept(clock: Clock) -> None:
    batches = TokenBatches(clock)
    batches.keep("k", "requests", Allowed(Limit(4000, 60), 10, 3, clock.now + 5), 3)
    assert batches._left == {}


def limiter(storage: AccessStorage, clock: Clock, **settings: Any) -> RateLimiter:
    return RateLimiter(storage, GatewaySettings.model_validate(settings), clock=clock)


async def refused(limiter: RateLimiter, *arguments: Any) -> ApiError:
    with pytest.raises(ApiError) as raised:
        await limiter.consume(*arguments)
    return raised.value


async def test_without_limits_nothing_is_counted(storage: AccessStorage, clock: Clock, make_key: MakeKey) -> None:
    unlimited = limiter(storage, clock, rate_limit=[])
    assert await unlimited.consume(make_key(), "requests") == {}
    assert await unlimited.consume(make_key(), "messages", 1000) == {}


async def test_requests_and_messages_have_limits_of_their_own(
    storage: AccessStorage, clock: Clock, make_key: MakeKey
) -> None:
    both, key = limiter(storage, clock, rate_limit="1/m", message_limit="3/h"), make_key()
    assert await both.consume(key, "requests") == {
        "ratelimit-policy": '"default";q=1;w=60',
        "ratelimit": '"default";r=0;t=60',
    }
    assert (await both.consume(key, "messages", 2))["ratelimit"] == '"default";r=1;t=3600'
    assert (await refused(both, key, "messages", 2)).status == 429


async def test_a_429_says_when_to_come_again_and_that_time_is_right(
    storage: AccessStorage, clock: Clock, make_key: MakeKey
) -> None:
    twice, key = limiter(storage, clock, rate_limit="2/30s", public_url="https://post.example.org"), make_key()
    await twice.consume(key, "requests", 2)
    clock.now += 10
    error = await refused(twice, key, "requests")
    assert (error.status, error.code) == (429, "rate_limited")
    assert error.message == "Too many requests in this time frame; please try again in 21 seconds."
    assert error.headers == {
        "retry-after": "21",
        "ratelimit-policy": '"requests";q=2;w=30',
        "ratelimit": '"requests";r=0;t=21',
    }
    assert error.extra == {
        "referenceUrl": "https://post.example.org/docs",
        "nextValidRequestDate": "2027-01-15T08:00:30.500Z",
    }
    clock.now += 20.4
    assert (await refused(twice, key, "requests")).headers["retry-after"] == "1"
    assert "in a second." in (await refused(twice, key, "requests")).message
    clock.now += 0.1
    await twice.consume(key, "requests")


@pytest.mark.parametrize(
    ("window", "spoken"), [("60s", "61 seconds"), ("88s", "2 minutes"), ("1h", "61 minutes"), ("2h", "2 hours")]
)
async def test_a_wait_is_said_in_the_largest_fitting_unit(
    storage: AccessStorage, clock: Clock, make_key: MakeKey, window: str, spoken: str
) -> None:
    once, key = limiter(storage, clock, rate_limit=f"1/{window}"), make_key()
    await once.consume(key, "requests")
    assert f"in {spoken}." in (await refused(once, key, "requests")).message


async def test_without_a_public_address_the_docs_are_named_by_their_path(
    storage: AccessStorage, clock: Clock, make_key: MakeKey
) -> None:
    once, key = limiter(storage, clock, rate_limit="1/m"), make_key()
    await once.consume(key, "requests")
    assert (await refused(once, key, "requests")).extra["referenceUrl"] == "/docs"


async def test_more_than_a_limit_ever_allows_is_a_413(storage: AccessStorage, clock: Clock, make_key: MakeKey) -> None:
    few = limiter(storage, clock, message_limit="5/m")
    error = await refused(few, make_key(), "messages", 6)
    assert (error.status, error.code) == (413, "too_large")
    assert error.message == "This is more than 5/m messages ever allow; send less at once."


async def test_a_key_that_goes_on_is_flagged_then_suspended_each_once_and_said_in_the_log(
    storage: AccessStorage, clock: Clock, make_key: MakeKey, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "postroom.gateway")
    strict = limiter(storage, clock, rate_limit="1/m", flag_after="2/m", suspend_after="4/m")
    key = make_key()
    await storage.add_key(key)
    await strict.consume(key, "requests")
    answers = [await refused(strict, key, "requests") for _ in range(5)]
    assert [answer.status for answer in answers] == [429, 429, 429, 403, 403]
    assert ["flagged" in answer.message for answer in answers[:3]] == [False, True, True]
    assert answers[3].code == "suspended"
    marked = await storage.find_key(key.digest)
    assert marked
    assert marked.flagged_at == marked.suspended_at == datetime.fromtimestamp(clock.now, UTC)
    assert {record.name for record in caplog.records} == {"postroom.gateway"}
    assert [record.getMessage() for record in caplog.records] == [
        f"key {key.id} (shop) goes on over its limit: flagged for suspension",
        f"key {key.id} (shop) went on over its limit and was suspended",
    ]


async def test_a_key_that_was_flagged_before_is_told_so_at_its_first_answer(
    storage: AccessStorage, clock: Clock, make_key: MakeKey
) -> None:
    once, key = limiter(storage, clock, rate_limit="1/m"), make_key(flagged_at=datetime(2026, 1, 1, tzinfo=UTC))
    await once.consume(key, "requests")
    said = (await refused(once, key, "requests")).message
    assert said.endswith(" seconds. This key has been flagged, and will be suspended if it goes on.")


class Counting:
    """Counts how often windows are updated."""

    def __init__(self, storage: AccessStorage) -> None:
        self.storage = storage
        self.updates = 0

    def __getattr__(self, name: str) -> Any:
        if name == "update_windows":
            self.updates += 1
        return getattr(self.storage, name)


async def test_requests_of_one_key_at_once_share_a_batch(
    storage: AccessStorage, clock: Clock, make_key: MakeKey
) -> None:
    counting = Counting(storage)
    wide, key = limiter(counting, clock, rate_limit="20000/m"), make_key()
    await asyncio.gather(*(wide.consume(key, "requests") for _ in range(20)))
    assert counting.updates == 2


async def test_refusals_are_repeated_without_the_storage_and_all_counted_in_the_end(
    storage: AccessStorage, clock: Clock, make_key: MakeKey
) -> None:
    counting = Counting(storage)
    strict = limiter(counting, clock, rate_limit="1/m", flag_after="60/m", suspend_after="100/m")
    key = make_key()
    await storage.add_key(key)
    await strict.consume(key, "requests")
    answers = []
    for _ in range(100):
        known = await storage.find_key(key.digest)
        assert known
        answers.append(await refused(strict, known, "requests"))
    assert [answer.status for answer in answers] == [429] * 99 + [403]
    assert ["flagged" in answer.message for answer in answers[:99]] == [False] * 59 + [True] * 40
    assert counting.updates <= 10


async def test_refusals_that_were_repeated_are_counted_once_also_when_the_key_is_within_its_limit_again(
    storage: AccessStorage, clock: Clock, make_key: MakeKey
) -> None:
    strict, key = limiter(storage, clock, rate_limit="1/s", flag_after="20/h", suspend_after="900/h"), make_key()
    await storage.add_key(key)
    await strict.consume(key, "requests")
    before = [await refused(strict, key, "requests") for _ in range(6)]
    for _ in range(2):
        clock.now += 2
        await strict.consume(key, "requests")
    after = [await refused(strict, key, "requests") for _ in range(14)]
    assert ["flagged" in answer.message for answer in (*before, *after)] == [False] * 19 + [True]


async def test_two_processes_suspend_a_key_together_and_not_much_later_than_one_would(
    storage: AccessStorage, clock: Clock, make_key: MakeKey
) -> None:
    both = [limiter(storage, clock, rate_limit="1/h", flag_after="50/h", suspend_after="200/h") for _ in range(2)]
    key = make_key()
    await storage.add_key(key)
    await both[0].consume(key, "requests")
    refusals = 0
    while (await refused(both[refusals % 2], key, "requests")).status == 429:
        refusals += 1
    assert 199 <= refusals < 199 + 2 * MOST_REPEATED


async def test_a_refusal_is_not_repeated_beyond_its_time_nor_for_another_cost_or_a_changed_key(
    storage: AccessStorage, clock: Clock, make_key: MakeKey
) -> None:
    counting = Counting(storage)
    twice, key = limiter(counting, clock, message_limit="3/10s", flag_after="500/h"), make_key()
    await twice.consume(key, "messages", 2)
    await refused(twice, key, "messages", 2)
    await refused(twice, key, "messages", 2)
    assert counting.updates == 2
    await refused(twice, key, "messages", 3)
    await twice.consume(key, "messages", 1)
    assert counting.updates == 4
    await refused(twice, key, "messages", 1)
    clock.now += REPEATED_FOR
    await refused(twice, key, "messages", 1)
    await refused(twice, key.model_copy(update={"flagged_at": datetime(2026, 1, 1, tzinfo=UTC)}), "messages", 1)
    assert counting.updates == 7
    clock.now += 10.5 - REPEATED_FOR
    await twice.consume(key, "messages", 1)


async def test_a_clock_that_is_set_back_lets_no_refusal_stay(
    storage: AccessStorage, clock: Clock, make_key: MakeKey
) -> None:
    once, key = limiter(storage, clock, rate_limit="1/m"), make_key()
    await once.consume(key, "requests")
    await refused(once, key, "requests")
    clock.now -= 3600
    await once.consume(key, "requests")
