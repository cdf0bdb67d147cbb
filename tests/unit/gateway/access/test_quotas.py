"""Quotas: what is held and until when, and which countries SMS go to."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

from postroom import Email, Sms
from postroom.config.gateway import GatewaySettings, Limit
from postroom.gateway.access.quotas import Quotas, Reservation, reserve
from postroom.gateway.access.sliding_window import SlidingWindow
from postroom.gateway.access.storage import AccessStorage, Counter
from postroom.gateway.http.errors import ApiError
from postroom.outbox.records import NEVER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.unit.gateway.access.conftest import Clock, MakeKey

NOW = 1_800_000_000.0
EMAIL = Email(to="a@example.org", text="x")
GB, OTHER_GB, FR, SHIP = "+447700900123", "+447700900124", "+33612345678", "+882345678901"


def sms(*to: str, body: str = "x") -> Sms:
    return Sms(to=list(to or (GB,)), body=body)


def test_a_message_waits_for_the_latest_of_its_reservations_and_those_behind_it_wait_longer() -> None:
    minute, hour = Counter("a", Limit(1, 60)), Counter("b", Limit(2, 3600))
    windows = {counter: SlidingWindow(counter.limit) for counter in (minute, hour)}
    both = [Reservation(minute, 1), Reservation(hour, 1)]
    first, second, third = reserve(windows, [both, both, both], NOW)
    assert first == 0
    assert NOW + 60 <= second <= NOW + 62
    assert NOW + 3600 <= third <= NOW + 3720


def test_a_message_without_reservations_does_not_wait() -> None:
    assert reserve({}, [[]], NOW) == [0.0]


def quotas(storage: AccessStorage, clock: Clock, **settings: Any) -> Quotas:
    return Quotas(storage, GatewaySettings.model_validate(settings), clock=clock)


async def held(limits: Quotas, key: Any, *messages: Email | Sms) -> list[bool]:
    return [bool(until) for until in await limits.reserve(key, messages)]


async def test_without_quotas_nothing_is_held(storage: AccessStorage, clock: Clock, make_key: MakeKey) -> None:
    assert await quotas(storage, clock).reserve(make_key(), [EMAIL]) == []


async def test_above_a_quota_messages_of_either_channel_are_held_until_it_has_room(
    storage: AccessStorage, clock: Clock, make_key: MakeKey, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "postroom.gateway")
    limits, key = quotas(storage, clock, quota="2/m"), make_key()
    assert await held(limits, key, EMAIL) == [False]
    assert caplog.records == []
    first, second = await limits.reserve(key, [sms(), EMAIL])
    assert first == 0
    assert clock.now + 60 <= second <= clock.now + 61
    assert [(record.name, record.getMessage()) for record in caplog.records] == [
        ("postroom.gateway", f"key {key.id} (shop) is over a quota: 1 messages are held")
    ]
    assert await held(limits, make_key(), EMAIL) == [False]


async def test_what_is_larger_than_a_whole_budget_is_held_for_a_person_to_decide(
    storage: AccessStorage, clock: Clock, make_key: MakeKey
) -> None:
    assert await quotas(storage, clock, sms_budget="3/h").reserve(make_key(), [sms(body="x" * 1000)]) == [NEVER]


async def test_a_budget_counts_parts_for_each_recipient_and_no_email(
    storage: AccessStorage, clock: Clock, make_key: MakeKey
) -> None:
    limits, key = quotas(storage, clock, sms_budget="6/h"), make_key()
    assert await held(limits, key, sms(GB, FR, body="x" * 300), EMAIL, sms(GB, FR), sms()) == [
        False,
        False,
        False,
        True,
    ]


async def test_a_number_gets_so_many_from_one_key_and_is_kept_as_a_fingerprint(
    storage: AccessStorage, clock: Clock, make_key: MakeKey
) -> None:
    limits, key = quotas(storage, clock, sms_per_recipient="1/h"), make_key()
    assert await held(limits, key, sms(GB), sms(OTHER_GB), sms(FR, GB), sms(FR)) == [False, False, True, True]
    assert await held(limits, make_key(), sms(GB)) == [False]
    names = [reservation.counter.name for reservation in limits._reservations(sms(GB))]
    assert len(names) == 1
    assert "447700900123" not in names[0]


@pytest.mark.parametrize(
    ("prices", "messages", "expected"),
    [
        ({"GB": 0.5, "*": 0.1}, [sms(GB), sms(GB), sms(GB)], [False, False, True]),
        ({"GB": 0.9, "*": 0.1}, [sms(FR), sms(FR), sms(FR)], [False, False, False]),
        ({"GB": 0.1, "*": 0.5}, [sms(FR), sms(FR), sms(FR)], [False, False, True]),
        ({"GB": 0.1, "US": 0.5}, [sms(FR), sms(FR), sms(FR)], [False, False, True]),  # as the dearest
        ({"GB": 0.1, "*": 0.5}, [sms(SHIP), sms(SHIP), sms(SHIP)], [False, False, True]),  # of no country
        ({"GB": 0.3}, [sms(GB, OTHER_GB), sms(GB), sms(GB)], [False, False, True]),
        ({"GB": 0.3}, [sms(GB, body="x" * 300), sms(GB), sms(GB)], [False, False, True]),
        ({"GB": 0.0001}, [sms(GB)] * 3, [False, False, False]),
    ],
)
async def test_spending_is_counted_at_the_prices_of_countries(
    storage: AccessStorage, clock: Clock, make_key: MakeKey, prices: Any, messages: list[Sms], expected: list[bool]
) -> None:
    limits = quotas(storage, clock, sms_spend="1/h", sms_prices=prices)
    assert await held(limits, make_key(), *messages) == expected


async def test_spending_is_limited_in_whole_units_of_money(
    storage: AccessStorage, clock: Clock, make_key: MakeKey
) -> None:
    limits = quotas(storage, clock, sms_spend="2/h", sms_prices={"GB": 0.9})
    assert await held(limits, make_key(), sms(), sms(), sms()) == [False, False, True]


async def test_several_quotas_hold_together(storage: AccessStorage, clock: Clock, make_key: MakeKey) -> None:
    limits, key = quotas(storage, clock, quota=["2/m", "3/h"]), make_key()
    times = await limits.reserve(key, [EMAIL] * 4)
    assert times[:2] == [0, 0]
    assert clock.now + 60 <= times[2] <= clock.now + 61
    assert clock.now + 3600 <= times[3]


async def test_windows_that_count_no_more_are_deleted_once_a_minute(
    storage: AccessStorage, clock: Clock, make_key: MakeKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    deleted: list[float] = []

    async def delete_stale_windows(now: float) -> None:
        deleted.append(now)

    monkeypatch.setattr(storage, "delete_stale_windows", delete_stale_windows)
    limits, key, begun = quotas(storage, clock, quota="1000/m"), make_key(), clock.now
    for seconds in (0, 59.9, 60, 61, 119.9, 120):
        clock.now = begun + seconds
        await limits.reserve(key, [EMAIL])
    assert deleted == [begun, begun + 60, begun + 120]


def refused(
    limits: Quotas, message: Email | Sms, *accounts: str, ruled: Sequence[Sequence[str]] = ()
) -> ApiError | None:
    try:
        limits.check_numbers(message, accounts, ruled)
    except ApiError as error:
        return error
    return None


def test_sms_go_to_the_countries_of_every_account_that_might_send_them(storage: AccessStorage, clock: Clock) -> None:
    limits = quotas(storage, clock, sms_countries={"a": ["GB", "FR"], "b": ["GB"]})
    assert limits.depends_on_numbers(sms())
    assert not limits.depends_on_numbers(EMAIL)
    assert not quotas(storage, clock).depends_on_numbers(sms())
    assert refused(limits, sms(GB), "a", "b") is None
    assert refused(limits, sms(FR), "a") is None
    assert refused(limits, sms(FR), "c") is None
    error = refused(limits, sms(GB, FR), "a", "b")
    assert error
    assert (error.status, error.code, error.message) == (
        403, "country_not_allowed", "This service sends no SMS to FR.",
    )  # fmt: skip
    assert [(problem.field, problem.message) for problem in error.details] == [("data.to[1]", f"{FR} is in FR")]


def test_a_number_that_belongs_to_no_country_is_in_none_of_the_list(storage: AccessStorage, clock: Clock) -> None:
    error = refused(quotas(storage, clock, sms_countries={"a": ["GB"]}), sms(SHIP), "a")
    assert error
    assert error.message == "This service sends no SMS to 001."  # what phone numbers have for satellites


def test_an_account_without_countries_of_its_own_has_those_of_the_star(storage: AccessStorage, clock: Clock) -> None:
    limits = quotas(storage, clock, sms_countries={"a": ["GB", "FR"], "*": ["GB"]})
    assert refused(limits, sms(FR), "a") is None
    assert refused(limits, sms(GB), "b") is None
    assert refused(limits, sms(FR), "b")
    assert refused(limits, sms(FR), "a", "b")
    assert refused(quotas(storage, clock, sms_countries={"*": []}), sms(GB), "a")


def test_the_accounts_that_rules_have_send_to_a_number_count_whoever_is_named(
    storage: AccessStorage, clock: Clock
) -> None:
    limits = quotas(storage, clock, sms_countries={"a": ["GB"]})
    assert refused(limits, sms(FR), "b") is None
    assert refused(limits, sms(FR), "b", ruled=[("a",)])
    assert refused(limits, sms(GB, FR), "b", ruled=[("a",), ()]) is None
    assert refused(limits, sms(GB, FR), "b", ruled=[(), ("a", "b")])


@pytest.mark.parametrize(
    ("type_", "number"),
    [("premium_rate", "+449012345678"), ("shared_cost", "+4918012345"), ("personal_number", "+447012345678")],
)
def test_numbers_of_a_type_that_the_operator_refuses_are_refused(
    storage: AccessStorage, clock: Clock, type_: str, number: str
) -> None:
    limits = quotas(storage, clock, sms_refused_types=type_)
    assert limits.depends_on_numbers(sms())
    assert refused(limits, sms(GB), "a") is None
    error = refused(limits, sms(GB, number), "a")
    assert error
    assert (error.status, error.code, error.details[0].field) == (403, "number_not_allowed", "data.to[1]")
    assert refused(quotas(storage, clock, sms_refused_types="pager"), sms(number), "a") is None


async def test_a_number_gets_so_many_from_all_keys_together(
    storage: AccessStorage, clock: Clock, make_key: MakeKey
) -> None:
    limits = quotas(storage, clock, sms_per_number="2/h", sms_per_recipient="1/h")
    assert await held(limits, make_key(), sms(GB), EMAIL) == [False, False]
    assert await held(limits, make_key(), sms(OTHER_GB, GB)) == [False]
    assert await held(limits, make_key(), sms(GB), sms(FR)) == [True, False]
