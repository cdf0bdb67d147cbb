"""What the house asks of every file, where a test is cheaper than a reader's eye."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = [*ROOT.glob("src/**/*.py"), *ROOT.glob("plugins/*/src/**/*.py")]
TOP_LEVEL = {"pyproject.toml", "README.md", "LICENSE", "src", "plugins", "tests", "docs"}
OF_A_PLUGIN = {"pyproject.toml", "README.md", "LICENSE", "src", "tests"}
DRAWERS = {"utils", "util", "helpers", "common", "misc"}
FOREIGN = re.compile(
    r"(?<![\w.:-])/(?:work|root|home|var/tmp|opt)/|(?:files\.|\b)pythonhosted\.org|\bpypi\.org|registry\.npmjs"
)
LONGEST_FILE, LONGEST_FUNCTION = 500, 40


def tracked() -> list[Path]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in listed.stdout.split("\0") if (ROOT / name).is_file()]


def entries(folder: Path) -> set[str]:
    tops = {path.relative_to(folder).parts[0] for path in tracked() if path.is_relative_to(folder)}
    return {top for top in tops if not top.startswith(".")}


@pytest.mark.system("git")
def test_the_top_level_holds_what_the_design_lists_and_nothing_else() -> None:
    assert entries(ROOT) == TOP_LEVEL


@pytest.mark.system("git")
@pytest.mark.parametrize("plugin", sorted(ROOT.glob("plugins/*")), ids=lambda path: path.name)
def test_a_plugin_is_a_whole_distribution_and_nothing_else(plugin: Path) -> None:
    assert entries(plugin) == OF_A_PLUGIN


@pytest.mark.system("git")
def test_no_file_names_a_machines_path_or_a_registry() -> None:
    named = [
        str(path.relative_to(ROOT)) for path in tracked() if path != Path(__file__) and FOREIGN.search(_text(path))
    ]
    assert named == []


@pytest.mark.system("git")
def test_tests_are_no_packages() -> None:
    assert [
        path for path in tracked() if path.name == "__init__.py" and "tests" in path.parts and "src" not in path.parts
    ] == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_source_file_is_short_and_no_drawer_and_its_functions_are_short_and_annotated(path: Path) -> None:
    assert path.stem not in DRAWERS
    text = path.read_text()
    assert text.count("\n") <= LONGEST_FILE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.returns is not None, node.name
            assert _length(node) <= LONGEST_FUNCTION, node.name


def _length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of what a function does: its signature, which may be a command's options, and docstring are left out."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (function.end_lineno or 0) - body[0].lineno + 1 if body else 0


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except UnicodeDecodeError:
        return ""


def test_the_client_stays_a_facade() -> None:
    tree = ast.parse((ROOT / "src/postroom/client.py").read_text())
    [client] = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    assert client.name == "Postroom"
    assert (client.end_lineno or 0) - client.lineno + 1 < 180
