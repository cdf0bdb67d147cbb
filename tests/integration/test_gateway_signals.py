"""SIGTERM at any moment of the service's start: it ends soon, and cleanly from the line that says it listens."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

CONFIG = """
[accounts.box]
provider = "memory"
from = "desk@example.org"
"""
PATIENCE = 100
"""Seconds that even a busy machine has done with ending in; a signal that is lost is waited for in vain."""


class Service:
    """`postroom serve` that is asked to end."""

    def __init__(self, folder: Path, env: Mapping[str, str], *arguments: str) -> None:
        folder.mkdir()
        (folder / "postroom.toml").write_text(CONFIG)
        command = [sys.executable, "-m", "postroom", "serve", "--port", "0", *arguments]
        self.process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, env=env)
        assert self.process.stderr
        self._pipe = self.process.stderr
        self._said = b""

    def listens(self) -> None:
        """Return with the line that says so, read without a moment's delay."""
        while b"listening on http" not in self._said:
            assert select.select([self._pipe], [], [], PATIENCE)[0]
            said = os.read(self._pipe.fileno(), 65536)
            assert said, self._said
            self._said += said

    def ended(self) -> tuple[int, bool, str]:
        """Ask it to end; return with what it did, whether it had said that it listens, and all it said."""
        self.process.send_signal(signal.SIGTERM)
        try:
            rest = self.process.communicate(timeout=PATIENCE)[1]
        except subprocess.TimeoutExpired:
            self.process.kill()
            rest = self.process.communicate()[1]
            raise AssertionError(f"it did not end: {self._said + rest!r}") from None
        said = (self._said + rest).decode()
        return self.process.returncode, "listening on http" in said, said


@pytest.mark.timeout(300)
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_service_that_has_said_it_listens_ends_with_zero_whenever_it_is_asked_to(
    tmp_path: Path, clean_environment: dict[str, str], workers: str
) -> None:
    def at(milliseconds: int) -> tuple[int, bool, str]:
        service = Service(tmp_path / str(milliseconds), clean_environment, "--workers", workers)
        service.listens()
        time.sleep(milliseconds / 1000)  # the moment is what is tried
        return service.ended()

    with ThreadPoolExecutor(3) as pool:
        for code, _, said in pool.map(at, (0, 1, 5, 10, 20, 40, 80, 150, 300, 600)):
            assert code == 0, said
            assert "Traceback" not in said


@pytest.mark.timeout(300)
def test_one_that_has_not_ends_as_any_program_does(tmp_path: Path, clean_environment: dict[str, str]) -> None:
    def at(milliseconds: int) -> tuple[int, bool, str]:
        service = Service(tmp_path / str(milliseconds), clean_environment)
        time.sleep(milliseconds / 1000)  # the moment is what is tried
        return service.ended()

    with ThreadPoolExecutor(3) as pool:
        for code, listened, said in pool.map(at, range(50, 1250, 120)):
            assert code == (0 if listened else -signal.SIGTERM), said
            assert "Traceback" not in said
