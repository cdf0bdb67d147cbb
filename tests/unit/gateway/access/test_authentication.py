"""Authentication: which requests are let in, and what the others are told."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from starlette.requests import Request

from postroom.config.gateway import GatewaySettings
from postroom.gateway.access.authentication import Authenticator
from postroom.gateway.access.keys import ApiKey, KeyScope
from postroom.gateway.access.storage import AccessStorage
from postroom.gateway.http.errors import ApiError
from postroom.gateway.http.requests import RequestState, state_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KEY, TEXT = ApiKey.generate("eu", name="shop", scope=KeyScope(), now=NOW)
COOKIE = {"cookie": f"auth_token={TEXT}", "host": "post.example.org"}


def request(headers: dict[str, str], method: str = "POST", query: str = "") -> Request:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope: dict[str, Any] = {"type": "http", "method": method, "headers": raw, "query_string": query.encode()}
    RequestState("id").attach(scope)
    return Request(scope)


async def error_of(storage: AccessStorage, asked: Request, **settings: Any) -> ApiError | None:
    try:
        await Authenticator(storage, GatewaySettings.model_validate(settings)).authenticate(asked)
    except ApiError as error:
        return error
    return None


async def test_a_good_key_is_returned_and_kept_in_the_requests_state(storage: AccessStorage) -> None:
    await storage.add_key(KEY)
    asked = request({"auth-token": TEXT})
    assert await Authenticator(storage, GatewaySettings()).authenticate(asked) == KEY
    assert state_of(asked.scope).key_id == KEY.id


async def test_without_a_key_it_is_said_how_to_send_or_make_one(storage: AccessStorage) -> None:
    error = await error_of(storage, request({}))
    assert error
    assert (error.status, error.code, error.headers) == (401, "not_authorised", {"www-authenticate": "Bearer"})
    assert error.message == "No key was presented; send one as Auth-token, or make one: postroom keys create."


@pytest.mark.parametrize("state", ["unknown", "revoked", "another digest"])
async def test_a_key_that_is_not_good_is_told_as_the_pages_of_the_api_do(storage: AccessStorage, state: str) -> None:
    if state == "revoked":
        await storage.add_key(KEY)
        await storage.revoke_key(KEY.id, NOW.timestamp())
    elif state == "another digest":

        async def find_key(digest: str) -> ApiKey:
            return KEY.model_copy(update={"digest": "0" * 64})

        storage.find_key = find_key  # type: ignore[method-assign]  # an engine that finds the wrong one
    asked = request({"auth-token": TEXT})
    error = await error_of(storage, asked)
    assert error
    assert (error.status, error.message) == (401, "The auth_token provided doesn't belong to any user.")
    assert state_of(asked.scope).key_id is None


async def test_a_suspended_key_is_a_403_that_says_who_can_lift_it(storage: AccessStorage) -> None:
    await storage.add_key(KEY)
    await storage.mark_key(KEY.id, "suspended", NOW.timestamp())
    error = await error_of(storage, request({"auth-token": TEXT}))
    assert error
    assert (error.status, error.code) == (403, "suspended")
    assert "postroom keys unsuspend" in error.message


@pytest.mark.parametrize(
    ("headers", "method", "taken"),
    [
        ({}, "POST", True),
        ({"origin": "https://post.example.org"}, "POST", True),
        ({"origin": "https://post.example.org", "sec-fetch-site": "same-origin"}, "POST", True),
        ({"origin": "https://apps.example.com"}, "POST", True),
        ({"origin": "https://evil.example"}, "POST", False),
        ({"origin": "null"}, "POST", False),
        ({"sec-fetch-site": "cross-site"}, "POST", False),
        ({"origin": "https://apps.example.com", "sec-fetch-site": "cross-site"}, "POST", False),
        ({"origin": "https://evil.example"}, "GET", True),
        ({"origin": "https://evil.example"}, "HEAD", True),
    ],
)
async def test_a_cookie_is_not_taken_from_a_page_of_another_site(
    storage: AccessStorage, headers: dict[str, str], method: str, *, taken: bool
) -> None:
    await storage.add_key(KEY)
    error = await error_of(storage, request({**COOKIE, **headers}, method), cors_origins=["https://apps.example.com"])
    assert (error is None) is taken
    if error:
        assert (error.status, error.code) == (403, "forbidden")
        assert error.message == "A cookie is not taken from pages of another site; send Auth-token instead."


async def test_a_header_is_taken_from_any_page(storage: AccessStorage) -> None:
    await storage.add_key(KEY)
    assert await error_of(storage, request({"auth-token": TEXT, "origin": "https://evil.example"})) is None
