"""An account that cannot work says what to set."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from postroom import Postroom
from postroom.config.accounts import account_settings
from postroom.errors import ConfigError, InvalidOption, MissingCredential
from postroom.messages import Sms
from postroom.testing.http import Answer, HttpRecorder
from postroom_twilio.settings import TwilioSettings

from .conftest import SID, TOKEN


def configured(**values: Any) -> TwilioSettings:
    settings = account_settings("texts", {"provider": "twilio", **values}, TwilioSettings)
    assert isinstance(settings, TwilioSettings)
    return settings


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({}, ["account_sid", "auth_token", "TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN"]),
        ({"account_sid": SID}, ["auth_token"]),
        ({"account_sid": SID, "auth_token": ""}, ["auth_token"]),
        ({"auth_token": TOKEN}, ["account_sid"]),
        ({"account_sid": SID, "api_key": "SK1"}, ["api_secret", "TWILIO_API_SECRET"]),
        ({"account_sid": SID, "api_secret": "hush"}, ["api_key", "TWILIO_API_KEY"]),
    ],
)
def test_a_missing_credential_is_named_with_its_variable(values: dict[str, str], named: list[str]) -> None:
    with pytest.raises(MissingCredential) as caught:
        configured(**values)
    text = str(caught.value)
    assert text.startswith("accounts.texts: ")
    assert all(name in text.partition("; set ")[2] for name in named)
    assert TOKEN not in text
    assert "hush" not in text


@pytest.mark.parametrize(
    "sid", ["SK1", "AC", "AC1/../x", "AC1?x", "AC1#x", "AC1%2e", "AC1:x", "AC1\r\nX: y", "AC1 x", "AC1\n"]
)
def test_an_account_sid_cannot_leave_its_place_in_the_url(sid: str) -> None:
    with pytest.raises(InvalidOption, match="accounts.texts.account_sid"):
        configured(account_sid=sid, auth_token=TOKEN)


@pytest.mark.parametrize("url", ["example.org", "ftp://example.org", "https://example.org/a b", "https://a\r\nb"])
def test_a_status_callback_must_be_a_web_address(url: str) -> None:
    with pytest.raises(InvalidOption, match="status_callback"):
        configured(account_sid=SID, auth_token=TOKEN, status_callback=url)


def test_an_unknown_key_names_the_nearest() -> None:
    with pytest.raises(InvalidOption, match="did you mean 'auth_token'"):
        configured(account_sid=SID, auth_tokn=TOKEN)


def test_secrets_stay_out_of_texts() -> None:
    settings = configured(account_sid=SID, auth_token=TOKEN, api_key="SK1", api_secret="hush")
    assert TOKEN not in repr(settings)
    assert "hush" not in repr(settings) + str(settings.model_dump())
    assert settings.credentials == ("SK1", "hush")
    with pytest.raises(ValidationError) as caught:
        TwilioSettings(provider="twilio", account_sid=SID, auth_token=TOKEN, timeout="x")
    assert TOKEN not in str(caught.value)


async def test_a_message_may_bring_the_credentials_of_the_rest_api(server: HttpRecorder) -> None:
    server.answer(Answer(201, {"sid": "SM1"}))
    options = {"twilio_sid": SID, "twilio_auth_token": TOKEN}
    account = {"provider": "twilio", "account_sid": "AC1", "api_key": "SK1", "api_secret": "x", "from": "+15005550006"}
    async with Postroom(accounts={"texts": account | {"base_url": server.url}}) as room:
        receipt = await room.send(Sms(to="+15005550010", body="hi", options=options, provider="texts"))
    assert receipt.provider_message_id == "SM1"
    [request] = server.requests
    assert f"/Accounts/{SID}/" in request.path
    assert ("From", "+15005550006") in request.form()


async def test_an_account_may_be_a_url(server: HttpRecorder) -> None:
    server.answer(Answer(201, {"sid": "SM1"}))
    async with Postroom.from_urls(f"twilio://{SID}:{TOKEN}@?from=%2B15005550006&base_url={server.url}") as room:
        await room.send(Sms(to="+15005550010", body="hi"))
    assert ("From", "+15005550006") in server.requests[0].form()


async def test_twilios_usual_environment_makes_an_account(
    server: HttpRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWILIO_ACCOUNT_SID", SID)
    with pytest.raises(ConfigError, match="TWILIO_AUTH_TOKEN"):
        async with Postroom() as room:
            await room.send(Sms(to="+15005550010", **{"from": "+15005550006"}, body="hi", provider="twilio"))
