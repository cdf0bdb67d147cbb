from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class Finished:
    """What a run of the command line left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def everything(self) -> str:
        return self.out + self.err


Cli = Callable[..., Finished]


@pytest.fixture
def clean_environment() -> dict[str, str]:
    """The environment without anything that configures postroom or a provider."""
    prefixes = ("POSTROOM_", "TWILIO_", "VONAGE_", "SENDGRID_", "SMTP_")
    return {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}


@pytest.fixture
def cli(tmp_path: Path, clean_environment: dict[str, str]) -> Cli:
    """Run `postroom …` in an empty folder, as a process of its own."""

    def run(*arguments: str, stdin: str = "", env: dict[str, str] | None = None, timeout: float = 50) -> Finished:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "postroom", *arguments],
            cwd=tmp_path,
            input=stdin,
            capture_output=True,
            text=True,
            env={**clean_environment, **(env or {})},
            timeout=timeout,
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    return run
