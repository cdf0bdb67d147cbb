"""Each promise of the threat model names the tests that fail when it is broken."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "explanation" / "threat-model.md"


def rows(heading: str) -> list[list[str]]:
    """The cells of the table below a heading, without its head."""
    [section] = re.findall(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.mark.parametrize("row", rows("What is promised"), ids=lambda row: row[1])
def test_a_promise_is_held_by_a_test_that_is_there(row: list[str]) -> None:
    against, promise, held_by = row
    assert against
    assert promise
    named = re.findall(r"`([^`]+)::(test_\w+)`", held_by)
    assert named
    for path, test in named:
        tree = ast.parse((ROOT / path).read_text())
        names = {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}
        assert test in names


@pytest.mark.parametrize("heading", ["What is to be guarded", "Who can reach what", "What is not promised"])
def test_every_line_says_something(heading: str) -> None:
    assert rows(heading)
    assert all(all(row) for row in rows(heading))
