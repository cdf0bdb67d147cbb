"""A caller's own connection to the outbox's file: whatever it is set to, it is not changed, and its commit decides."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import aiosqlite
import pytest
from engines.process import MakeOutbox, Process
from sqlalchemy import create_engine

from postroom import Email, OutboxError, Receipt, SyncPostroom

BEGIN_NONE: list[dict[str, Any]] = [{"isolation_level": None}]
if sys.version_info >= (3, 12):
    BEGIN_NONE.append({"autocommit": True})


def email(**more: Any) -> Email:
    return Email(**{"to": "ann@example.org", "text": "x", **more})


@pytest.fixture
async def post(make_outbox: MakeOutbox) -> AsyncIterator[Process]:
    async with make_outbox() as process:
        await process.store.open()
        yield process


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


@pytest.fixture
def connection(post: Process, file: Path) -> Iterator[sqlite3.Connection]:
    found = sqlite3.connect(file, timeout=60)
    found.execute("CREATE TABLE orders (name TEXT)")
    yield found
    found.close()


async def enqueue(post: Process, connection: object, message: Email | None = None) -> Receipt:
    [answer] = await post.outbox.enqueue([message or email()], connection=connection)
    if isinstance(answer, Exception):
        raise answer
    return answer


async def ids(post: Process) -> list[str]:
    return [line.id for line in await post.outbox.list()]


async def refused(post: Process, connection: sqlite3.Connection, match: str) -> None:
    """Nothing is accepted through `connection`, and it is as it was."""
    before = connection.in_transaction
    with pytest.raises(OutboxError, match=match):
        await enqueue(post, connection)
    assert connection.in_transaction == before
    connection.rollback()
    assert await ids(post) == []


@pytest.mark.parametrize("begun", [True, False])
class TestAnotherFile:
    async def test_without_an_outbox(self, post: Process, tmp_path: Path, begun: bool) -> None:
        other = sqlite3.connect(tmp_path / "other.db")
        other.execute("CREATE TABLE orders (name TEXT)")
        if begun:
            other.execute("INSERT INTO orders VALUES ('one')")
        await refused(
            post, other, "the connection is to another file, and the outbox is in .*outbox.db; open that file"
        )
        other.close()

    async def test_with_an_outbox_of_its_own(
        self, post: Process, make_outbox: MakeOutbox, tmp_path: Path, begun: bool
    ) -> None:
        async with make_outbox(outbox={"url": f"sqlite:///{tmp_path}/other.db"}) as another:
            await another.store.open()
            other = sqlite3.connect(tmp_path / "other.db")
            if begun:
                other.execute("CREATE TABLE orders (name TEXT)")
                other.execute("INSERT INTO orders VALUES ('one')")
            await refused(post, other, "the connection is to .*other.db, and the outbox is in .*outbox.db")
            other.close()

    async def test_with_a_copy_of_the_outbox(self, post: Process, file: Path, tmp_path: Path, begun: bool) -> None:
        await post.store.close()
        shutil.copy(file, tmp_path / "copy.db")
        other = sqlite3.connect(tmp_path / "copy.db")
        if begun:
            other.execute("INSERT INTO meta VALUES ('one', 1)")
        await refused(post, other, "the connection is to .*copy.db")
        other.close()

    async def test_in_memory(self, post: Process, file: Path, begun: bool) -> None:
        other, copied = sqlite3.connect(":memory:"), sqlite3.connect(file)
        copied.backup(other)
        if begun:
            other.execute("INSERT INTO meta VALUES ('one', 1)")
        await refused(post, other, "the connection is to a database in memory")
        other.close()
        copied.close()

    async def test_to_which_the_outbox_is_attached(
        self, post: Process, file: Path, tmp_path: Path, begun: bool
    ) -> None:
        other = sqlite3.connect(tmp_path / "other.db")
        other.execute("CREATE TABLE orders (name TEXT)")
        other.execute(f"ATTACH '{file}' AS post")
        if begun:
            other.execute("INSERT INTO orders VALUES ('one')")
        await refused(
            post, other, "one file as the main database, since SQLite commits attached ones one after another"
        )
        other.close()


async def test_the_file_may_have_others_attached_and_be_named_in_another_way(
    post: Process, file: Path, tmp_path: Path
) -> None:
    (tmp_path / "link.db").symlink_to(file)
    connection = sqlite3.connect(f"file:{tmp_path}/link.db?mode=rw", uri=True)
    connection.execute(f"ATTACH '{tmp_path}/other.db' AS other")
    receipt = await enqueue(post, connection)
    connection.commit()
    connection.close()
    assert await ids(post) == [receipt.id]


async def test_a_file_that_was_replaced_takes_nothing(
    post: Process, connection: sqlite3.Connection, file: Path
) -> None:
    file.rename(file.with_name("moved.db"))
    shutil.copy(file.with_name("moved.db"), file)
    with pytest.raises(OutboxError, match="was removed or replaced"):
        await enqueue(post, connection)


async def test_a_connection_that_was_open_before_the_file_was_replaced_is_refused(
    post: Process, connection: sqlite3.Connection, file: Path
) -> None:
    connection.commit()
    await post.store.close()
    for suffix in ("", "-wal", "-shm"):
        file.with_name(file.name + suffix).rename(file.with_name("moved.db" + suffix))
    await post.store.open()
    await refused(post, connection, "the connection is to .*outbox.db, and the outbox is in .*outbox.db")


def named(cursor: sqlite3.Cursor, row: tuple[Any, ...]) -> dict[str, Any]:
    return {column[0]: value for column, value in zip(cursor.description, row, strict=True)}


def convert(raw: bytes) -> object:
    raise AssertionError(f"converted {raw!r}")


class TestSettings:
    @pytest.fixture
    def converters(self) -> Iterator[None]:
        before = dict(sqlite3.converters)
        for name in ("TEXT", "BLOB", "INTEGER", "REAL"):
            sqlite3.register_converter(name, convert)
        yield
        sqlite3.converters.clear()
        sqlite3.converters.update(before)

    async def test_of_any_kind_are_neither_in_the_way_nor_changed(
        self, post: Process, file: Path, converters: None
    ) -> None:
        connection = sqlite3.connect(file, detect_types=sqlite3.PARSE_DECLTYPES | sqlite3.PARSE_COLNAMES)
        seen: list[str] = []
        connection.row_factory = named
        connection.text_factory = convert
        connection.set_trace_callback(seen.append)
        settings = (connection.row_factory, connection.text_factory, connection.isolation_level)
        for table in ("meta", "messages", "bodies", "files", "message_files", "idempotency_keys"):
            connection.execute(f"CREATE TEMP TABLE {table} (other)")
        first = await enqueue(
            post, connection, email(idempotency_key="k", attachments=[{"filename": "a", "content": b"a"}])
        )
        assert (
            await enqueue(
                post, connection, email(idempotency_key="k", attachments=[{"filename": "a", "content": b"a"}])
            )
        ).id == first.id
        assert (connection.row_factory, connection.text_factory, connection.isolation_level) == settings
        connection.commit()
        assert seen[-1] == "COMMIT"
        connection.close()
        assert await ids(post) == [first.id]

    async def test_for_each_mode_of_transactions_are_kept(self, post: Process, file: Path) -> None:
        modes: dict[Literal["DEFERRED", "IMMEDIATE", "EXCLUSIVE"], str] = {
            "DEFERRED": "BEGIN IMMEDIATE",
            "IMMEDIATE": "BEGIN IMMEDIATE",
            "EXCLUSIVE": "BEGIN EXCLUSIVE",
        }
        for mode, sql in modes.items():
            connection = sqlite3.connect(file, isolation_level=mode)
            seen: list[str] = []
            connection.set_trace_callback(seen.append)
            await enqueue(post, connection)
            assert seen[0] == sql
            assert connection.in_transaction
            connection.rollback()
            connection.close()
        assert await ids(post) == []


class TestOutsideOfATransaction:
    @pytest.mark.parametrize("settings", BEGIN_NONE, ids=str)
    async def test_a_connection_that_begins_none_itself_has_the_message_at_once(
        self, post: Process, file: Path, settings: dict[str, Any]
    ) -> None:
        connection = sqlite3.connect(file, **settings)
        receipt = await enqueue(post, connection)
        assert not connection.in_transaction
        assert await ids(post) == [receipt.id]
        connection.close()

    async def test_sqlalchemys_autocommit_too(self, post: Process, file: Path) -> None:
        engine = create_engine(f"sqlite:///{file}", isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            receipt = await enqueue(post, connection)
            assert await ids(post) == [receipt.id]
        engine.dispose()


class TestLocks:
    async def test_a_transaction_that_has_read_nothing_waits_for_others_to_end_theirs(
        self, post: Process, connection: sqlite3.Connection, file: Path
    ) -> None:
        connection.execute("BEGIN")
        other = sqlite3.connect(file, check_same_thread=False)
        other.execute("INSERT INTO orders VALUES ('of another')")
        asked = threading.Event()
        connection.set_trace_callback(lambda sql: asked.set() if sql.startswith("UPDATE") else None)

        def commit() -> None:
            assert asked.wait(60)
            other.commit()

        ending = threading.Thread(target=commit)
        ending.start()
        receipt = await enqueue(post, connection)
        ending.join()
        connection.commit()
        other.close()
        assert await ids(post) == [receipt.id]

    async def test_one_that_has_read_what_is_old_says_how_to_begin_it_and_can_be_made_again(
        self, post: Process, connection: sqlite3.Connection
    ) -> None:
        connection.execute("BEGIN")
        connection.execute("SELECT * FROM orders").fetchall()
        await post.add(email(id="of-another"))
        with pytest.raises(OutboxError, match="roll it back, and begin it with BEGIN IMMEDIATE"):
            await enqueue(post, connection)
        connection.rollback()
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("SELECT * FROM orders").fetchall()
        receipt = await enqueue(post, connection)
        connection.commit()
        assert await ids(post) == [receipt.id, "of-another"]

    async def test_whoever_waits_no_longer_hears_that_it_is_locked(
        self, post: Process, connection: sqlite3.Connection, file: Path
    ) -> None:
        impatient = sqlite3.connect(file, timeout=0)
        connection.execute("INSERT INTO orders VALUES ('one')")
        await refused(post, impatient, "database is locked; another process kept it locked; nothing was accepted")
        connection.commit()
        receipt = await enqueue(post, impatient)
        impatient.commit()
        impatient.close()
        assert await ids(post) == [receipt.id]

    async def test_an_outbox_that_is_not_made_yet_is_not_made_while_the_caller_keeps_it_locked(
        self, make_outbox: MakeOutbox, file: Path
    ) -> None:
        connection = sqlite3.connect(file)
        connection.execute("BEGIN IMMEDIATE")
        async with make_outbox() as post:
            with pytest.raises(
                OutboxError, match="end that, or have the outbox made before, as `postroom worker --until-empty`"
            ):
                await enqueue(post, connection)
            connection.rollback()
            await post.outbox.stats()
            receipt = await enqueue(post, connection)
            connection.commit()
            connection.close()
            assert await ids(post) == [receipt.id]


async def test_a_connection_that_is_closed_or_another_threads_says_so(post: Process, file: Path) -> None:
    closed = sqlite3.connect(file)
    closed.close()
    with pytest.raises(OutboxError, match="use the connection while it is open"):
        await enqueue(post, closed)
    with ThreadPoolExecutor(1) as thread:
        others = thread.submit(sqlite3.connect, file).result()
        with pytest.raises(OutboxError, match="in the thread it is for"):
            await enqueue(post, others)
        thread.submit(others.close).result()


class TestBlockingClient:
    @pytest.fixture
    def room(self, file: Path) -> Iterator[SyncPostroom]:
        accounts = {"box": {"provider": "memory", "from": "post@example.org"}}
        with SyncPostroom(accounts=accounts, outbox={"url": f"sqlite:///{file}"}) as room:
            room.outbox.stats()
            yield room

    def test_it_uses_the_connection_in_the_thread_that_calls(self, room: SyncPostroom, file: Path) -> None:
        connection = sqlite3.connect(file)
        receipt = room.enqueue(email(), connection=connection)
        first, wrong = room.enqueue_many([email(), email(provider="nobody")], connection=connection)
        assert isinstance(first, Receipt)
        assert isinstance(wrong, Exception)
        assert room.outbox.list() == []
        connection.commit()
        connection.close()
        assert [line.id for line in room.outbox.list()] == [first.id, receipt.id]
        room.work(until_empty=True)
        assert {message.id for message in room.memory} == {first.id, receipt.id}

    def test_any_number_of_threads_have_each_their_own(self, room: SyncPostroom, file: Path) -> None:
        def enqueue_ten(keep: bool) -> None:
            connection = sqlite3.connect(file, timeout=60)
            for _ in range(10):
                room.enqueue(email(), connection=connection)
                connection.commit() if keep else connection.rollback()
            connection.close()

        threads = [threading.Thread(target=enqueue_ten, args=[number % 2 == 0]) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(room.outbox.list()) == 30

    async def test_it_takes_none_that_is_awaited(self, room: SyncPostroom, file: Path) -> None:
        connection = await aiosqlite.connect(file)
        with pytest.raises(TypeError, match=r"SyncPostroom takes a connection whose calls block, not aiosqlite\."):
            room.enqueue(email(), connection=connection)
        await connection.close()

    def test_what_is_no_message_is_a_type_error_and_what_can_never_be_sent_raises(
        self, room: SyncPostroom, file: Path
    ) -> None:
        connection = sqlite3.connect(file)
        with pytest.raises(TypeError):
            room.enqueue("hello", connection=connection)  # type: ignore[arg-type]
        with pytest.raises(Exception, match="nobody"):
            room.enqueue(email(provider="nobody"), connection=connection)
        connection.close()


PROGRAM = """
import os, sqlite3, sys
from postroom import Email, SyncPostroom

file, end = sys.argv[1:]
accounts = {"box": {"provider": "memory", "from": "post@example.org"}}
with SyncPostroom(accounts=accounts, outbox={"url": f"sqlite:///{file}"}) as room:
    connection = sqlite3.connect(file)
    connection.execute("INSERT INTO orders VALUES ('one')")
    room.enqueue(Email(to="ann@example.org", text="x" * 1_000_000), connection=connection)
    if end == "after":
        connection.commit()
    os._exit(7)
"""


@pytest.mark.slow
@pytest.mark.parametrize("end", ["before", "after"])
async def test_a_program_that_dies_has_sent_what_it_committed_and_nothing_else(
    post: Process, connection: sqlite3.Connection, file: Path, end: str
) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, file, end], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 7, done.stderr
    assert len(await ids(post)) == (end == "after")
    assert connection.execute("SELECT count(*) FROM orders").fetchall() == [(int(end == "after"),)]
