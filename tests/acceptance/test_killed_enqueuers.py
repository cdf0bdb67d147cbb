"""A process that enqueues is killed while 20 callers wait: whatever it acknowledged is there.

POSTROOM_KILLS says how often.
"""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
from pathlib import Path

import pytest
from ordeal.configuration import sink, written
from ordeal.processes import Crew

from postroom import Postroom
from postroom.outbox.views import MessageFilter

CALLERS = 20
KILLS = int(os.environ.get("POSTROOM_KILLS", "5"))


@pytest.mark.timeout(120 + 5 * KILLS)
async def test_every_message_acknowledged_before_a_kill_is_there(tmp_path: Path) -> None:
    config = written(tmp_path, {"post": sink()})
    acknowledged = set()
    async with Crew(config) as crew:
        for _ in range(KILLS):
            process = await crew.start("enqueuer", CALLERS)
            acknowledged.add(await process.line())
            await asyncio.sleep(random.uniform(0.05, 0.5))
            process.signal(9)
            acknowledged.update(await process.rest())
            assert await process.ended() == -9
    async with Postroom.from_config(config) as room:
        stored = {line.id for line in await room.outbox.list(MessageFilter(limit=10**9))}
    assert len(acknowledged) > KILLS * CALLERS
    assert acknowledged - stored == set()
    # What was stored but not acknowledged is at most one message for each caller of each life.
    assert len(stored - acknowledged) <= KILLS * CALLERS
    with sqlite3.connect(tmp_path / "outbox.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
