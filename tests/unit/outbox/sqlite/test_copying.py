"""A file whose rows are damaged is copied as far as another engine can keep them, and nothing of it is sent."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from engines.process import MakeOutbox, Process
from tests.postgres_server import fresh_schema

from postroom import Email, OutboxError
from postroom.config.outbox import OutboxSettings
from postroom.outbox.copy_mark import CopyMark, CopyState
from postroom.outbox.copying import CopyResult, OutboxCopy
from postroom.outbox.factory import open_copy_storage, open_store
from postroom.outbox.records import ClaimedMessage, ClaimLimit
from postroom.outbox.serialization import load_message
from postroom.outbox.sqlite.begun import path_of_worker
from postroom.outbox.tables import TABLES
from postroom.receipts import Channel

LEASE = 0.05
[BODIES] = [table for table in TABLES if table.name == "bodies"]


def settings(url: str) -> OutboxSettings:
    return OutboxSettings.model_validate({"url": url})


async def move(source: str, target: str) -> OutboxCopy:
    copy = OutboxCopy(open_copy_storage(settings(source)), open_copy_storage(settings(target)), LEASE)
    try:
        async for _ in copy.run():
            pass
    finally:
        await copy.close()
    return copy


async def enqueued(post: Process) -> str:
    return (await post.add(Email(to="ann@example.org", text="hello"))).id


def change(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


@pytest.mark.parametrize("target", ["postgres", "sqlite"])
async def test_a_text_that_is_damaged_stays_unreadable_and_is_not_sent(
    make_outbox: MakeOutbox, file: Path, tmp_path: Path, target: str
) -> None:
    async with make_outbox() as post:
        await enqueued(post)
    change(file, "UPDATE bodies SET body = CAST(replace(CAST(body AS TEXT), 'hello', X'68FF6C6C6F') AS TEXT)")
    url = fresh_schema() if target == "postgres" else f"sqlite:///{tmp_path}/other.db"
    await move(f"sqlite:///{file}", url)
    there = open_copy_storage(settings(url))
    [(_, body, _)] = await there.rows(BODIES, (), 9)
    await there.close()
    assert body.startswith("\N{REPLACEMENT CHARACTER}{")
    with pytest.raises(OutboxError, match="cannot be read back"):
        load_message(Channel.EMAIL, body, lambda _: b"", {}, "x")


async def test_what_must_be_known_and_is_damaged_keeps_the_copy_from_going_on_and_the_way_back_is_open(
    make_outbox: MakeOutbox, file: Path, tmp_path: Path
) -> None:
    async with make_outbox() as post:
        await enqueued(post)
    here, there = f"sqlite:///{file}", f"sqlite:///{tmp_path}/other.db"
    change(file, "UPDATE messages SET attempts = 'many'")
    with pytest.raises(OutboxError, match="attempts of a row of messages is damaged .*; take the outbox back"):
        await move(here, there)
    assert (await move(there, here)).result is CopyResult.TAKEN_BACK
    async with make_outbox() as post:
        await enqueued(post)


async def test_what_was_in_the_hands_of_nobody_is_taken_over(make_outbox: MakeOutbox, file: Path) -> None:
    async with make_outbox() as post:
        await enqueued(post)
        worker = await post.store.register("w")
        await post.store.exchange(worker, [], [], {"a0/email": ClaimLimit(1, 1)})
    change(file, "DELETE FROM workers")
    path_of_worker(file, worker).unlink()
    target = fresh_schema()
    await move(f"sqlite:///{file}", target)
    store = open_store(settings(target))
    assert await store.live_workers() == {worker: 0}
    [message] = await store.rescue(worker, 0, await store.register("heir"))
    await store.close()
    assert isinstance(message, ClaimedMessage)
    assert message.begun


async def test_a_worker_that_slept_through_the_move_begins_nothing_more(make_outbox: MakeOutbox, file: Path) -> None:
    async with make_outbox() as post:
        await enqueued(post)
        worker = await post.store.register("w")
        [message] = (await post.store.exchange(worker, [], [], {"a0/email": ClaimLimit(1, 1)})).claimed
        storage = open_copy_storage(settings(f"sqlite:///{file}"))
        await storage.leave(None, CopyMark("1", CopyState.LEFT, "elsewhere"), await storage.workers())
        await storage.close()
        assert not await post.store.begin(worker, message.seq, message.attempts)
        with pytest.raises(OutboxError, match="was moved to elsewhere"):
            await post.store.heartbeat(worker)


async def test_contents_that_came_early_and_whose_message_never_came_stay(
    make_outbox: MakeOutbox, file: Path, tmp_path: Path
) -> None:
    async with make_outbox() as post:
        await enqueued(post)
    change(file, "INSERT INTO files VALUES (X'01', X'02')")
    change(file, "INSERT INTO early_files VALUES (X'01', 0)")
    here, there = f"sqlite:///{file}", f"sqlite:///{tmp_path}/other.db"
    assert (await move(here, there)).counts["files"] == 0
    assert (await move(there, here)).counts["files"] == 0
