"""Account checks: wrong settings and names found, credentials tried, before the first message."""

from __future__ import annotations

from types import ModuleType
from typing import Any, Never

import pytest

from postroom import (
    ConfigError,
    InvalidOption,
    Postroom,
    ProviderNotFound,
)
from postroom.plugin import CheckReport


async def test_checks_report_each_account_and_survive_a_broken_one(stage: ModuleType) -> None:
    async def broken() -> Never:
        raise RuntimeError("s3cret")

    bad, fine = stage.Script(opening=broken), stage.Script()
    accounts = {
        "bad": stage.StageSettings(script=bad),
        "good": stage.StageSettings(script=fine),
        "gone": {"provider": "not-there"},
        "wrong": {"provider": "stage", "tokne": "x"},
    }
    async with Postroom(accounts=accounts) as room:
        reports = await room.check()
    assert set(reports) == {f"{n} ({c})" for n in ("bad", "good", "wrong") for c in ("email", "sms")} | {"gone"}
    good = reports["good (sms)"]
    assert isinstance(good, CheckReport)
    assert good.ok
    assert (fine.opened, fine.closed) == (2, 2)
    assert isinstance(reports["gone"], ProviderNotFound)
    assert isinstance(reports["wrong (email)"], ConfigError)
    assert "bad: stage raised RuntimeError when it was checked" in str(reports["bad (sms)"])
    assert "s3cret" not in str(reports["bad (sms)"])


def test_validate_finds_wrong_settings_before_anything_is_sent(stage: ModuleType) -> None:
    with pytest.raises(InvalidOption, match=r"accounts\.a\.tokne: unknown key; did you mean 'token'"):
        Postroom(accounts={"a": {"provider": "stage", "tokne": "x"}}).validate()
    Postroom(accounts={"a": {"provider": "stage", "token": "x"}}).validate()


class TestValidate:
    """Finding mistakes before the first message."""

    @pytest.mark.parametrize(
        ("parts", "said"),
        [
            ({"defaults": {"sms": "textz"}}, "textz"),
            ({"rules": [{"channel": "sms", "use": "nobody"}]}, "nobody"),
            ({"rules": [{"country": "GB", "use": "nobody"}]}, "nobody"),
            ({"rules": [{"domain": "example.org", "use": "nobody"}]}, "nobody"),
        ],
    )
    def test_a_name_that_nothing_answers_to_is_found(self, parts: dict[str, Any], said: str) -> None:
        room = Postroom(accounts={"texts": {"provider": "memory"}}, **parts)
        with pytest.raises(ProviderNotFound, match=said):
            room.validate()

    def test_a_configuration_without_mistakes_passes(self) -> None:
        Postroom(accounts={"texts": {"provider": "memory"}}, defaults={"sms": "texts"}).validate()

    def test_a_table_instead_of_a_config_says_what_to_do(self) -> None:
        with pytest.raises(TypeError, match="from_config"):
            Postroom({"accounts": {}})  # type: ignore[arg-type]  # what is under test


async def test_an_account_of_one_channel_is_checked_under_its_own_name() -> None:
    async with Postroom(accounts={"texts": {"provider": "twilio"}, "both": {"provider": "memory"}}) as room:
        assert set(await room.check()) == {"texts", "both (email)", "both (sms)"}
        assert set(await room.check("both")) == {"both (email)", "both (sms)"}


async def test_an_account_that_is_named_and_cannot_be_used_is_raised() -> None:
    async with Postroom(accounts={"gone": {"provider": "not-there"}}) as room:
        with pytest.raises(ProviderNotFound, match="not-there"):
            await room.check("gone")
        with pytest.raises(ProviderNotFound, match="nobody"):
            await room.check("nobody")
