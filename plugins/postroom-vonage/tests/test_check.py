"""`check` tries the credentials and sends nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from postroom import MissingCredential, Postroom
from postroom.errors import AuthenticationFailed, ProviderUnreachable
from postroom.testing.http import Answer, HttpRecorder

from .conftest import CANARY


@pytest.mark.parametrize("api", ["messages", "sms"])
async def test_the_balance_is_read_with_the_secret_in_no_url(
    open_vonage: Callable[..., Any], server: HttpRecorder, api: str
) -> None:
    server.answer(Answer(200, {"value": 10.5, "autoReload": False}))
    async with open_vonage(server.url, api=api) as vonage:
        report = await vonage.check()
    assert (report.ok, report.details) == (True, {"balance": "10.5"})
    [request] = server.requests
    assert (request.method, request.target) == ("GET", "/account/get-balance")
    assert request.headers["authorization"].startswith("Basic ")
    assert CANARY not in report.summary


async def test_refused_credentials_are_an_error(open_vonage: Callable[..., Any], server: HttpRecorder) -> None:
    server.answer(Answer(401, {"error-code": "401", "error-code-label": "authentication failed"}))
    async with open_vonage(server.url) as vonage:
        with pytest.raises(AuthenticationFailed, match="check the account's credentials"):
            await vonage.check()


async def test_a_server_that_is_not_vonage_is_told(open_vonage: Callable[..., Any], server: HttpRecorder) -> None:
    server.answer(Answer(200, "<html>Welcome</html>"))
    async with open_vonage(server.url) as vonage:
        report = await vonage.check()
    assert not report.ok
    assert "base_url" in report.summary


async def test_an_unreachable_vonage_is_an_error(open_vonage: Callable[..., Any]) -> None:
    async with open_vonage("http://127.0.0.1:9") as vonage:
        with pytest.raises(ProviderUnreachable):
            await vonage.check()


async def test_a_token_is_made_but_not_tried(
    open_vonage: Callable[..., Any], server: HttpRecorder, by_token: dict[str, Any]
) -> None:
    async with open_vonage(server.url, **by_token) as vonage:
        report = await vonage.check()
    assert report.ok
    assert "only sending a message tries them" in report.summary
    assert server.connections == 0


async def test_a_key_that_cannot_sign_fails_the_check() -> None:
    account = {"provider": "vonage", "application_id": "app-1", "private_key": "no key"}
    async with Postroom(accounts={"texts": account}) as room:
        found = await room.check("texts")
    assert isinstance(found["texts"], MissingCredential)
    assert str(found["texts"]).startswith("accounts.texts: private_key is neither")
