"""Values of options as fields of messages, and options that commands share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from postroom.cli.arguments import json_pairs, moment, pairs, with_option_groups
from postroom.cli.output import UsageError


@dataclass(frozen=True)
class Shared:
    """Options of several commands."""

    name: Annotated[str | None, typer.Option(help="Whose.")] = None
    tags: Annotated[list[str], typer.Option("--tag", help="Which.")] = field(default_factory=list)
    loud: Annotated[bool, typer.Option("--loud", help="How.")] = False


seen: list[tuple[str, Shared, int]] = []
app = typer.Typer(rich_markup_mode=None)


@app.command()
@with_option_groups
def greet(word: str, shared: Shared, times: Annotated[int, typer.Option(help="How often.")] = 1) -> None:
    """Say a word."""
    seen.append((word, shared, times))


@pytest.mark.parametrize(
    ("arguments", "shared", "times"),
    [
        ((), Shared(), 1),
        (("--name", "Ann", "--tag", "a", "--tag", "b", "--loud", "--times", "3"), Shared("Ann", ["a", "b"], True), 3),
    ],
)
def test_a_group_of_options_is_given_to_the_command_as_one(
    arguments: tuple[str, ...], shared: Shared, times: int
) -> None:
    seen.clear()
    assert CliRunner().invoke(app, ["hello", *arguments], catch_exceptions=False).exit_code == 0
    assert seen == [("hello", shared, times)]


def test_options_of_a_group_stand_in_the_help_with_the_others() -> None:
    shown = CliRunner().invoke(app, ["--help"]).stdout
    assert "Say a word." in shown
    for option in ("--name", "--tag", "--loud", "--times"):
        assert option in shown


def test_runs_of_a_command_do_not_share_a_list() -> None:
    seen.clear()
    for _ in range(2):
        CliRunner().invoke(app, ["hello", "--tag", "a"], catch_exceptions=False)
    assert [shared.tags for _, shared, _ in seen] == [["a"], ["a"]]


def test_pairs_keep_their_values_as_they_are() -> None:
    assert pairs(["a= b=c ", " d=", "e=="], "--option") == {"a": " b=c ", "d": "", "e": "="}


@pytest.mark.parametrize("given", [["a"], ["=b"], [" =b"], ["a=1", "a =2"]])
def test_a_pair_that_is_none_or_comes_twice_is_refused_without_its_value(given: list[str]) -> None:
    with pytest.raises(UsageError, match="^--option: ") as caught:
        pairs(given, "--option")
    assert caught.value.option == "--option"
    assert "b" not in str(caught.value).removeprefix("--option: ").split()


def test_values_are_json_or_else_text() -> None:
    given = ["a=1", "b=true", 'c={"d": []}', "e=1a", "f="]
    assert json_pairs(given, "--provider-option") == {"a": 1, "b": True, "c": {"d": []}, "e": "1a", "f": ""}


def test_a_time_without_an_offset_is_local() -> None:
    local = moment("2030-01-31T09:00:00", "--send-at")
    assert local
    assert local.tzinfo
    assert local.replace(tzinfo=None).isoformat() == "2030-01-31T09:00:00"
    assert moment(None, "--send-at") is None
