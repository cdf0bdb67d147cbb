"""A process that enqueues is killed: whatever it acknowledged is there, and what its own transactions wrote with it.

POSTROOM_KILLS says how often.
"""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
from pathlib import Path
from typing import Any

import psycopg
import pytest
from ordeal.configuration import sink, written
from ordeal.processes import Crew
from tests.postgres_server import fresh_schema

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


@pytest.mark.timeout(120 + 5 * KILLS)
@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
async def test_an_order_and_its_message_are_both_there_or_neither_whenever_the_shop_is_killed(
    tmp_path: Path, engine: str
) -> None:
    url = fresh_schema() if engine == "postgres" else f"sqlite:///{tmp_path}/outbox.db"
    database, _, schema = url.removeprefix("sqlite:///").partition("?schema=")
    table, messages = (f'"{schema}".{name}' if schema else name for name in ("orders", "messages"))
    # One statement, for the server may still commit what a process asked for before it died.
    both = f"SELECT true, id FROM {table} UNION ALL SELECT false, id FROM {messages}"
    config = written(tmp_path, {"post": sink()}, url=url)
    acknowledged: set[str] = set()
    async with Postroom.from_config(config) as room:
        await room.outbox.stats()
    async with Crew(config) as crew:
        shop: Any = psycopg.connect(database) if schema else sqlite3.connect(database)
        shop.execute(f"CREATE TABLE {table} (id text)")
        shop.commit()
        for _ in range(KILLS):
            process = await crew.start("shop", database, table)
            acknowledged.add(await process.line())
            await asyncio.sleep(random.uniform(0.0, 0.3))
            process.signal(9)
            acknowledged.update(await process.rest())
            assert await process.ended() == -9
            found = shop.execute(both).fetchall()
            shop.rollback()
            ordered = {id_ for is_order, id_ in found if is_order}
            assert ordered == {id_ for is_order, id_ in found if not is_order}
            assert acknowledged <= ordered
        shop.close()
    assert len(acknowledged) > KILLS
