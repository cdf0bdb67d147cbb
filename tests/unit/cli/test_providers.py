"""`postroom providers`: what is installed, what loads, and why not."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.conftest import CommandLine


def test_providers_shows_what_loads_and_what_each_can_do(command: CommandLine) -> None:
    found = {provider["name"]: provider for provider in command("providers", "--json").json}
    assert {"console", "file", "memory", "sendgrid", "smtp", "twilio", "vonage"} <= set(found)
    assert found["smtp"]["status"] == "loaded"
    assert found["smtp"]["distribution"] == "postroom-smtp"
    assert "attachments" in found["smtp"]["channels"]["email"]["features"]


def test_postroom_plugins_restricts_what_loads(command: CommandLine) -> None:
    found = command("providers", "--json", env={"POSTROOM_PLUGINS": "smtp"}).json
    statuses = {provider["name"]: provider["status"] for provider in found}
    assert statuses.pop("smtp") == "loaded"
    assert set(statuses.values()) == {"not allowed"}
    found = command("providers", "--json", env={"POSTROOM_PLUGINS": ""}).json
    assert {provider["status"] for provider in found} == {"not allowed"}
