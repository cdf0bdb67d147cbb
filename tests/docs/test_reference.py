"""The reference names everything there is, and nothing that is not."""

from __future__ import annotations

import inspect
import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

import postroom
from postroom import (
    Address,
    Attachment,
    DeliveryError,
    Email,
    Event,
    Message,
    Postroom,
    Receipt,
    Sms,
    Status,
    SyncPostroom,
    errors,
)
from postroom.attachments import LARGEST_EMAIL
from postroom.cli.app import build
from postroom.config.fields import setting_names
from postroom.config.load import CONFIG_VARIABLE, PLUGINS_VARIABLE, SECTIONS, URL_VARIABLES
from postroom.config.model import Config, Defaults, Plugins, RouteSettings, Rule
from postroom.config.outbox import OutboxSettings
from postroom.messages import MODELLED_HEADERS
from postroom.outbox import (
    AccountHealth,
    EnqueueResult,
    MessageDetails,
    MessageFilter,
    MessageSummary,
    Outbox,
    OutboxStats,
    QueueBacklog,
)
from postroom.outbox.encryption import KEY_VARIABLE
from postroom.outbox.sqlite.schema import TABLES
from postroom.outbox.states import Transition, allowed_from
from postroom.plugin import (
    EMAIL_FEATURES,
    SMS_FEATURES,
    AccountSettings,
    Capabilities,
    HttpAccountSettings,
    Transport,
    hookspecs,
)
from postroom.plugin.http import HttpReply, HttpTransport, error_for_status
from postroom.receipts import Attempt, Channel, RecipientResult
from postroom.registry.registry import Registry

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
PROVIDERS = ("smtp", "sendgrid", "twilio", "vonage")


def page(name: str, heading: str | None = None) -> str:
    text = (REFERENCE / f"{name}.md").read_text()
    return text if heading is None else text.split(f"## {heading}\n")[1].split("\n## ")[0]


def quoted(text: str) -> list[str]:
    """Every `name` in code quotes."""
    return re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def table(text: str) -> list[list[str]]:
    """The cells of every table's rows, headings left out."""
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in row] for row in rows]
    return [row for at, row in enumerate(cells) if not _is_heading(cells, at)]


def _is_heading(cells: list[list[str]], at: int) -> bool:
    return set("".join(cells[at])) <= {"-"} or (at + 1 < len(cells) and set("".join(cells[at + 1])) == {"-"})


def described(text: str) -> dict[str, list[str]]:
    """The first column's names, each with the other cells of its row."""
    return {name: row[1:] for row in table(text) for name in quoted(row[0])}


def bounds(field: FieldInfo) -> list[int]:
    """The numbers that a field's declaration sets as limits."""
    named = ("max_length", "le", "ge")
    return [getattr(rule, name) for rule in field.metadata for name in named if getattr(rule, name, None)]


def own_fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    inherited = Message.model_fields if model in {Email, Sms} else {}
    return {name: field for name, field in model.model_fields.items() if name not in inherited}


@pytest.mark.parametrize(
    ("heading", "model"),
    [("Fields of both", Message), ("Email", Email), ("Sms", Sms), ("Attachment", Attachment), ("Address", Address)],
)
def test_a_messages_tables_have_every_field_with_its_default_and_its_limits(
    heading: str, model: type[BaseModel]
) -> None:
    rows = described(page("messages", heading))
    assert rows.keys() == own_fields(model).keys()
    for name, field in own_fields(model).items():
        _, default, limits = rows[name]
        given = "required" if field.is_required() else _written(field.default)
        assert default == given, name
        for bound in bounds(field):
            assert f"{bound:,}" in limits, name


def _written(default: object) -> str:
    if default in (None, (), {}):
        return ""
    return f"`{json.dumps(default) if isinstance(default, str) else default}`"


def test_the_size_of_an_email_and_the_headers_it_refuses_are_listed() -> None:
    text = page("messages")
    assert f"{LARGEST_EMAIL:,} bytes" in text
    assert {name.lower() for name in quoted(text)} >= MODELLED_HEADERS


@pytest.mark.parametrize("model", [Receipt, RecipientResult, Attempt])
def test_a_receipts_tables_have_every_field(model: type[BaseModel]) -> None:
    rows = described(page("receipts", model.__name__))
    statuses = {"sent", "in_doubt", "failed"} if model is Receipt else set()
    assert rows.keys() == model.model_fields.keys() | statuses
    assert statuses <= {str(status) for status in Status}


