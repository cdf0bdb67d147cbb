"""The catalogue says of each provider what is so, and its page is made of its file."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from tests.docs.catalogue import PAGE, entries, page

from postroom.plugin.transport import Transport
from postroom.receipts import Channel
from postroom.registry.registry import OURS, Registry

FIELDS = {"package": str, "channels": list, "scheduled": bool, "reports": bool, "finds": bool, "page": str}
ROOT = Path(__file__).parents[2]
DISTRIBUTIONS = sorted(ROOT.glob("plugins/*/pyproject.toml"))


def test_the_page_is_made_of_its_file() -> None:
    assert PAGE.read_text() == page(), "run `python -m tests.docs.catalogue`"


@pytest.mark.parametrize("name", entries())
def test_an_entry_has_all_that_is_said_of_a_provider(name: str) -> None:
    entry = entries()[name]
    assert {field: type(value) for field, value in entry.items()} == FIELDS
    assert entry["channels"]
    assert set(entry["channels"]) <= set(Channel)


def test_the_entries_are_in_the_order_of_the_alphabet_and_ours_are_among_them() -> None:
    assert [*entries()] == sorted(entries())
    assert {name: entry["package"] for name, entry in entries().items() if name in OURS} == OURS


@pytest.mark.parametrize("name", OURS)
def test_what_is_said_of_ours_is_what_they_do(name: str) -> None:
    registry, entry = Registry(), entries()[name]
    kinds = {Channel(channel): registry.transport(name, Channel(channel)) for channel in entry["channels"]}
    assert set(registry.channels(name)) == set(kinds)
    for kind in kinds.values():
        assert ("send_at" in kind.capabilities.features) is entry["scheduled"]
        assert kind.capabilities.reconciles is entry["finds"]
        assert (kind.parse_webhook is not Transport.parse_webhook) is entry["reports"]
    assert (PAGE.parent / entry["page"]).is_file()


@pytest.mark.parametrize("file", DISTRIBUTIONS, ids=[file.parent.name for file in DISTRIBUTIONS])
def test_ours_are_named_and_found_as_the_convention_says(file: Path) -> None:
    project: dict[str, Any] = tomllib.loads(file.read_text())["project"]
    [provider] = project["entry-points"]["postroom"]
    assert project["name"] == f"postroom-{provider}"
    assert "postroom-provider" in project["keywords"]
