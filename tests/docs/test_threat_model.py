"""Each promise of the threat model names the tests that fail when it is broken."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "explanation" / "threat-model.md"


def rows(heading: str) -> list[list[str]]:
    """The cells of the table below a heading, without its head."""
    [section] = re.findall(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


PROMISES = rows("What is promised")
NAMED = [re.findall(r"`([^`]+)::(test_\w+)`", row[-1]) for row in PROMISES]


@pytest.fixture(scope="module")
def collected() -> set[tuple[str, str]]:
    """File and name of every test that runs where nothing but what pip installs is there: of those files."""
    files = sorted({path for named in NAMED for path, _ in named})
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-n", "0", *files]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    only_pip = {**inherited, "PATH": str(Path(sys.executable).parent)}
    done = subprocess.run(command, cwd=ROOT, env=only_pip, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    return {(path, test) for path, test in re.findall(r"^([^:\n]+)::(?:\w+::)*(test_\w+)", done.stdout, re.MULTILINE)}


@pytest.mark.parametrize(
    ("row", "named"), list(zip(PROMISES, NAMED, strict=True)), ids=[promise for _, promise, _ in PROMISES]
)
def test_a_promise_is_held_by_tests_that_run_wherever_pip_installs_what_they_need(
    row: list[str], named: list[tuple[str, str]], collected: set[tuple[str, str]]
) -> None:
    against, promise, _ = row
    assert against
    assert promise
    assert named
    assert set(named) <= collected
    for path, test in named:
        assert not left_out(ROOT / path, test), f"{path}::{test} is skipped, or may fail"


def left_out(path: Path, test: str) -> set[str]:
    """Marks of a test, its class or its module by which it may not run, or may fail unnoticed."""
    tree = ast.parse(path.read_text())
    holders: list[ast.AST] = [
        node for node in tree.body if isinstance(node, ast.Assign) and names(node) & {"pytestmark"}
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and any(getattr(each, "name", "") == test for each in node.body):
            holders += node.decorator_list
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == test:
            holders += [*node.decorator_list, *node.body]
    return {"skip", "skipif", "xfail", "importorskip"} & {name for holder in holders for name in names(holder)}


def names(tree: ast.AST) -> set[str]:
    found = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return found | {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


@pytest.mark.parametrize("heading", ["What is to be guarded", "Who can reach what", "What is not promised"])
def test_every_line_says_something(heading: str) -> None:
    assert rows(heading)
    assert all(all(row) for row in rows(heading))
