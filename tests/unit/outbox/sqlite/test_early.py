"""Large messages are accepted in small transactions: whoever writes beside them waits for none that is large."""

from __future__ import annotations

import asyncio
import hashlib
import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from types import ModuleType
from typing import Any, TypeVar

import pytest
from engines.process import MakeOutbox, Process

from postroom import Attachment, Email, OutboxError, Status
from postroom.outbox.records import EnqueueResult
from postroom.outbox.serialization import LARGE, PIECE
from postroom.outbox.sqlite import early

T = TypeVar("T")

SIZE = 5_000_000
TEXT = random.Random(1).randbytes(SIZE // 2).hex()
"""Of which no piece is like another."""

IN_ONE = early.MOST_TOGETHER + early.PIECES_TOGETHER * PIECE
"""Bytes that any transaction may write, with room for pages that are not full."""


def large(**more: Any) -> Email:
    return Email(**{"to": "ann@example.org", "subject": "plans", "text": "x", **more})


def by_text() -> Email:
    return large(html=TEXT)


def by_file() -> Email:
    return large(attachments=[Attachment(filename="plan.bin", content=TEXT.encode())])


KINDS = pytest.mark.parametrize("make", [by_text, by_file])


def sql(post: Process, statement: str, *values: object) -> list[Any]:
    with closing(sqlite3.connect(post.store.path)) as connection, connection:
        return connection.execute(statement, values).fetchall()


class Transactions:
    """What each transaction of a process adds to its file, counted as it is written."""

    def __init__(self, post: Process) -> None:
        self._post = post
        self.added: list[int] = []
        self.fail_at: int | None = None
        self._write = post.store.write

    async def write(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        def counted(connection: sqlite3.Connection) -> T:
            if len(self.added) == self.fail_at:
                raise sqlite3.OperationalError("database or disk is full")
            before = self._size(connection)
            answer = operation(connection)
            self.added.append(self._size(connection) - before)
            return answer

        answer: T = await self._write(counted)
        return answer

    @staticmethod
    def _size(connection: sqlite3.Connection) -> int:
        [pages] = connection.execute("PRAGMA page_count").fetchone()
        [size] = connection.execute("PRAGMA page_size").fetchone()
        return int(pages * size)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Callable[[Process], Transactions]:
    def count(post: Process) -> Transactions:
        transactions = Transactions(post)
        monkeypatch.setattr(post.store, "write", transactions.write)
        return transactions

    return count


@KINDS
async def test_no_transaction_of_a_large_message_is_large(
    make_outbox: MakeOutbox, counted: Callable[[Process], Transactions], make: Callable[[], Email]
) -> None:
    async with make_outbox() as post:
        await post.store.open()
        transactions = counted(post)
        await post.add(make())
        assert sum(transactions.added) > SIZE
        assert max(transactions.added) < IN_ONE


async def test_no_transaction_of_a_large_batch_is_large(
    make_outbox: MakeOutbox, counted: Callable[[Process], Transactions]
) -> None:
    part = LARGE // 2
    batch = [large(text=TEXT[at : at + part]) for at in range(0, SIZE, part)]
    async with make_outbox() as post:
        await post.store.open()
        transactions = counted(post)
        answers = await post.outbox.add(batch)
        assert all(isinstance(answer, EnqueueResult) for answer in answers)
        assert sum(transactions.added) > SIZE
        assert max(transactions.added) < IN_ONE


@KINDS
async def test_a_large_message_arrives_whole_and_once(
    make_outbox: MakeOutbox, stage: ModuleType, make: Callable[[], Email]
) -> None:
    script = stage.Script()
    async with make_outbox(script) as post:
        receipt = await post.add(make())
        shown = await post.outbox.get(receipt.id)
        await post.work()
        [message] = script.messages
        assert (message.html, message.attachments) == (make().html, make().attachments)
        assert shown.message is not None
        assert shown.message.model_dump()["html"] == make().html
        assert sql(post, "SELECT count(*) FROM early_files") == [(0,)]
        assert sql(post, "SELECT max(length(body)) < 2000 FROM bodies") == [(1,)], "searches look through no large text"


async def test_two_that_hold_the_same_share_it_and_one_that_goes_takes_nothing_of_the_other(
    make_outbox: MakeOutbox, stage: ModuleType
) -> None:
    script = stage.Script()
    async with make_outbox(script) as post:
        answers = await asyncio.gather(post.add(by_text()), post.add(by_file()))
        assert sql(post, "SELECT count(*) FROM files") == [(len(range(0, SIZE, PIECE)),)]
        await post.outbox.cancel(answers[0].id)
        assert await post.store.prune(post.clock.now + 1, 10) == 1
        await post.work()
        [message] = script.messages
        assert message.attachments[0].content == TEXT.encode()


@KINDS
@pytest.mark.parametrize("when", [0, 2, 5], ids=["at once", "in the middle", "at the end"])
async def test_where_the_disk_is_full_nothing_is_accepted_and_nothing_stays(
    make_outbox: MakeOutbox, counted: Callable[[Process], Transactions], make: Callable[[], Email], when: int
) -> None:
    async with make_outbox() as post:
        await post.store.open()
        transactions = counted(post)
        transactions.fail_at = when
        with pytest.raises(OutboxError, match="disk is full"):
            await post.add(make())
        assert sql(post, "SELECT count(*) FROM messages") == [(0,)]
        transactions.fail_at = None  # there is room again
        post.clock.now += early.WAITED_FOR + 1
        await post.store.prune(0.0, 10)
        assert sql(post, "SELECT count(*) FROM files") == [(0,)]


async def test_what_a_batch_has_accepted_before_the_disk_was_full_is_told(
    make_outbox: MakeOutbox, counted: Callable[[Process], Transactions], stage: ModuleType
) -> None:
    script = stage.Script()
    part = LARGE // 2
    batch = [large(text=TEXT[at : at + part]) for at in range(0, SIZE, part)]
    async with make_outbox(script) as post:
        await post.store.open()
        transactions = counted(post)
        transactions.fail_at = 1
        answers = await post.outbox.add(batch)
        taken = [answer.receipt.id for answer in answers if isinstance(answer, EnqueueResult)]
        assert 0 < len(taken) < len(batch)
        assert {type(answer) for answer in answers} == {EnqueueResult, OutboxError}
        transactions.fail_at = None
        await post.work()
        assert [message.id for message in script.messages] == taken


async def test_contents_of_messages_that_never_came_are_removed_after_a_while(
    make_outbox: MakeOutbox, stage: ModuleType
) -> None:
    script = stage.Script()
    async with make_outbox(script) as post:
        await post.add(by_text())
        # As a process leaves it that dies in the middle, once of another message and once of the same.
        other = b"another message's"
        for content in (TEXT[:PIECE].encode(), other):
            sql(post, "INSERT OR IGNORE INTO files VALUES (?, ?)", hashlib.sha256(content).digest(), content)
            sql(post, "INSERT INTO early_files VALUES (?, ?)", hashlib.sha256(content).digest(), post.clock.now)
        await post.store.prune(0.0, 10)
        assert sql(post, "SELECT count(*) FROM early_files") == [(2,)], "their messages may still come"
        post.clock.now += early.WAITED_FOR + 1
        await post.store.prune(0.0, 10)
        assert sql(post, "SELECT count(*) FROM early_files") == [(0,)]
        assert sql(post, "SELECT count(*) FROM files WHERE content = ?", other) == [(0,)]
        await post.work()
        assert [message.html for message in script.messages] == [TEXT]
        assert set((await post.outbox.stats()).states) == {Status.SENT}
