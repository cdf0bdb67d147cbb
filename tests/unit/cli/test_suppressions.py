"""`postroom suppressions`: who is not written to, from the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import CommandLine


CONFIGURATION = """
[defaults]
email = "box"
sms = "box"
[accounts.box]
provider = "memory"
from = "desk@example.org"
"""


@pytest.fixture
def run(command: CommandLine) -> CommandLine:
    """The command line over an account that takes everything."""
    command.configure(CONFIGURATION)
    return command


def test_an_address_that_is_added_is_not_written_to_until_it_is_removed(run: CommandLine) -> None:
    added = run("suppressions", "add", "Ann@Example.org", "--note", "by phone", "--json")
    assert (added.code, added.json["address"], added.json["detail"]) == (0, "ann@example.org", "by phone")
    refused = run("send", "email", "--to", "ann@example.org", "--text", "hi", "--json")
    assert (refused.code, refused.json["error"]) == (1, "suppressed")
    assert run("suppressions", "remove", "ann@example.org").out == "ann@example.org is written to again\n"
    assert run("send", "email", "--to", "ann@example.org", "--text", "hi").code == 0


def test_a_category_leaves_the_other_messages_alone(run: CommandLine) -> None:
    assert run("suppressions", "add", "+44 20 7946 0958", "--category", "marketing").code == 0
    assert run("send", "sms", "--to", "+442079460958", "--body", "hi").code == 0
    [entry] = run("suppressions", "list", "--channel", "sms", "--json").json
    assert (entry["address"], entry["category"], entry["reason"]) == ("+442079460958", "marketing", "manual")
    assert run("suppressions", "list", "--channel", "email", "--json").json == []


@pytest.mark.parametrize("address", ["ann@", "12", "nobody"])
def test_what_is_no_address_is_refused(run: CommandLine, address: str) -> None:
    done = run("suppressions", "add", address)
    assert done.code == 2
    assert address in done.err
