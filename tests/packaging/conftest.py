from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLUGINS = ("sendgrid", "smtp", "twilio", "vonage")


def uv(*arguments: str, cwd: Path | None = None) -> None:
    done = subprocess.run([sys.executable, "-m", "uv", *arguments], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@dataclass(frozen=True)
class Installed:
    """A virtual environment that knows nothing of the checkout."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def install(self, wheels: Path, *requirements: str) -> None:
        constraints = ROOT / ".ci" / "constraints.txt"
        options = ("--python", str(self.python), "--find-links", str(wheels), "--constraints", str(constraints))
        uv("pip", "install", "--quiet", *options, *requirements)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("POSTROOM_", "PYTHON"))}
        return subprocess.run(
            [self.python, *arguments], cwd=self.folder, capture_output=True, text=True, env=clean, timeout=60
        )


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheels and source archives of all five distributions, built without the workspace's own sources."""
    folder = tmp_path_factory.mktemp("dist")
    for project in (ROOT, *(ROOT / "plugins" / f"postroom-{name}" for name in PLUGINS)):
        uv("build", "--no-sources", "--quiet", "--out-dir", str(folder), str(project))
    return folder


@pytest.fixture
def empty_environment(tmp_path: Path) -> Installed:
    folder = tmp_path / "env"
    uv("venv", "--quiet", "--python", sys.executable, str(folder))
    return Installed(folder)