@pytest.mark.parametrize(
    ("heading", "model"),
    [
        ("`[defaults]`", Defaults),
        ("`[accounts.NAME]`", HttpAccountSettings),
        ("`[routes.NAME]`", RouteSettings),
        ("`[[rules]]`", Rule),
        ("`[plugins]`", Plugins),
    ],
)
def test_the_configurations_tables_have_every_key_with_its_default_and_its_limits(
    heading: str, model: type[BaseModel]
) -> None:
    rows = described(page("configuration", heading))
    assert rows.keys() == setting_names(model).keys()
    for name, field in setting_names(model).items():
        default, meaning = rows[name]
        if field.is_required():
            assert default == "required", name
        elif field.default in (None, (), {}):
            assert not default.startswith(("`", "0", "1 (")), name
        else:
            value = field.default
            assert default.split(" (")[0] == (_written(value) if isinstance(value, str) else f"{value:g}"), name
        for bound in bounds(field):
            assert str(bound) in meaning, name


def test_where_smtp_differs_from_other_accounts_the_table_says_so() -> None:
    rows = described(page("configuration", "`[accounts.NAME]`"))
    smtp = setting_names(Registry().settings_model("smtp"))
    for name, field in setting_names(AccountSettings).items():
        told = re.search(r"\(SMTP: (.*)\)", rows[name][0])
        differs = name != "provider" and smtp[name].default != field.default
        value = smtp[name].default
        assert (told and told[1]) == ((f'`"{value}"`' if isinstance(value, str) else f"{value:g}") if differs else None)


def test_the_outboxs_table_has_every_key_with_its_default() -> None:
    rows = described(page("configuration", "`[outbox]`"))
    defaults = {name: field.default for name, field in OutboxSettings.model_fields.items()}
    assert {name: row[0] for name, row in rows.items()} == {name: written(value) for name, value in defaults.items()}


def written(default: object) -> str:
    if isinstance(default, str):
        return f'`"{default}"`'
    return "none" if default == () else f"{default:g}"


@pytest.mark.parametrize(
    "record", [MessageFilter, MessageSummary, MessageDetails, OutboxStats, QueueBacklog, AccountHealth, EnqueueResult]
)
def test_an_outbox_records_table_has_every_field(record: type[Any]) -> None:
    there = record.model_fields if hasattr(record, "model_fields") else {field.name for field in fields(record)}
    assert described(page("outbox", record.__name__)).keys() == set(there)


def test_every_method_of_the_outbox_is_listed_with_its_parameters_and_no_other() -> None:
    listed = {}
    for name in described(page("outbox", "Methods")):
        called = re.fullmatch(r"await outbox\.(\w+)\((.*)\)", name)
        assert called, name
        listed[called[1]] = [word.split("=")[0] for word in called[2].split(", ") if word not in {"", "*"}]
    there = {
        name: [parameter for parameter in inspect.signature(member).parameters if parameter != "self"]
        for name, member in inspect.getmembers(Outbox, inspect.isroutine)
        if not name.startswith("_")
    }
    assert listed == there


@pytest.mark.parametrize(
    ("method", "move"),
    [
        ("cancel", Transition.CANCEL),
        ("hold", Transition.HOLD),
        ("retry", Transition.REQUEUE),
        ("resolve", Transition.LEARN_SENT),
    ],
)
def test_from_which_states_a_message_can_be_moved_is_listed(method: str, move: Transition) -> None:
    rows = {name.split("(")[0]: row for name, row in described(page("outbox", "Methods")).items()}
    assert set(quoted(rows[f"await outbox.{method}"][0])) == set(allowed_from(move))


def test_every_state_is_explained() -> None:
    text = (ROOT / "docs" / "explanation" / "delivery-guarantees.md").read_text()
    assert described(text.split("## The states\n")[1].split("\n## ")[0]).keys() == set(Status)
    assert set(Status) <= set(quoted(page("outbox", "States")))


def test_every_section_of_the_file_is_described() -> None:
    for section in Config.model_fields:
        assert re.search(rf"`\[+{section}[\].]", page("configuration")), section


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_providers_page_has_every_setting_and_option_of_its_own_and_no_other(provider: str) -> None:
    text = (ROOT / "plugins" / f"postroom-{provider}" / "README.md").read_text()
    listed = set(described(text.split("## Settings\n")[1].split("\n## ")[0]))
    model = Registry().settings_model(provider)
    everywhere = set(setting_names(HttpAccountSettings))
    assert listed <= set(setting_names(model))
    assert set(setting_names(model)) - everywhere <= listed
    assert set(model.env_vars.values()) | set(model.message_options) <= set(quoted(text))


