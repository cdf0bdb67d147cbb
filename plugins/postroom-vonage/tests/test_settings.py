"""An account that cannot work says what to set."""

from __future__ import annotations

from typing import Any

import pytest

from postroom import MissingCredential, Postroom
from postroom.config.accounts import account_settings
from postroom.errors import InvalidOption
from postroom.messages import Sms
from postroom.testing.http import HttpRecorder
from postroom_vonage.settings import VonageSettings

from .conftest import CANARY, YES


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VonageSettings.env_vars.values():
        monkeypatch.delenv(name, raising=False)


def configured(**values: Any) -> VonageSettings:
    settings = account_settings("texts", {"provider": "vonage", **values}, VonageSettings)
    assert isinstance(settings, VonageSettings)
    return settings


@pytest.mark.parametrize(
    ("values", "missing"),
    [
        ({}, "application_id and private_key"),
        ({"api_key": "k"}, "api_secret"),
        ({"api_secret": CANARY}, "api_key"),
        ({"api_key": "k", "api_secret": ""}, "api_secret"),
        ({"application_id": "a"}, "private_key"),
        ({"private_key": CANARY}, "application_id"),
        ({"api_key": "k", "signature_secret": CANARY}, "api_secret"),
        ({"api": "sms"}, "api_key and signature_secret"),
        ({"api": "sms", "api_key": "k"}, "signature_secret"),
        ({"api": "sms", "api_secret": CANARY}, "api_key"),
        ({"api": "sms", "application_id": "a", "private_key": CANARY}, "api_key and signature_secret"),
    ],
    ids=str,
)
def test_a_missing_credential_is_named_with_its_variable(values: dict[str, str], missing: str) -> None:
    with pytest.raises(MissingCredential) as caught:
        configured(**values)
    text = str(caught.value)
    assert text.startswith("accounts.texts: ")
    told = text.partition("; set ")[2]
    assert told.startswith(f"{missing} (")
    assert all(VonageSettings.env_vars[name] in told for name in missing.split(" and "))
    assert CANARY not in text


@pytest.mark.parametrize(
    "values",
    [
        {"api_key": "k", "api_secret": "s"},
        {"application_id": "a", "private_key": "p"},
        {"api": "sms", "api_key": "k", "api_secret": "s"},
        {"api": "sms", "api_key": "k", "signature_secret": "s"},
    ],
    ids=str,
)
def test_every_way_of_an_api_is_enough(values: dict[str, str]) -> None:
    assert configured(**values).provider == "vonage"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"api": "voice"}, "accounts.texts.api"),
        ({"signature_method": "crc"}, "signature_method"),
        ({"api_key": "a\r\nX-Evil: 1", "api_secret": CANARY}, "api_key"),
        ({"api_key": "k", "api_secre": CANARY}, "did you mean 'api_secret'"),
    ],
    ids=str,
)
def test_a_wrong_setting_is_named(values: dict[str, str], said: str) -> None:
    with pytest.raises(InvalidOption, match=said) as caught:
        configured(**values)
    assert CANARY not in str(caught.value)


def test_secrets_are_in_no_repr_and_no_dump(pem: str) -> None:
    secrets = {"api_secret": CANARY, "signature_secret": CANARY, "private_key": pem}
    settings = VonageSettings(api_key="k", application_id="a", **secrets)
    assert CANARY not in f"{settings!r}{settings}{settings.model_dump()}{settings.model_dump_json()}"
    assert "PRIVATE KEY" not in f"{settings!r}{settings}{settings.model_dump()}{settings.model_dump_json()}"
    assert settings.secret_texts() == [CANARY, CANARY, pem]


async def test_an_account_may_be_a_url(server: HttpRecorder) -> None:
    server.answer(YES["sms"])
    async with Postroom.from_urls(f"vonage://abcd1234:{CANARY}@?api=sms&from=Shop&base_url={server.url}") as room:
        receipt = await room.send(Sms(to="+447700900000", body="hi"))
    assert receipt.provider_message_id == "id-0"
    assert dict(server.requests[0].form())["from"] == "Shop"


async def test_vonages_usual_environment_makes_an_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VONAGE_APPLICATION_ID", "app-1")
    async with Postroom() as room:
        with pytest.raises(MissingCredential, match="VONAGE_PRIVATE_KEY"):
            await room.send(Sms(to="+447700900000", **{"from": "Shop"}, body="hi", provider="vonage"))


async def test_a_message_may_bring_its_own_credentials(server: HttpRecorder) -> None:
    server.answer(YES["messages"])
    options = {"vonage_api_key": "other", "vonage_api_secret": "hush"}
    account = {"provider": "vonage", "api_key": "k", "api_secret": CANARY, "from": "Shop", "base_url": server.url}
    async with Postroom(accounts={"texts": account}) as room:
        await room.send(Sms(to="+447700900000", body="hi", options=options, provider="texts"))
    assert server.requests[0].headers["authorization"] == "Basic b3RoZXI6aHVzaA=="


async def test_a_key_that_is_none_is_told_when_the_account_is_used(server: HttpRecorder) -> None:
    account = {"provider": "vonage", "application_id": "a", "private_key": "no key", "base_url": server.url}
    async with Postroom(accounts={"texts": {**account, "from": "Shop"}}) as room:
        with pytest.raises(MissingCredential, match="PEM"):
            await room.send(Sms(to="+447700900000", body="hi", provider="texts"))
    assert server.connections == 0
