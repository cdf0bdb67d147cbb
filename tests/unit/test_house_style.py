from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = [*ROOT.glob("src/**/*.py"), *ROOT.glob("plugins/*/src/**/*.py")]
TOP_LEVEL = {"pyproject.toml", "README.md", "LICENSE", "src", "plugins", "tests", "docs"}


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name]


def test_the_top_level_holds_nothing_but_what_the_design_lists():
    tops = {path.relative_to(ROOT).parts[0] for path in tracked()}
    assert {top for top in tops if not top.startswith(".")} <= TOP_LEVEL


def test_no_file_names_a_machines_path_or_a_registry():
    found = re.compile(r"(?<![\w.-])/(?:work|root|var/tmp)/|files\.pythonhosted|pypi\.org/simple|registry\.npmjs")
    named = [str(path.relative_to(ROOT)) for path in tracked() if path != Path(__file__) and found.search(_text(path))]
    assert named == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_source_file_is_short_fully_annotated_and_no_drawer(path):
    assert path.stem not in {"utils", "util", "helpers", "common", "misc"}
    text = path.read_text()
    assert text.count("\n") <= 500
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.returns is not None, node.name


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
        return ""
