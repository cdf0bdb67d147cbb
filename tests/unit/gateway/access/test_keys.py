"""API keys: their form, what is kept of them, how a request presents one, and what a scope allows."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.growth import MOST, growth

from postroom import Channel, Email, Sms
from postroom.gateway.access.keys import KEY, ApiKey, KeyScope, check_scope, presented_key
from postroom.gateway.http.errors import ApiError

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ONE, OTHER = "eu--abcdefg123456789", "us--abcdefg987654321"
IN_BASE64 = "Bearer " + base64.b64encode(ONE.encode()).decode()


def made() -> Any:
    return ApiKey.generate("eu", name="shop", scope=KeyScope(), now=NOW)


def test_a_key_begins_with_its_region_and_only_a_digest_of_it_is_kept() -> None:
    key, text = made()
    assert KEY.fullmatch(text)
    assert text.startswith("eu--")
    assert text not in key.model_dump_json()
    assert key.matches(text)
    assert not key.matches(text[:-1])
    assert not key.matches("\ud800")


def test_no_two_keys_are_alike() -> None:
    assert len({made()[1] for _ in range(100)}) == 100
    assert len({made()[0].id for _ in range(100)}) == 100


@pytest.mark.parametrize(
    ("headers", "query", "way"),
    [
        ({"auth-token": ONE}, "", "header"),
        ({"authorization": f"Bearer {ONE}"}, "", "bearer"),
        ({"authorization": f"bearer  {ONE} "}, "", "bearer"),
        ({"authorization": IN_BASE64}, "", "bearer"),
        ({}, f"a=b&auth_token={ONE}", "query"),
        ({"cookie": f"a=b; auth_token={ONE}; c=d"}, "", "cookie"),
    ],
)
def test_each_of_the_four_ways(headers: dict[str, str], query: str, way: str) -> None:
    assert presented_key(headers, query) == (ONE, way)


def test_the_page_of_the_apis_own_base64_example() -> None:
    assert presented_key({"authorization": "Bearer ZXUtLWFiY2RlZmcxMjM0NTY3ODk="}, "") == (ONE, "bearer")


@pytest.mark.parametrize(
    ("cookie", "found"),
    [
        (f'auth_token="{ONE}"', ONE),
        (f"auth_token={ONE}", ONE),
        (f"a=1;auth_token={ONE};b", ONE),
        (f"auth_token={ONE}; auth_token={OTHER}", ONE),
        (f"my_auth_token={ONE}", None),
        (f"AUTH_TOKEN={ONE}", None),
        ("auth_token", None),
        ("auth_token=", None),
        (f'a="; auth_token={ONE}', ONE),
    ],
)
def test_a_cookie_is_found_by_its_whole_name(cookie: str, found: str | None) -> None:
    assert presented_key({"cookie": cookie}, "") == (found and (found, "cookie"))


COSTLY_HEADERS = {
    "quotes that a backslash takes back": lambda size: {"cookie": 'auth_token="' + "\\" * size + '"'},
    "quotes without end": lambda size: {"cookie": 'auth_token="' + '\\"' * size},
    "cookies without a name": lambda size: {"cookie": "auth_token" + ";" * size},
    "spaces": lambda size: {"cookie": "auth_token=" + " " * size + "x"},
    "a token that is no base64": lambda size: {"authorization": "Bearer " + "=" * size},
    "a key": lambda size: {"auth-token": "eu--" + "a" * size},
}


@pytest.mark.parametrize("make", COSTLY_HEADERS.values(), ids=COSTLY_HEADERS)
def test_a_header_twice_as_long_costs_twice_as_much(make: Callable[[int], dict[str, str]]) -> None:
    assert growth(make, lambda headers: presented_key(headers, ""), 4000) < MOST


@pytest.mark.parametrize("query", ["auth_token={}&auth_token={}", "auth%5Ftoken={}&auth_token={}"])
def test_a_key_given_twice_in_a_query_lets_nobody_in(query: str) -> None:
    for one, two in ((ONE, OTHER), (OTHER, ONE), (ONE, "x"), ("x", ONE), ("", ONE)):
        with pytest.raises(ApiError, match="twice") as caught:
            presented_key({}, query.format(one, two))
        assert caught.value.status == 400


def test_a_query_of_more_parameters_than_any_caller_needs_is_refused() -> None:
    with pytest.raises(ApiError, match="more than 100 parameters"):
        presented_key({}, "a&" * 200 + f"auth_token={ONE}")


@pytest.mark.parametrize("token", ["ZXUt!LWFiY2RlZmcxMjM0NTY3ODk=", "bm8ga2V5", "w7w=", "x"])
def test_what_is_no_key_in_base64_is_taken_as_it_is(token: str) -> None:
    assert presented_key({"authorization": f"Bearer {token}"}, "") == (token, "bearer")


WAYS = [
    ({"auth-token": "{}"}, ""),
    ({"authorization": "Bearer {}"}, ""),
    ({}, "auth_token={}"),
    ({"cookie": "auth_token={}"}, ""),
]


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(range(4), 2)))
def test_the_earlier_way_counts_when_two_disagree(first: int, second: int) -> None:
    headers: dict[str, str] = {}
    queries: list[str] = []
    for number, text in ((second, OTHER), (first, ONE)):
        headers |= {name: value.format(text) for name, value in WAYS[number][0].items()}
        queries += [WAYS[number][1].format(text)] if WAYS[number][1] else []
    found = presented_key(headers, "&".join(queries))
    assert found
    assert found[0] == ONE


@pytest.mark.parametrize(
    "headers", [{}, {"auth-token": " "}, {"authorization": "Basic eDp5"}, {"authorization": "Bearer"}]
)
def test_nothing_presented_is_nothing(headers: dict[str, str]) -> None:
    assert presented_key({**headers, "cookie": "session=1"}, "a=b&auth_token=") is None


@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=40))
def test_no_header_or_query_breaks_the_reading(authorization: str, cookie: str, query: str) -> None:
    found = presented_key({"authorization": f"Bearer {authorization}", "cookie": f"auth_token={cookie}"}, query)
    assert found is None or found[1] in {"bearer", "query", "cookie"}


def refused(scope: KeyScope, message: Email | Sms, accounts: tuple[str, ...] = (), *chosen: str) -> bool:
    try:
        check_scope(scope, message, accounts, frozenset(chosen))
    except ApiError as refusal:
        assert (refusal.status, refusal.code) == (403, "forbidden")
        return True
    return False


EMAIL = Email(to="a@example.org", text="x")
SMS = Sms(to="+15005550006", body="x", from_="Shop")


@pytest.mark.parametrize(
    "scope", [KeyScope(channels=(Channel.SMS,)), KeyScope(accounts=("a",)), KeyScope(senders=("a@example.org",))]
)
def test_a_scope_that_lists_anything_restricts_its_key(scope: KeyScope) -> None:
    assert scope.restricted
    assert not KeyScope(suppressions=True).restricted


def test_a_scope_limits_channels_and_accounts() -> None:
    assert not refused(KeyScope(), EMAIL)
    assert refused(KeyScope(channels=("sms",)), EMAIL)
    assert not refused(KeyScope(channels=("sms",)), SMS)
    assert not refused(KeyScope(accounts=("sg",)), EMAIL, ("sg",))
    assert refused(KeyScope(accounts=("sg",)), EMAIL, ("main",))


def test_every_account_a_message_might_go_through_must_be_the_keys_own() -> None:
    assert refused(KeyScope(accounts=("sg",)), EMAIL, ("sg", "main"))
    assert not refused(KeyScope(accounts=("sg", "main", "other")), EMAIL, ("sg", "main"))


def test_a_key_that_lists_the_route_a_message_takes_may_go_through_all_its_accounts() -> None:
    assert refused(KeyScope(accounts=("sg",)), EMAIL, ("sg", "main"), "careful")
    assert not refused(KeyScope(accounts=("careful",)), EMAIL, ("sg", "main"), "careful")
    assert refused(KeyScope(accounts=("careful",)), SMS, ("sg", "main"), "careful", "other")
    assert refused(KeyScope(accounts=("careful",)), EMAIL, ("sg", "main"))


def test_an_sms_may_choose_its_sender_unless_the_key_lists_others() -> None:
    assert not refused(KeyScope(), SMS)
    assert not refused(KeyScope(senders=("Shop",)), SMS)
    assert refused(KeyScope(senders=("Bank",)), SMS)


def test_an_email_may_choose_its_sender_only_where_the_key_lists_it() -> None:
    chosen = Email(to="a@example.org", text="x", from_="Boss <boss@example.org>")
    assert refused(KeyScope(), chosen)
    assert refused(KeyScope(senders=("x@example.org",)), chosen)
    assert not refused(KeyScope(senders=("boss@example.org",)), chosen)


@pytest.mark.parametrize(
    ("scope", "text"),
    [
        (KeyScope(channels=("email",)), "This key may not send sms."),
        (KeyScope(accounts=("sg",)), "This key may not use that provider or account."),
        (KeyScope(senders=("Bank",)), "This key may not send from that sender; leave it out for the account's own."),
    ],
)
def test_what_a_key_may_not_do_is_said(scope: KeyScope, text: str) -> None:
    with pytest.raises(ApiError) as raised:
        check_scope(scope, SMS, ())
    assert (raised.value.status, raised.value.code, str(raised.value)) == (403, "forbidden", text)