def test_every_variable_is_listed_and_no_other() -> None:
    own = {CONFIG_VARIABLE, PLUGINS_VARIABLE, KEY_VARIABLE, *URL_VARIABLES.values(), "POSTROOM_SECTION__NAME__KEY"}
    assert described(page("environment", "postroom's own variables")).keys() == own

    usual = {
        variable: (provider, setting)
        for provider in PROVIDERS
        for setting, variable in Registry().settings_model(provider).env_vars.items()
    }
    rows = described(page("environment", "A provider's usual variables"))
    assert {variable: tuple(quoted(row[0])) for variable, row in rows.items()} == usual


def test_no_text_and_no_source_speaks_of_a_variable_that_does_not_exist() -> None:
    known = {CONFIG_VARIABLE, PLUGINS_VARIABLE, KEY_VARIABLE, *URL_VARIABLES.values()}
    sections = "|".join((*SECTIONS, "section")).upper()
    for folder, kind in (("docs", "md"), ("src", "py"), ("plugins", "md"), ("plugins", "py"), (".", "md")):
        for path in (ROOT / folder).glob(f"**/*.{kind}" if folder != "." else "*.md"):
            named = set(re.findall(r"\bPOSTROOM_[A-Z]\w*", path.read_text())) - known
            assert not [name for name in named if not re.match(rf"POSTROOM_({sections})__", name)], path


def test_every_error_is_listed_in_its_place_with_code_outcome_and_scope() -> None:
    tree = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, errors.PostroomError)]
    rows = table(page("errors").split("\n## ")[0])
    assert [quoted(row[0])[0] for row in rows] == [cls.__name__ for cls in tree]
    for row, cls in zip(rows, tree, strict=True):
        assert quoted(row[1]) == [cls.code]
        assert row[0].count("&nbsp;&nbsp;") == cls.__mro__.index(errors.PostroomError)
        told = f"{cls.default_outcome}, {cls.default_scope}" if issubclass(cls, DeliveryError) else ""
        assert row[2] == told, cls


def test_everything_a_delivery_error_carries_is_listed() -> None:
    taken = set(inspect.signature(DeliveryError).parameters) - {"message"}
    assert described(page("errors").split("carries\n")[1].split("| outcome | what")[0]).keys() == taken | {"receipt"}


def test_every_hook_is_listed_with_its_signature_and_no_other() -> None:
    listed = {hook for row in table(page("plugin-hooks")) for hook in quoted(row[0]) if hook.startswith("postroom_")}
    assert listed == {
        name + str(inspect.signature(hook)).replace("'", "").replace("|", "\\|")
        for name, hook in vars(hookspecs).items()
        if name.startswith("postroom_")
    }


def test_every_field_of_an_event_is_listed() -> None:
    assert described(page("plugin-hooks", "Event")).keys() == Event.model_fields.keys()


def test_every_capability_is_listed_with_its_default() -> None:
    rows = described(page("capabilities").split("\n## ")[0])
    assert rows.keys() == {field.name for field in fields(Capabilities)}
    for field in fields(Capabilities):
        told = {"features": "none", "max_recipients": "no limit", "max_batch": "1"}.get(field.name, "`False`")
        assert rows[field.name][0] == told


@pytest.mark.parametrize(
    ("heading", "channel", "features"),
    [("E-mail", Channel.EMAIL, EMAIL_FEATURES), ("SMS", Channel.SMS, SMS_FEATURES)],
)
def test_the_table_of_features_says_who_has_which(heading: str, channel: Channel, features: frozenset[str]) -> None:
    text = page("capabilities", heading)
    assert described(text).keys() == features
    registry = Registry()
    heads = re.search(r"^\| feature \| (.*) \|$", text, re.MULTILINE)
    assert heads
    for at, column in enumerate(heads[1].split(" | ")):
        for provider in column.split(", "):
            told = {feature for feature, row in described(text).items() if row[at] == "yes"}
            assert told == registry.transport(provider, channel).capabilities.features, provider


