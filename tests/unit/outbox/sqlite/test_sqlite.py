"""Whatever one cell of the file becomes: neighbours are sent, and what cannot be sent says why."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from engines.process import MakeOutbox

from postroom import Attachment, Channel, Email, Receipt, Status, SuppressionReason
from postroom.outbox.records import ClaimLimit, Suppression
from postroom.outbox.sqlite.schema import TABLES
from postroom.outbox.views import MessageFilter

pytestmark = pytest.mark.slow

DAMAGES = {
    "a blob": "x'00ff'",
    "a word": "'damaged'",
    "no text": "CAST(x'80fffe' AS TEXT)",
    "a number below zero": "-5",
    "nothing": "NULL",
}
ENDS = {Status.SENT, Status.FAILED, Status.IN_DOUBT, Status.EXPIRED, Status.HELD}
"""How a message may end one of whose cells is damaged; EXPIRED where its time is one that is over."""


def columns() -> list[tuple[str, str]]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(TABLES)
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        tables = [name for name in names if not name.startswith("sqlite_")]
        return [(t, row[1]) for t in tables for row in connection.execute(f"PRAGMA table_info({t})")]


COLUMNS = columns()
OF_MESSAGES = [each for each in COLUMNS if each[0] in {"messages", "bodies", "message_files"} and each[1] != "seq"]
OF_ALL = [each for each in COLUMNS if each not in OF_MESSAGES and each != ("messages", "seq")]


def email(to: str = "ann@example.org", content: bytes = b"a", key: str | None = None) -> Email:
    return Email(to=to, text="hello", attachments=[Attachment(filename="a", content=content)], idempotency_key=key)


def damaged(path: Path, statement: str, *values: object) -> bool:
    """Change a cell; False where the file itself does not let it have such a value."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        try:
            return connection.execute(statement, values).rowcount > 0
        except sqlite3.IntegrityError:
            return False


def number_of(path: Path, receipt: Receipt) -> int:
    with closing(sqlite3.connect(path)) as connection:
        [number] = connection.execute("SELECT seq FROM messages WHERE id = ?", (receipt.id,)).fetchone()
        assert isinstance(number, int)
        return number


@pytest.mark.parametrize(("table", "column"), OF_MESSAGES)
async def test_a_damaged_cell_of_a_message_costs_that_message_at_most_and_says_so(
    make_outbox: MakeOutbox, table: str, column: str
) -> None:
    async with make_outbox(concurrency=50) as post:
        first = await post.add(email())
        bad = [await post.add(email(content=b"one of its own" + bytes([n]))) for n in range(len(DAMAGES))]
        last = await post.add(email())
        numbers = {number_of(post.store.path, each) for each in bad}
        for receipt, value in zip(bad, DAMAGES.values(), strict=True):
            number = number_of(post.store.path, receipt)
            damaged(post.store.path, f"UPDATE {table} SET {column} = {value} WHERE seq = ?", number)
        assert len(await post.outbox.list()) == 7, "a listing shows all of them before any worker saw them"
        await post.outbox.stats()
        await post.work()
        await post.work()
        assert [(await post.receipt(each)).status for each in (first, last)] == [Status.SENT] * 2
        lines = await post.outbox.list()
        assert len(lines) == 7
        for line in lines:
            if line.seq in numbers:
                assert line.status in ENDS
                assert line.error or line.status in {Status.SENT, Status.EXPIRED}
        assert sum((await post.outbox.stats()).states.values()) == 7


@pytest.mark.parametrize(("table", "column"), OF_ALL)
async def test_a_damaged_cell_beside_messages_stops_neither_enqueueing_nor_sending(
    make_outbox: MakeOutbox, table: str, column: str
) -> None:
    for value in DAMAGES.values():
        async with make_outbox() as post:
            await post.outbox.suppressions.add(suppression("bob@example.org"))
            await post.add(email(key=f"key {value}"))
            await post.work()
            path = post.store.path
        damaged(path, f"UPDATE OR IGNORE {table} SET {column} = {value}")
        async with make_outbox() as post:
            receipt = await post.add(email())
            await post.work()
            assert (await post.receipt(receipt)).status is Status.SENT
            await post.outbox.list(MessageFilter())
            await post.outbox.stats()


@pytest.mark.parametrize("value", [*DAMAGES.values()], ids=[*DAMAGES])
async def test_an_account_whose_rate_is_damaged_begins_it_anew(make_outbox: MakeOutbox, value: str) -> None:
    async with make_outbox() as post:
        worker = await post.store.register("worker")
        limits = {"a0/email": ClaimLimit(1, 9, rate=1000.0)}
        for _ in range(2):
            await post.add(email())
            assert len((await post.store.exchange(worker, [], [], limits)).claimed) == 1
            damaged(post.store.path, f"UPDATE queues SET theoretical_start = {value}")


def suppression(address: str) -> Suppression:
    return Suppression(
        channel=Channel.EMAIL,
        address=address,
        reason=SuppressionReason.COMPLAINED,
        since=datetime(2026, 1, 1, tzinfo=UTC),
    )


async def test_what_is_in_the_hands_of_no_worker_is_found_and_is_in_doubt(make_outbox: MakeOutbox) -> None:
    async with make_outbox() as post:
        receipts = [await post.add(email()) for _ in range(2)]
        damaged(post.store.path, "UPDATE messages SET status = 'sending', owner = NULL")
        damaged(post.store.path, "UPDATE messages SET owner = 99 WHERE id = ?", receipts[0].id)
        await post.work()
        assert [(await post.receipt(each)).status for each in receipts] == [Status.IN_DOUBT] * 2
