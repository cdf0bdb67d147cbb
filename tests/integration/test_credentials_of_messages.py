"""What a message brings in `options` is text, never the name of a file on the server: every provider, every field."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from postroom import Channel, PostroomError
from postroom.config.accounts import settings_for_message
from postroom.config.fields import is_secret, setting_names
from postroom.plugin.resources import Resources
from postroom.plugin.settings import AccountSettings
from postroom.registry.registry import Registry

OPENED: list[str] = []
"""Every path that this process opened, from the first use on: an audit hook cannot be taken away again."""


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open":
        OPENED.append(str(arguments[0]))


@pytest.fixture(scope="module", autouse=True)
def audited() -> None:
    sys.addaudithook(_audit)


def _cases() -> list[tuple[str, Channel, str]]:
    registry = Registry()
    return [
        (provider, channel, field)
        for provider in ("smtp", "sendgrid", "twilio", "vonage")
        for channel in registry.channels(provider)
        for field, info in setting_names(registry.transport(provider, channel).settings_model).items()
        if is_secret(info)
    ]


@pytest.mark.parametrize(("provider", "channel", "field"), _cases())
async def test_no_option_of_a_message_opens_a_file(tmp_path: Path, provider: str, channel: Channel, field: str) -> None:
    named = tmp_path / f"{provider}-{field}"
    named.write_text("-----BEGIN PRIVATE KEY-----")
    OPENED.clear()
    kind = Registry().transport(provider, channel)
    others = {"application_id": "a", "api_key": "k", "account_sid": f"AC{'0' * 32}", "username": "u"}
    known = setting_names(kind.settings_model)
    options = {name: SecretStr(value) for name, value in others.items() if name in known and name != field}
    try:
        settings: AccountSettings = settings_for_message(
            "main",
            {"provider": provider, **({"host": "mx.example.org"} if "host" in known else {})},
            kind.settings_model,
            {**options, field: SecretStr(str(named))},
        )
        transport = kind("main", settings, Resources())
        await transport.open()
        await transport.close()
    except PostroomError:
        pass
    assert str(named) not in OPENED
