"""Style and types are promises too: the tasks that check them run as tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("task", ["lint", "types"])
def test_a_check_has_nothing_to_say(task: str) -> None:
    command = [sys.executable, "-m", "poethepoet", task]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
