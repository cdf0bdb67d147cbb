"""A caller's own connection to the outbox's database: whatever it is set to, its transaction is never spoilt."""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import asyncpg
import psycopg
import pytest
from engines.callers import (
    ON_POSTGRES,
    Caller,
    OnAsyncpg,
    OnAsyncPsycopg,
    OnPostgres,
    OnPsycopg,
    OnSqlalchemyAsyncpg,
)
from engines.postgres import PostgresEngine
from engines.process import MakeOutbox, Process
from psycopg.rows import dict_row
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session

from postroom import Email, OutboxError, Receipt, Status, SyncPostroom
from postroom.outbox.postgres import Location
from postroom.outbox.postgres import store as store_module

DATABASES = itertools.count(1)
Connect = Callable[..., Any]


def email(**more: Any) -> Email:
    return Email(**{"to": "ann@example.org", "text": "x", **more})


@pytest.fixture
async def post(make_outbox: MakeOutbox) -> AsyncIterator[Process]:
    async with make_outbox() as process:
        await process.store.open()
        yield process


@pytest.fixture
def location(engine: PostgresEngine) -> Location:
    return Location(engine.url)


@pytest.fixture
async def connect(post: Process, engine: PostgresEngine) -> AsyncIterator[Connect]:
    """Connects callers; the first one makes the table of their own."""
    callers: list[OnPostgres] = []

    async def one(kind: type[OnPostgres] = OnAsyncpg) -> OnPostgres:
        callers.append(kind(engine.url))
        await callers[-1].connect()
        if len(callers) == 1:
            await callers[-1].prepare()
        return callers[-1]

    yield one
    for caller in callers:
        await caller.close()


async def enqueue(post: Process, caller: Caller | Any, message: Email | None = None) -> Receipt:
    connection = caller.connection if isinstance(caller, Caller) else caller
    [answer] = await post.outbox.enqueue([message or email()], connection=connection)
    if isinstance(answer, Exception):
        raise answer
    return answer


async def ids(post: Process) -> list[str]:
    return [line.id for line in await post.outbox.list()]


@pytest.fixture
async def another_database(location: Location) -> AsyncIterator[str]:
    """The name of a database beside the outbox's."""
    name = f"other_{os.getpid()}_{next(DATABASES)}"
    connection = await asyncpg.connect(location.dsn)
    await connection.execute(f"CREATE DATABASE {name}")
    yield name
    await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await connection.close()


@pytest.mark.parametrize("kind", ON_POSTGRES)
async def test_a_connection_to_another_database_is_refused_and_its_transaction_goes_on(
    post: Process, make_outbox: MakeOutbox, engine: PostgresEngine, another_database: str, kind: type[OnPostgres]
) -> None:
    elsewhere = engine.url.replace("/postgres?", f"/{another_database}?")
    caller = kind(elsewhere)
    await caller.connect()
    for has_outbox in (False, True):
        if has_outbox:
            another = Process(make_outbox().config, PostgresEngine(elsewhere))
            await another.store.open()
            await another.store.close()
            caller.orders = f'"{caller.location.schema}".orders'
        else:
            caller.orders = "orders"
        await caller.prepare()
        await caller.begin()
        await caller.order("one")
        with pytest.raises(OutboxError, match=r"the connection is to another database than the outbox \(postgresql://"):
            await enqueue(post, caller)
        await caller.commit()
        await caller.begin()
        assert await caller.ordered() == ["one"]
        await caller.rollback()
    await caller.close()
    assert await ids(post) == []


