"""A worker is killed at random points: nothing is lost, and nothing is sent twice without leave.

POSTROOM_KILLS and POSTROOM_MESSAGES make it the whole trial of `kill_workers.py`.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import kill_workers
import pytest

KILLS = int(os.environ.get("POSTROOM_KILLS", "10"))
MESSAGES = int(os.environ.get("POSTROOM_MESSAGES", "2000"))


OF_A_FEW_KILLS = 0.35
"""Ten kills of a busy machine's workers say little of the share that the command holds to; it was 0.43 without marks."""


@pytest.mark.timeout(120 + 5 * KILLS)
async def test_killed_workers_lose_nothing_and_repeat_only_what_may_be_repeated(tmp_path: Path) -> None:
    report = await kill_workers.trial(tmp_path, kills=KILLS, messages=MESSAGES, seed=random.randrange(2**32))
    assert kill_workers.broken(report, never_begun=OF_A_FEW_KILLS) == [], report
