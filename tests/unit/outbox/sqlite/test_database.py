"""The thread that writes: who waits for a locked file waits as long as they said; what must be on disk is synced."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing

import pytest
from engines.process import MakeOutbox, Process

from postroom import Email, OutboxError, Receipt
from postroom.outbox.deadline import deadline, stored_within


@pytest.fixture
async def post(make_outbox: MakeOutbox) -> AsyncIterator[Process]:
    async with make_outbox() as post:
        await post.store.open()
        yield post


@pytest.fixture
def other(post: Process) -> Iterator[sqlite3.Connection]:
    """Another process, as far as SQLite can tell."""
    with closing(sqlite3.connect(post.store.path, isolation_level=None)) as connection:
        yield connection


def add(post: Process, within: float | None = None) -> asyncio.Task[Receipt]:
    async def add() -> Receipt:
        if within is None:
            return await post.add(Email(to="ann@example.org", text="x"))
        with stored_within(within):
            return await post.add(Email(to="ann@example.org", text="x"))

    return asyncio.create_task(add())


async def ids(post: Process) -> set[str]:
    return {line.id for line in await post.outbox.list()}


async def test_who_may_wait_no_longer_gets_an_error_while_others_wait_on(
    post: Process, other: sqlite3.Connection
) -> None:
    other.execute("BEGIN IMMEDIATE")
    patient, hurried = add(post), [add(post, within=0.01) for _ in range(20)]
    async with asyncio.timeout(60):
        answers = await asyncio.gather(*hurried, return_exceptions=True)
    assert {type(answer) for answer in answers} == {OutboxError}
    assert "another process kept it locked" in str(answers[0])
    assert not patient.done()
    other.execute("COMMIT")
    assert {(await patient).id} == await ids(post), "what was refused is not stored afterwards"


async def test_who_asks_while_others_wait_is_not_kept_by_them(post: Process, other: sqlite3.Connection) -> None:
    other.execute("BEGIN IMMEDIATE")
    patient = [add(post)]
    for _ in range(3):
        with pytest.raises(OutboxError, match="locked"):
            await asyncio.wait_for(add(post, within=0.15), 60)
        patient.append(add(post))
    assert not any(task.done() for task in patient)
    other.execute("COMMIT")
    assert {(await task).id for task in patient} == await ids(post)


async def test_one_whose_time_is_over_is_stored_where_nobody_keeps_it_from_that(post: Process) -> None:
    assert {(await add(post, within=-1.0)).id} == await ids(post)


async def test_a_lock_that_ends_leaves_no_trouble_behind(post: Process, other: sqlite3.Connection) -> None:
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(OutboxError):
        await add(post, within=0.01)
    with pytest.raises(OutboxError, match="locked"):
        await post.store.check()
    other.execute("COMMIT")
    await add(post)
    await post.store.check()


def synced(connection: sqlite3.Connection) -> bool:
    """Whether the transaction that this runs in is on disk when its commit returns."""
    full = 2
    return bool(connection.execute("PRAGMA synchronous").fetchone()[0] == full)


async def test_a_transaction_is_synced_unless_nothing_in_it_need_be(post: Process) -> None:
    assert await post.store.write(synced)
    assert not await post.store.write(synced, synced=False)
    assert await post.store.write(synced)
    together = await asyncio.gather(post.store.write(synced, synced=False), post.store.write(synced))
    assert all(together)
    assert not await post.store.write(synced, synced=False)
    receipt = await post.add(Email(to="ann@example.org", text="x"))
    assert await ids(post) == {receipt.id}
    assert await post.store.write(synced)


def test_the_nearer_deadline_holds_and_ends_with_its_block() -> None:
    with stored_within(1.0):
        outer = deadline()
        with stored_within(100.0):
            assert deadline() == outer
        with stored_within(-1.0):
            assert deadline() < outer
        assert deadline() == outer
    assert deadline() == float("inf")