async def test_a_role_may_add_messages_with_the_rights_that_the_error_names(
    post: Process, engine: PostgresEngine, location: Location
) -> None:
    admin = await asyncpg.connect(location.dsn)
    role = f"app_{location.schema}"
    await admin.execute(f"CREATE ROLE {role} LOGIN")
    caller = OnAsyncpg(engine.url.replace("postroom@", f"{role}@"))
    await caller.connect()
    with pytest.raises(
        OutboxError, match=f"GRANT USAGE ON SCHEMA {location.schema}, and GRANT SELECT, INSERT ON meta"
    ) as error:
        await enqueue(post, caller)
    tables = str(error.value).rpartition("INSERT ON ")[2].removesuffix(" there").split(", ")
    await admin.execute(f"GRANT USAGE ON SCHEMA {location.schema} TO {role}")
    for table in tables:
        await admin.execute(f"GRANT SELECT, INSERT ON {location.schema}.{table} TO {role}")
    await caller.begin()
    message = email(idempotency_key="k", attachments=[{"filename": "a", "content": b"a"}])
    receipt = await enqueue(post, caller, message)
    assert (await enqueue(post, caller, message)).id == receipt.id
    await caller.commit()
    await caller.close()
    await admin.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
    await admin.close()
    assert await ids(post) == [receipt.id]


