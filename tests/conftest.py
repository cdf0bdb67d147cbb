"""What the core's tests share: a stage to script providers on, distributions made of plain folders, clean surroundings."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import Any, Self

import pytest

PLUGINS = Path(__file__).parent / "plugins"
ROOT = Path(__file__).parent.parent

collect_ignore = ["plugins"]
"""Distributions that tests install; test_authors_example.py runs the tests of the one that has some."""


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module `postroom_stage`, with its providers and extensions installed for this test."""
    monkeypatch.syspath_prepend(str(PLUGINS / "postroom-stage"))
    module = importlib.import_module("postroom_stage")
    module.LOG.clear()
    module.VETO.clear()
    module.STAGE.__init__()
    return module


@pytest.fixture
def bare_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No POSTROOM_ variable and an empty working directory, which is returned."""
    for name in [name for name in os.environ if name.startswith("POSTROOM_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@dataclass(frozen=True)
class Site:
    """A folder on a subprocess's path, where distributions are laid out as an installer would."""

    folder: Path

    def add(
        self,
        name: str,
        *,
        providers: dict[str, str] | None = None,
        extensions: dict[str, str] | None = None,
        modules: dict[str, str] | None = None,
        metadata: bool = True,
        raw_entry_points: str | None = None,
    ) -> Self:
        """Lay a distribution out: its entry points, and its modules by name."""
        info = self.folder / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir(parents=True)
        if metadata:
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        groups = {"postroom": providers or {}, "postroom.extensions": extensions or {}}
        lines = []
        for group, entries in groups.items():
            lines += [f"[{group}]", *(f"{key} = {value}" for key, value in entries.items())]
        (info / "entry_points.txt").write_text(raw_entry_points or "\n".join(lines) + "\n")
        for module, text in (modules or {}).items():
            (self.folder / f"{module}.py").write_text(dedent(text))
        return self

    def python(
        self, code: str, *, env: dict[str, str] | None = None, paths: Iterable[Path | str] = (), warnings: str = "error"
    ) -> Any:
        """Run `code` with this folder on the path; it prints one JSON value, which is returned."""
        surroundings = {k: v for k, v in os.environ.items() if not k.startswith("POSTROOM_")}
        surroundings["PYTHONPATH"] = os.pathsep.join([str(self.folder), *map(str, paths)])
        surroundings.update(env or {})
        done = subprocess.run(
            [sys.executable, "-W", warnings, "-c", dedent(code)],
            capture_output=True,
            text=True,
            env=surroundings,
            cwd=self.folder,
            timeout=50,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def site(tmp_path: Path) -> Site:
    folder = tmp_path / "site"
    folder.mkdir()
    return Site(folder)
