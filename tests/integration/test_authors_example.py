"""The guide's example, a provider outside the workspace: its own tests, as its author runs them."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PLIVO = Path(__file__).parents[1] / "plugins" / "postroom-plivo"
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("POSTROOM_")}


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """The environment in which the example's distribution is installed, as an installer would lay it out."""
    project = tomllib.loads((PLIVO / "pyproject.toml").read_text())["project"]
    info = tmp_path / "postroom_plivo-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    entries = [f"{name} = {value}" for name, value in project["entry-points"]["postroom"].items()]
    (info / "entry_points.txt").write_text("\n".join(["[postroom]", *entries]) + "\n")
    return CLEAN | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(PLIVO / "src")])}


def run(*command: str, environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=PLIVO,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(300)
def test_the_example_passes_its_tests_and_says_where_it_deviates(installed: dict[str, str]) -> None:
    shown = run("pytest", "-p", "no:asyncio", "-p", "no:benchmark", "-p", "no:cacheprovider", environment=installed)
    assert "PlivoSms (TestPlivo)" in shown
    assert "1 deviating" in shown
    assert "signature covers the URL and a nonce" in shown


def test_the_users_of_the_example_see_where_it_deviates(installed: dict[str, str]) -> None:
    shown = run("postroom", "providers", environment=installed)
    assert "plivo (sms) deviates from the contract: Plivo's signature covers the URL and a nonce" in shown


def test_the_example_is_linted_and_typed_like_the_scaffold(installed: dict[str, str]) -> None:
    run("ruff", "check", "--no-cache", environment=installed)
    run("ruff", "format", "--check", "--no-cache", environment=installed)
    source = Path(__file__).parents[2] / "src"
    run("mypy", "--cache-dir", os.devnull, "src", environment=installed | {"MYPYPATH": f"src:{source}"})


def test_nothing_is_left_for_the_author_to_fill_in() -> None:
    texts = {path: path.read_text() for kind in ("py", "md", "toml") for path in PLIVO.rglob(f"*.{kind}")}
    assert len(texts) > 8
    assert [path for path, text in texts.items() if "FILL IN" in text] == []
