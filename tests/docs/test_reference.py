"""The reference names everything there is, and nothing that is not."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import postroom
from postroom import Attachment, Email, Message, Receipt, Sms, errors
from postroom.config.model import Config, Defaults, Plugins, RouteSettings, Rule, setting_names
from postroom.plugin import EMAIL_FEATURES, SMS_FEATURES, AccountSettings, Capabilities, HttpAccountSettings, Transport
from postroom.plugin import hookspecs
from postroom.receipts import Attempt, RecipientResult
from postroom.registry import Registry

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"


def words(name: str) -> set[str]:
    """Every `name` in code quotes on a page."""
    text = re.sub(r"```.*?```", "", (REFERENCE / f"{name}.md").read_text(), flags=re.DOTALL)
    return set(re.findall(r"`([^`]+)`", text))


def first_column(name: str, heading: str) -> set[str]:
    """The names in the first column of the tables under a heading."""
    section = (REFERENCE / f"{name}.md").read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    return {n for row in re.findall(r"^\| (.*?) \|", section, re.MULTILINE) for n in re.findall(r"`([^`]+)`", row)}


@pytest.mark.parametrize(
    ("heading", "model"), [("Attachment", Attachment), ("Receipt", Receipt), ("Fields of both", Message)]
)
def test_the_tables_of_fields_are_the_models_fields(heading, model):
    assert first_column("messages", heading) == set(model.model_fields)


@pytest.mark.parametrize(("heading", "model"), [("Email", Email), ("Sms", Sms)])
def test_the_tables_of_a_messages_own_fields_are_its_fields(heading, model):
    assert first_column("messages", heading) == set(model.model_fields) - set(Message.model_fields)


@pytest.mark.parametrize("model", [RecipientResult, Attempt])
def test_the_fields_of_results_and_attempts_are_named(model):
    assert set(model.model_fields) <= words("messages")


@pytest.mark.parametrize(
    ("heading", "model"),
    [
        ("`[defaults]`", Defaults),
        ("`[routes.NAME]`", RouteSettings),
        ("`[[rules]]`", Rule),
        ("`[plugins]`", Plugins),
    ],
)
def test_the_tables_of_settings_are_the_models_settings(heading, model):
    assert first_column("configuration", heading) == set(model.model_fields)


def test_the_table_of_account_settings_is_what_every_account_takes():
    known = set(setting_names(AccountSettings)) | set(setting_names(HttpAccountSettings))
    assert first_column("configuration", "`[accounts.NAME]`") == known


def test_every_section_of_the_file_is_described():
    text = (REFERENCE / "configuration.md").read_text()
    for section in Config.model_fields:
        assert re.search(rf"`\[+{section}[\].]", text), section


@pytest.mark.parametrize("provider", ["smtp", "sendgrid", "twilio", "vonage"])
def test_a_providers_page_names_every_setting_and_variable_of_its_own(provider):
    page = (ROOT / "plugins" / f"postroom-{provider}" / "README.md").read_text()
    model = Registry().settings_model(provider)
    for setting in set(setting_names(model)) - set(setting_names(HttpAccountSettings)) - {"provider"}:
        assert f"`{setting}`" in page or f"{setting} =" in page, setting
    for variable in model.environment.values():
        assert variable in page, variable
    for option in model.message_options:
        assert option in page, option


def test_every_error_is_listed_with_its_code_and_no_other():
    listed = dict(re.findall(r"`(\w+)` \| `(\w+)`", (REFERENCE / "errors.md").read_text()))
    there = {
        name: cls.code
        for name, cls in vars(errors).items()
        if isinstance(cls, type) and issubclass(cls, errors.PostroomError)
    }
    assert listed == there


def test_every_hook_is_listed_with_its_signature():
    listed = words("plugins")
    for name, hook in vars(hookspecs).items():
        if name.startswith("postroom_"):
            signature = str(inspect.signature(hook)).replace("'", "").replace("|", "\\|")
            assert f"{name}{signature}" in listed


def test_every_capability_and_feature_is_listed():
    listed = words("plugins")
    assert {field for field in Capabilities.__dataclass_fields__} | EMAIL_FEATURES | SMS_FEATURES <= listed


def test_every_method_of_a_transport_is_listed():
    listed = " ".join(words("plugins"))
    for name, member in vars(Transport).items():
        if inspect.isfunction(member) and not name.startswith("_"):
            assert name in listed, name


def test_every_method_of_the_room_is_listed():
    listed = " ".join(words("library"))
    for name, member in vars(postroom.Postroom).items():
        if not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, (classmethod, property))):
            assert name in listed, name


def test_every_option_of_the_command_line_is_described():
    import typer

    from postroom.cli.app import build

    text = (REFERENCE / "cli.md").read_text()

    def options(command) -> set[str]:
        found = {option for parameter in command.params for option in parameter.opts if option.startswith("--")}
        for child in getattr(command, "commands", {}).values():
            found |= options(child)
        return found

    for option in options(typer.main.get_command(build())):
        assert option in text, option