class TestWakingUp:
    @pytest.mark.parametrize("kind", [OnAsyncpg, OnAsyncPsycopg, OnSqlalchemyAsyncpg])
    async def test_the_commit_wakes_workers_that_never_look_by_themselves(
        self,
        make_outbox: MakeOutbox,
        post: Process,
        connect: Connect,
        kind: type[OnPostgres],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        for interval in ("POLL_INTERVAL", "NET_INTERVAL"):
            monkeypatch.setattr(store_module, interval, 3600.0)
        caller = await connect(kind)
        async with make_outbox() as elsewhere:
            version = await elsewhere.store.changed()
            version = await elsewhere.store.changed(version)  # it listens by now
            version = await elsewhere.store.changed(version)  # and has heard what it said to itself
            waiting = asyncio.create_task(elsewhere.store.changed(version))
            await caller.begin()
            receipt = await enqueue(post, caller)
            await elsewhere.outbox.stats()
            assert not waiting.done()
            await caller.commit()
            async with asyncio.timeout(60):
                await waiting
            assert await ids(elsewhere) == [receipt.id]

    async def test_many_messages_of_a_transaction_are_one_notification_and_none_without_any(
        self, post: Process, connect: Connect, location: Location
    ) -> None:
        heard: asyncio.Queue[str] = asyncio.Queue()
        listener, caller = await asyncpg.connect(location.dsn), await connect()
        await listener.add_listener(location.channel, lambda *said: heard.put_nowait(str(said[3])))
        await caller.begin()
        for number in range(20):
            await enqueue(post, caller, email(idempotency_key=str(number)))
        await caller.commit()
        await caller.begin()
        await enqueue(post, caller, email(idempotency_key="1"))
        await caller.execute(f"SELECT pg_notify('{location.channel}', 'the last')")
        await caller.commit()
        async with asyncio.timeout(60):
            assert [await heard.get(), await heard.get()] == ["", "the last"]
        assert heard.empty()
        await listener.close()


class TestOutsideOfATransaction:
    async def test_asyncpg_has_the_message_at_once(self, post: Process, connect: Connect) -> None:
        caller = await connect()
        receipt = await enqueue(post, caller)
        assert not caller.connection.is_in_transaction()
        assert await ids(post) == [receipt.id]

    async def test_psycopg_in_autocommit_too_but_not_within_a_transaction(
        self, post: Process, location: Location
    ) -> None:
        with psycopg.connect(location.dsn, autocommit=True) as connection:
            receipt = await enqueue(post, connection)
            assert await ids(post) == [receipt.id]
            with connection.transaction(force_rollback=True):
                await enqueue(post, connection)
            with connection.transaction():
                second = await enqueue(post, connection)
                assert await ids(post) == [receipt.id]
        assert await ids(post) == [second.id, receipt.id]

    async def test_sqlalchemy_in_autocommit_too(self, post: Process, location: Location) -> None:
        blocking = create_engine(location.dsn.replace("postgresql", "postgresql+psycopg"), isolation_level="AUTOCOMMIT")
        with blocking.connect() as one:
            first = await enqueue(post, one)
        blocking.dispose()
        awaited = create_async_engine(
            location.dsn.replace("postgresql", "postgresql+asyncpg"), isolation_level="AUTOCOMMIT"
        )
        async with awaited.connect() as other:
            second = await enqueue(post, other)
        await awaited.dispose()
        assert await ids(post) == [second.id, first.id]

    async def test_what_fails_leaves_the_connection_as_it_was(
        self, post: Process, connect: Connect, location: Location
    ) -> None:
        caller = await connect()
        await caller.execute("SET default_transaction_read_only = on")
        with pytest.raises(OutboxError, match="takes no writes; connect to the primary"):
            await enqueue(post, caller)
        assert not caller.connection.is_in_transaction()
        assert await caller.execute("SELECT 1") == [1]


class TestTwoCallers:
    @pytest.mark.parametrize("kind", [OnAsyncpg, OnAsyncPsycopg])
    async def test_with_one_key_the_second_waits_for_what_becomes_of_the_first(
        self, post: Process, connect: Connect, kind: type[OnPostgres]
    ) -> None:
        one, other = await connect(kind), await connect(kind)
        for kept in (False, True):
            message = email(idempotency_key=f"k{kept}")
            await one.begin()
            first = await enqueue(post, one, message)
            await other.begin()
            await other.order("mine")
            waiting = asyncio.create_task(enqueue(post, other, message))
            await blocked(one)
            assert not waiting.done()
            await (one.commit() if kept else one.rollback())
            second = await waiting
            assert (second.id == first.id) == kept
            await other.commit()
        assert len(await ids(post)) == 2
        assert await other.ordered() == ["mine", "mine"]

    async def test_who_enqueues_without_a_connection_waits_for_its_key_and_keeps_nobody_waiting(
        self, post: Process, connect: Connect
    ) -> None:
        caller = await connect()
        await caller.begin()
        keyed = [email(idempotency_key=str(number)) for number in range(4)]
        firsts = [await enqueue(post, caller, message) for message in keyed]
        waiting = []
        for message in keyed:
            waiting.append(asyncio.create_task(post.add(message)))
            await blocked(caller)
        others = await asyncio.gather(*(post.add(email(idempotency_key=f"of {number}")) for number in range(4)))
        others.append(await post.add(email()))
        assert not any(task.done() for task in waiting)
        await caller.commit()
        assert [(await task).id for task in waiting] == [first.id for first in firsts]
        assert len(await ids(post)) == len(firsts) + len(others)

    async def test_who_waits_for_a_key_too_long_is_told_why(
        self, post: Process, connect: Connect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(post.store._insertions, "_locked_for", 0.0)
        caller = await connect()
        await caller.begin()
        await enqueue(post, caller, email(idempotency_key="k"))
        with pytest.raises(OutboxError, match="a transaction that has not ended uses the same idempotency key"):
            await post.add(email(idempotency_key="k"))
        await caller.rollback()
        assert (await post.add(email(idempotency_key="k"))).status is Status.QUEUED

    async def test_in_a_snapshot_a_key_of_somebody_since_then_is_an_error_that_spoils_nothing(
        self, post: Process, connect: Connect
    ) -> None:
        caller = await connect()
        await caller.begin()
        await caller.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        await caller.order("one")
        first = await post.add(email(idempotency_key="k"))
        with pytest.raises(OutboxError, match="roll it back, and run all of it again"):
            await enqueue(post, caller, email(idempotency_key="k"))
        other = await enqueue(post, caller)
        await caller.commit()
        assert await ids(post) == [other.id, first.id]
        assert await caller.ordered() == ["one"]

    async def test_who_wait_for_each_other_are_told_and_can_go_on(self, post: Process, connect: Connect) -> None:
        one, other = await connect(), await connect()
        for caller, key in ((one, "a"), (other, "b")):
            await caller.execute("SET deadlock_timeout = '10ms'")
            await caller.begin()
            await caller.order(key)
            await enqueue(post, caller, email(idempotency_key=key))
        crossed = [enqueue(post, one, email(idempotency_key="b")), enqueue(post, other, email(idempotency_key="a"))]
        asking = [asyncio.create_task(each) for each in crossed]
        done, _ = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        [told] = done
        assert isinstance(told.exception(), OutboxError)
        assert "wait for each other: roll it back" in str(told.exception())
        first, second = (one, other) if told is asking[0] else (other, one)
        await first.order("c")
        await first.commit()
        await asyncio.wait(asking)
        await second.commit()
        assert await one.ordered() == ["a", "b", "c"]
        assert len(await ids(post)) == 2

    async def test_one_attachment_of_many_is_stored_once_and_stays_while_anybody_has_it(
        self, post: Process, connect: Connect, location: Location
    ) -> None:
        one, other = await connect(), await connect()
        attached = email(attachments=[{"filename": "a.txt", "content": b"the same"}])
        first = await post.add(attached)
        await post.work()
        assert (await post.receipt(first)).status is Status.SENT
        await one.begin()
        second = await enqueue(post, one, attached)
        pruning = asyncio.create_task(post.store.prune(post.clock() + 1, 100))
        await blocked(one)
        await other.begin()
        await enqueue(post, other, attached)
        await other.rollback()
        await one.commit()
        await pruning
        await post.work()
        assert (await post.receipt(second)).status is Status.SENT
        await post.store.prune(post.clock() + 1, 100)
        assert await one.execute(f"SELECT count(*) FROM {location.schema}.files") == [0]


async def blocked(caller: Caller) -> None:
    """Return once somebody waits for this caller's transaction."""
    [own] = await caller.execute("SELECT pg_backend_pid()")
    waiting = f"SELECT count(*) FROM pg_stat_activity WHERE {own} = ANY (pg_blocking_pids(pid))"
    async with asyncio.timeout(60):
        while await caller.execute(waiting) == [0]:
            await asyncio.sleep(0.001)


class TestSpoiltTransactions:
    @pytest.mark.parametrize("kind", ON_POSTGRES[:4])
    async def test_one_that_had_failed_before_is_told_so(
        self, post: Process, connect: Connect, kind: type[OnPostgres]
    ) -> None:
        caller = await connect(kind)
        await caller.begin()
        with pytest.raises(Exception, match="division by zero"):
            await caller.execute("SELECT 1 / 0")
        with pytest.raises(OutboxError, match="this transaction had failed before: roll it back, and begin again"):
            await enqueue(post, caller)
        await caller.rollback()
        await caller.begin()
        receipt = await enqueue(post, caller)
        await caller.commit()
        assert await ids(post) == [receipt.id]

    @pytest.mark.parametrize("kind", [OnAsyncpg, OnAsyncPsycopg])
    async def test_a_task_that_is_cancelled_while_it_waits_leaves_it_usable(
        self, post: Process, connect: Connect, kind: type[OnPostgres]
    ) -> None:
        one, other = await connect(kind), await connect(kind)
        await one.begin()
        await enqueue(post, one, email(idempotency_key="k"))
        await other.begin()
        await other.order("kept")
        waiting = asyncio.create_task(enqueue(post, other, email(idempotency_key="k")))
        await blocked(one)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        receipt = await enqueue(post, other)
        await other.commit()
        await one.rollback()
        assert await ids(post) == [receipt.id]
        assert await other.ordered() == ["kept"]

    @pytest.mark.parametrize("kind", [OnAsyncpg, OnPsycopg, OnAsyncPsycopg])
    async def test_a_connection_that_the_server_has_ended_has_accepted_nothing(
        self, post: Process, engine: PostgresEngine, connect: Connect, kind: type[OnPostgres]
    ) -> None:
        admin, lost = await connect(), kind(engine.url)
        await lost.connect()
        await lost.begin()
        await enqueue(post, lost)
        [number] = await lost.execute("SELECT pg_backend_pid()")
        await admin.execute(f"SELECT pg_terminate_backend({number}, 60000)")
        with pytest.raises(OutboxError, match="nothing was accepted: "):
            await enqueue(post, lost)
        if kind is not OnAsyncpg:
            await lost.close()
        assert await ids(post) == []


class TestSettings:
    async def test_of_psycopg_are_neither_in_the_way_nor_changed(
        self, post: Process, connect: Connect, location: Location
    ) -> None:
        await connect()
        with psycopg.connect(location.dsn, row_factory=dict_row, cursor_factory=psycopg.ClientCursor) as connection:
            connection.execute("CREATE TEMP TABLE messages (other text); CREATE TEMP TABLE meta (other text)")
            connection.execute("SET search_path = pg_temp")
            message = email(idempotency_key="k", attachments=[{"filename": "a", "content": b"a"}])
            first = await enqueue(post, connection, message)
            with connection.pipeline():
                assert (await enqueue(post, connection, message)).id == first.id
                second = await enqueue(post, connection)
            assert connection.execute("SHOW search_path").fetchone() == {"search_path": "pg_temp"}
            connection.commit()
            with connection.pipeline():
                with pytest.raises(psycopg.errors.DivisionByZero):
                    connection.execute("SELECT 1 / 0").fetchone()
                with pytest.raises(OutboxError, match="pipeline aborted; nothing was accepted"):
                    await enqueue(post, connection)
            connection.rollback()
            assert connection.row_factory is dict_row
            assert connection.cursor_factory is psycopg.ClientCursor
        assert await ids(post) == [second.id, first.id]

    async def test_of_asyncpg_are_neither_in_the_way_nor_changed(
        self, post: Process, connect: Connect, location: Location
    ) -> None:
        class Named(asyncpg.Record):
            def __getitem__(self, key: Any) -> Any:
                assert isinstance(key, str)
                return super().__getitem__(key)

        await connect()
        connection = await asyncpg.connect(location.dsn, record_class=Named, statement_cache_size=0)
        await connection.execute("CREATE TEMP TABLE messages (other text); SET search_path = pg_temp")
        async with connection.transaction():
            first = await enqueue(post, connection, email(idempotency_key="k"))
            assert (await enqueue(post, connection, email(idempotency_key="k"))).id == first.id
        assert await ids(post) == [first.id]
        await connection.close()


class TestBlockingClient:
    @pytest.fixture
    def room(self, engine: PostgresEngine) -> Iterator[SyncPostroom]:
        accounts = {"box": {"provider": "memory", "from": "post@example.org"}}
        with SyncPostroom(accounts=accounts, outbox={"url": engine.url}) as room:
            yield room

    def test_it_takes_psycopg_and_sqlalchemy(self, room: SyncPostroom, location: Location) -> None:
        with psycopg.connect(location.dsn) as connection:
            first = room.enqueue(email(), connection=connection)
            assert room.outbox.list() == []
        engine = create_engine(location.dsn.replace("postgresql", "postgresql+psycopg"))
        with Session(engine) as session, session.begin():
            second = room.enqueue(email(), connection=session)
        with Session(engine) as session:
            room.enqueue(email(), connection=session)
            session.rollback()
        engine.dispose()
        room.work(until_empty=True)
        assert {message.id for message in room.memory} == {first.id, second.id}

    async def test_it_takes_none_that_is_awaited(self, room: SyncPostroom, location: Location) -> None:
        connection = await asyncpg.connect(location.dsn)
        engine = create_async_engine(location.dsn.replace("postgresql", "postgresql+asyncpg"))
        async with engine.connect() as other:
            for each in (connection, other):
                with pytest.raises(TypeError, match=r"SyncPostroom takes a connection whose calls block, not "):
                    room.enqueue(email(), connection=each)
        await engine.dispose()
        await connection.close()


PROGRAM = """
import os, sys
import psycopg
from postroom import Email, SyncPostroom

url, dsn, end = sys.argv[1:]
accounts = {"box": {"provider": "memory", "from": "post@example.org"}}
with SyncPostroom(accounts=accounts, outbox={"url": url}) as room:
    connection = psycopg.connect(dsn)
    room.enqueue(Email(to="ann@example.org", text="x" * 1_000_000), connection=connection)
    if end == "after":
        connection.commit()
    os._exit(7)
"""


@pytest.mark.parametrize("end", ["before", "after"])
async def test_a_program_that_dies_has_sent_what_it_committed_and_nothing_else(
    post: Process, engine: PostgresEngine, location: Location, end: str
) -> None:
    command = [sys.executable, "-c", PROGRAM, engine.url, location.dsn, end]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 7, done.stderr
    assert len(await ids(post)) == (end == "after")
