"""Style and types are promises too: the checks run as tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("command", [("ruff", "check"), ("ruff", "format", "--check")], ids=" ".join)
def test_the_code_keeps_the_house_style(command) -> None:
    done = run(*command)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(300)
def test_the_strict_type_checker_has_nothing_to_say() -> None:
    sources = ["src", *(str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("plugins/*/src")))]
    done = run("mypy", *sources)
    assert done.returncode == 0, done.stdout
