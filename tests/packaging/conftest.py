"""Wheels of all five distributions and environments made of them: each built once, whatever worker asks first."""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PROJECTS = {"postroom": ROOT} | {
    f"postroom-{name}": ROOT / "plugins" / f"postroom-{name}" for name in ("sendgrid", "smtp", "twilio", "vonage")
}

INSTALLED = """
import importlib.metadata, json, re
print(json.dumps([re.sub("[-_.]+", "-", d.name).lower() for d in importlib.metadata.distributions()]))
"""
UNIMPORTABLE = """
import importlib, json, pkgutil, sys
package = importlib.import_module(sys.argv[1])
missing = {}
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    if not module.name.endswith("__main__"):
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            missing[module.name] = error.name
print(json.dumps(missing))
"""


def uv(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "uv", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@dataclass(frozen=True)
class Installed:
    """A virtual environment that knows nothing of the checkout."""

    folder: Path

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment, away from the checkout and from our variables."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("POSTROOM_", "PYTHON"))}
        program = self.folder / "bin" / command[0]
        return subprocess.run(
            [program, *command[1:]],
            cwd=self.folder,
            capture_output=True,
            text=True,
            env=clean,
            timeout=150,
            check=False,
        )

    def answer(self, *command: str) -> Any:
        """The JSON that a program of the environment prints."""
        done = self.run(*command)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    def distributions(self) -> set[str]:
        return set(self.answer("python", "-c", INSTALLED))

    def unimportable(self, package: str) -> dict[str, str]:
        """Each module of `package` that cannot be imported, with the module that is missing for it."""
        return dict(self.answer("python", "-W", "error", "-c", UNIMPORTABLE, package))


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this run share."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@contextmanager
def made_once(folder: Path) -> Iterator[bool]:
    """Yield whether `folder` is still to be made; other workers wait until it is. What failed is made again."""
    done = folder.with_name(f"{folder.name}.done")
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield not done.exists()
        done.touch()


@pytest.fixture(scope="session")
def dist(shared: Path) -> Path:
    """Wheels, built from source archives, of all five distributions; the workspace's own sources are not used."""
    folder = shared / "dist"
    with made_once(folder) as due:
        for project in PROJECTS.values() if due else ():
            uv("build", "--no-sources", "--quiet", "--out-dir", str(folder), str(project))
    return folder


@pytest.fixture(scope="session")
def environment_of(dist: Path, shared: Path) -> Callable[[str], Installed]:
    """A fresh environment with a requirement installed from the wheels, one for all tests that ask for the same."""

    def environment(requirement: str) -> Installed:
        folder = shared / re.sub(r"\W", "-", requirement)
        with made_once(folder) as due:
            if due:
                uv("venv", "--quiet", "--clear", "--python", sys.executable, str(folder))
                options = ("--python", str(folder / "bin" / "python"), "--find-links", str(dist))
                constraints = ("--constraints", str(ROOT / ".ci" / "constraints.txt"))
                uv("pip", "install", "--quiet", *options, *constraints, requirement)
        return Installed(folder)

    return environment