def test_every_member_of_a_transport_is_listed_and_no_other() -> None:
    def public(cls: type) -> set[str]:
        return {name for name in (*vars(cls), *cls.__annotations__) if not name.startswith("_")}

    def listed(text: str) -> set[str]:
        return {word for name in described(text) for word in re.findall(r"^(?:await )?(\w+)", name)}

    made = {"account", "settings", "resources", "log"}
    assert listed(page("transport").split("\n## ")[0]) == public(Transport) - {"channel"} | made
    assert listed(page("transport", "Over HTTP").split("| HTTP status")[0]) == public(HttpTransport) - {"keeps_timeout"}
    assert {word.removesuffix("()") for word in quoted(page("transport", "Over HTTP"))} >= public(HttpReply)


def test_the_signatures_of_the_http_base_are_its_own() -> None:
    for name in described(page("transport", "Over HTTP")):
        called = re.match(r"(?:await )?(\w+)\((.*)\)", name)
        if called:
            there = list(inspect.signature(getattr(HttpTransport, called[1])).parameters)[1:]
            assert [word for word in called[2].split(", ") if word and word != "*"] == there


def test_the_table_of_http_statuses_is_what_the_base_does() -> None:
    rows = re.findall(r"^\| ([\d, ]+|other [45]xx|3xx) \| `(\w+)`", page("transport"), re.MULTILINE)
    assert len(rows) == 8
    for statuses, error in rows:
        examples = {"other 4xx": "418", "other 5xx": "500", "3xx": "302"}.get(statuses, statuses)
        for status in examples.split(", "):
            assert error_for_status(int(status)).__name__ == error, status


def test_every_class_variable_of_settings_is_listed() -> None:
    named = {name for name, kind in AccountSettings.__annotations__.items() if "ClassVar[dict" in str(kind)}
    assert described(page("transport", "Settings")).keys() == named


def test_every_method_of_the_room_is_listed_with_its_parameters_and_no_other() -> None:
    listed = {}
    for name in described(page("library", "`Postroom`")):
        called = re.fullmatch(r"(?:await )?(?:room\.|Postroom\.)?(\w+)(?:\((.*)\))?", name)
        assert called, name
        listed[called[1]] = [word.split("=")[0].lstrip("*") for word in (called[2] or "").split(", ")]
    there = {
        name: [parameter for parameter in inspect.signature(member).parameters if parameter != "self"]
        for name, member in inspect.getmembers(Postroom, inspect.isroutine)
        if not name.startswith("_")
    }
    there |= {"Postroom": list(inspect.signature(Postroom).parameters), "memory": [], "outbox": []}
    assert {name: [word for word in words if word] for name, words in listed.items()} == there


def test_the_blocking_twin_has_every_method_of_the_room() -> None:
    def methods(cls: type) -> set[str]:
        return {name for name in vars(cls) if not name.startswith("_")}

    assert methods(Postroom) <= methods(SyncPostroom)


def test_the_names_that_are_taken_in_the_outboxs_file_are_listed() -> None:
    guide = (ROOT / "docs/how-to/use-the-outbox.md").read_text()
    [listed] = re.findall(r"Taken are the names\s(.*?)\.", guide, re.DOTALL)
    assert re.findall(r"`(\w+)`", listed) == sorted(re.findall(r"CREATE TABLE (\w+)", TABLES))


def test_every_public_name_is_listed() -> None:
    told = set(re.findall(r"\w+", " ".join(quoted(page("library") + page("errors")))))
    assert set(postroom.__all__) <= told
    for name in quoted(" ".join(row[0] for row in table(page("library", "Other names")))):
        assert name.split("(")[0] in postroom.__all__


def commands(command: Any, path: str = "") -> dict[str, set[str]]:
    """Every command's name with its options."""
    found = {path: {option for parameter in command.params for option in parameter.opts if option.startswith("--")}}
    for name, child in getattr(command, "commands", {}).items():
        found |= commands(child, f"{path} {name}".strip())
    return found


def test_every_option_of_the_command_line_is_described_and_no_other() -> None:
    there = set().union(*commands(typer.main.get_command(build())).values())
    told = set(re.findall(r"--[a-z][a-z-]+", page("cli")))
    assert told - {"--help"} == there - {"--help"}


def test_every_command_that_a_page_names_exists() -> None:
    there = set(commands(typer.main.get_command(build())))
    for path in (ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("plugins/*/README.md")):
        for words in re.findall(r"`postroom ([a-z][a-z-]*(?: [a-z][a-z-]*)?)", path.read_text()):
            assert words in there or words.split()[0] in there, f"{path}: postroom {words}"
