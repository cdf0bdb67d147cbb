"""A message that is accepted in the caller's own transaction is there if that is committed, and only then."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Coroutine
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from engines.callers import ON_POSTGRES, ON_SQLITE, Caller, OnAsyncpg, OnPsycopg, OnSqlite3, OnSqlite3ByHand
from engines.postgres import PostgresEngine
from engines.process import Engine, MakeOutbox, Process, SqliteEngine
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from postroom import Attachment, Email, IdempotencyConflict, OutboxError, Receipt, Status
from postroom.config.outbox import OutboxSettings
from postroom.outbox.copying import OutboxCopy
from postroom.outbox.factory import open_copy_storage
from postroom.receipts import Accepted

CANARY = "canary-0123456789abcdef"
KINDS = [*ON_SQLITE, *ON_POSTGRES]


def email(**more: Any) -> Email:
    return Email(**{"to": "ann@example.org", "subject": "hello", "text": "hello", **more})


def name_of(kind: type[Caller]) -> str:
    return f"{'sqlite' if kind in ON_SQLITE else 'postgres'}-{kind.__name__}"


@pytest.fixture(params=KINDS, ids=name_of)
def kind(request: pytest.FixtureRequest) -> type[Caller]:
    """Each driver in turn."""
    found: type[Caller] = request.param
    return found


@pytest.fixture
def engine(kind: type[Caller], monkeypatch: pytest.MonkeyPatch) -> Engine:
    """The engine that has such callers."""
    monkeypatch.setenv("POSTROOM_SECRET_KEY", "the same for all machines, and long enough")
    return SqliteEngine() if kind in ON_SQLITE else PostgresEngine()


@pytest.fixture
def script(stage: ModuleType) -> Any:
    return stage.Script()


@pytest.fixture
async def post(make_outbox: MakeOutbox, script: Any) -> AsyncIterator[Process]:
    """The outbox, made already."""
    async with make_outbox(script) as process:
        await process.store.open()
        yield process


def place_of(engine: Engine, folder: Path) -> str:
    return engine.url if isinstance(engine, PostgresEngine) else str(folder / "outbox.db")


@pytest.fixture
async def caller(kind: type[Caller], engine: Engine, post: Process, tmp_path: Path) -> AsyncIterator[Caller]:
    """A program that is connected, and has a table of its own beside the outbox."""
    one = kind(place_of(engine, tmp_path))
    await one.connect()
    await one.prepare()
    yield one
    await one.close()


async def enqueue(post: Process, caller: Caller, message: Email) -> Receipt:
    [answer] = await post.outbox.enqueue([message], connection=caller.connection)
    if isinstance(answer, Exception):
        raise answer
    return answer


async def ids(post: Process) -> list[str]:
    return [line.id for line in await post.outbox.list()]


async def test_a_commit_accepts_the_message_with_the_callers_own_rows(
    post: Process, caller: Caller, script: Any
) -> None:
    await caller.begin()
    await caller.order("one")
    receipt = await enqueue(post, caller, email())
    assert receipt.status is Status.QUEUED
    assert await ids(post) == []
    await caller.commit()
    assert await ids(post) == [receipt.id]
    await post.work()
    await post.work()
    assert (await post.receipt(receipt)).status is Status.SENT
    assert len(script.calls) == 1
    assert await caller.ordered() == ["one"]


async def test_a_message_may_come_before_anything_of_the_callers(post: Process, caller: Caller) -> None:
    await caller.begin()
    receipt = await enqueue(post, caller, email())
    await caller.order("one")
    assert await ids(post) == []
    await caller.commit()
    assert await ids(post) == [receipt.id]
    assert await caller.ordered() == ["one"]


async def test_a_rollback_leaves_nothing(post: Process, caller: Caller) -> None:
    for order_first in (True, False):
        await caller.begin()
        if order_first:
            await caller.order("one")
        attached = Attachment(filename="a.bin", content=b"content")
        await enqueue(post, caller, email(attachments=[attached], idempotency_key="k", options={"token": CANARY}))
        await caller.rollback()
    assert await ids(post) == []
    prefix = f'"{caller.location.schema}".' if hasattr(caller, "location") else ""
    await caller.begin()
    for table in ("messages", "bodies", "files", "message_files", "idempotency_keys"):
        assert await caller.execute(f"SELECT count(*) FROM {prefix}{table}") == [0]
    assert await caller.ordered() == []
    await caller.rollback()
    assert (await post.add(email(idempotency_key="k", text="another"))).status is Status.QUEUED


async def test_a_connection_that_is_closed_leaves_nothing(
    post: Process, caller: Caller, kind: type[Caller], engine: Engine, tmp_path: Path
) -> None:
    other = kind(place_of(engine, tmp_path))
    await other.connect()
    await other.begin()
    await enqueue(post, other, email())
    await other.close()
    assert await ids(post) == []


async def test_what_follows_a_savepoint_goes_back_with_it(post: Process, caller: Caller) -> None:
    await caller.begin()
    await caller.order("one")
    first = await enqueue(post, caller, email(idempotency_key="first"))
    await caller.execute("SAVEPOINT theirs")
    await enqueue(post, caller, email(idempotency_key="second"))
    await caller.execute("ROLLBACK TO SAVEPOINT theirs")
    last = await enqueue(post, caller, email(idempotency_key="second", text="another"))
    await caller.execute("RELEASE SAVEPOINT theirs")
    await caller.commit()
    assert await ids(post) == [last.id, first.id]


async def test_a_key_stands_for_one_message_within_a_transaction_and_after_it(post: Process, caller: Caller) -> None:
    await caller.begin()
    first = await enqueue(post, caller, email(idempotency_key="k"))
    assert (await enqueue(post, caller, email(idempotency_key="k"))).id == first.id
    with pytest.raises(IdempotencyConflict, match=f"'k' was used for another message .{first.id}"):
        await enqueue(post, caller, email(idempotency_key="k", text="another"))
    await caller.order("goes on")
    await caller.commit()
    assert (await post.add(email(idempotency_key="k"))).id == first.id
    await post.work()
    await caller.begin()
    again = await enqueue(post, caller, email(idempotency_key="k"))
    assert (again.id, again.status) == (first.id, Status.SENT)
    await caller.commit()
    assert await ids(post) == [first.id]
    assert await caller.ordered() == ["goes on"]


async def test_an_id_that_is_taken_is_an_answer_and_the_transaction_goes_on(post: Process, caller: Caller) -> None:
    await post.add(email(id="mine"))
    await caller.begin()
    await caller.order("one")
    with pytest.raises(OutboxError, match="there is a message mine already"):
        await enqueue(post, caller, email(id="mine"))
    await caller.order("two")
    await caller.commit()
    assert await caller.ordered() == ["one", "two"]


async def test_many_are_accepted_together_with_one_answer_for_each(post: Process, caller: Caller) -> None:
    await caller.begin()
    messages = [email(subject="a", idempotency_key="k"), email(provider="nobody"), email(subject="b")]
    messages += [email(subject="a", idempotency_key="k")]
    first, wrong, second, again = await post.outbox.enqueue(messages, connection=caller.connection)
    await caller.commit()
    assert isinstance(first, Receipt)
    assert isinstance(second, Receipt)
    assert isinstance(wrong, Exception)
    assert isinstance(again, Receipt)
    assert again.id == first.id
    assert await ids(post) == [second.id, first.id]


async def test_what_can_never_be_sent_is_an_answer_that_costs_the_transaction_nothing(
    post: Process, caller: Caller
) -> None:
    await caller.begin()
    await caller.order("one")
    [wrong] = await post.outbox.enqueue([email(provider="nobody")], connection=caller.connection)
    assert isinstance(wrong, Exception)
    await caller.commit()
    assert await caller.ordered() == ["one"]


async def test_attachments_credentials_and_times_go_with_it(post: Process, caller: Caller, script: Any) -> None:
    file = Attachment(filename="a.bin", content=bytes(range(256)) * 100)
    later = datetime.fromtimestamp(post.clock() + 60, UTC)
    await caller.begin()
    now = await enqueue(post, caller, email(attachments=[file, file], options={"token": CANARY}))
    scheduled = await enqueue(post, caller, email(attachments=[file], send_at=later))
    assert scheduled.status is Status.SCHEDULED
    await caller.commit()
    await post.work()
    assert (await post.receipt(now)).status is Status.SENT
    assert (await post.receipt(scheduled)).status is Status.SCHEDULED
    await post.work(after=61)
    assert [[a.content for a in message.attachments] for message in script.messages] == [
        [file.content] * 2,
        [file.content],
    ]
    assert script.settings_seen[0].token.get_secret_value() == CANARY


async def test_a_letter_of_any_language_goes_with_it(post: Process, caller: Caller, script: Any) -> None:
    text = "Grüße, {schema} 100 % :name ? $1 'O''Brien' \\ “quoted” 漢字 🎉"
    await caller.begin()
    await enqueue(post, caller, email(subject=text, text=text, idempotency_key="%s :id $2 {schema}"))
    await caller.commit()
    await post.work()
    assert [(message.subject, message.text) for message in script.messages] == [(text, text)]


@pytest.mark.parametrize("wrong", [object(), "sqlite:///x", 7])
async def test_what_is_no_connection_is_a_type_error(post: Process, caller: Caller, wrong: object) -> None:
    with pytest.raises(TypeError, match=r"connection must be one of .* SQLAlchemy .*, not builtins\."):
        await post.outbox.enqueue([email()], connection=wrong)


async def test_a_worker_that_waits_delivers_it_after_the_commit(
    make_outbox: MakeOutbox, post: Process, caller: Caller, script: Any
) -> None:
    sent: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()

    async def act(message: Email) -> Accepted:
        sent.set_result(message.id)
        return Accepted(provider_message_id="1")

    stop = asyncio.Event()
    async with make_outbox(type(script)(act)) as elsewhere:
        working = asyncio.create_task(elsewhere.outbox.work(stop=stop))
        await caller.begin()
        receipt = await enqueue(post, caller, email())
        assert not sent.done()
        await caller.commit()
        async with asyncio.timeout(60):
            assert await sent == receipt.id
        stop.set()
        await working


async def test_an_outbox_that_was_copied_to_another_place_takes_nothing_more(
    post: Process, caller: Caller, engine: Engine, tmp_path: Path
) -> None:
    await caller.close()
    await post.store.close()
    place = place_of(engine, tmp_path)
    source = place if isinstance(engine, PostgresEngine) else f"sqlite:///{place}"
    left, entered = (
        open_copy_storage(OutboxSettings.model_validate({"url": url}))
        for url in (source, f"sqlite:///{tmp_path}/new.db")
    )
    copy = OutboxCopy(left, entered, 0.05, 100)
    async for _ in copy.run():
        pass
    await copy.close()
    await caller.connect()
    await caller.begin()
    await caller.order("one")
    with pytest.raises(OutboxError, match="was moved to"):
        await enqueue(post, caller, email())
    await caller.commit()
    await caller.begin()
    assert await caller.ordered() == ["one"]
    await caller.rollback()


class TransactionMachine(RuleBasedStateMachine):
    """A program that enqueues in transactions with savepoints, beside one that enqueues by itself.

    The model is what a commit would leave: a list of the program's own rows and the messages by their keys, copied at
    each savepoint.
    """

    kind: type[Caller] = OnSqlite3

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        file = f"{self.folder.name}/o.db"
        engine: Engine = SqliteEngine() if self.kind in ON_SQLITE else PostgresEngine()
        config = {
            "accounts": {"a": {"provider": "memory", "from": "p@example.org"}},
            "outbox": {"url": f"sqlite:///{file}"},
        }
        self.process = Process(config, engine)
        self.run(self.process.store.open())
        self.caller = self.kind(engine.url if isinstance(engine, PostgresEngine) else file)
        self.run(self.caller.connect())
        self.run(self.caller.prepare())
        self.committed = State()
        self.now = State()
        self.savepoints: list[State] = []
        self.begun = False

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    def teardown(self) -> None:
        self.run(self.caller.close())
        self.run(self.process.__aexit__())
        self.loop.close()
        self.folder.cleanup()

    def begin(self) -> None:
        if not self.begun:
            self.begun = True
            self.run(self.caller.begin())

    @rule()
    def write_a_row(self) -> None:
        self.begin()
        self.now.rows += 1
        self.run(self.caller.order("row"))

    @rule(key=st.sampled_from([None, "a", "b"]), text=st.sampled_from(["x", "y"]), attached=st.booleans())
    def enqueue(self, key: str | None, text: str, attached: bool) -> None:
        self.begin()
        files = [{"filename": "a", "content": text.encode()}] if attached else []
        message = email(idempotency_key=key, text=text, attachments=files)
        [answer] = self.run(self.process.outbox.enqueue([message], connection=self.caller.connection))
        known = self.now.keys.get(key) if key else None
        if known is None:
            self.now.messages.append(answer.id)
            if key:
                self.now.keys[key] = (answer.id, text, attached)
        elif known[1:] == (text, attached):
            assert answer.id == known[0]
        else:
            assert isinstance(answer, IdempotencyConflict)

    @precondition(lambda self: not self.begun)
    @rule(key=st.sampled_from([None, "a", "b"]))
    def enqueue_without_the_caller(self, key: str | None) -> None:
        [answer] = self.run(self.process.outbox.enqueue([email(idempotency_key=key, text="x")]))
        known = self.committed.keys.get(key) if key else None
        if known is None:
            self.committed.messages.append(answer.id)
            if key:
                self.committed.keys[key] = (answer.id, "x", False)
        else:
            assert isinstance(answer, IdempotencyConflict) == (known[1:] != ("x", False))
        self.now = deepcopy(self.committed)

    @precondition(lambda self: self.begun)
    @rule()
    def set_a_savepoint(self) -> None:
        self.run(self.caller.execute(f"SAVEPOINT s{len(self.savepoints)}"))
        self.savepoints.append(deepcopy(self.now))

    @precondition(lambda self: self.savepoints)
    @rule()
    def release_the_last_savepoint(self) -> None:
        self.savepoints.pop()
        self.run(self.caller.execute(f"RELEASE SAVEPOINT s{len(self.savepoints)}"))

    @precondition(lambda self: self.savepoints)
    @rule(number=st.integers(0, 3))
    def go_back_to_a_savepoint(self, number: int) -> None:
        number = min(number, len(self.savepoints) - 1)
        self.run(self.caller.execute(f"ROLLBACK TO SAVEPOINT s{number}"))
        self.now = deepcopy(self.savepoints[number])
        del self.savepoints[number + 1 :]

    @precondition(lambda self: self.begun)
    @rule(kept=st.booleans())
    def end(self, kept: bool) -> None:
        self.run(self.caller.commit() if kept else self.caller.rollback())
        if kept:
            self.committed = self.now
        self.now = deepcopy(self.committed)
        self.savepoints, self.begun = [], False

    @invariant()
    def everybody_sees_what_was_committed_and_nothing_else(self) -> None:
        assert sorted(self.run(ids(self.process))) == sorted(self.committed.messages)
        if not self.begun:
            self.begin()
            assert len(self.run(self.caller.ordered())) == self.now.rows
            self.run(self.caller.rollback())
            self.begun = False


@dataclass
class State:
    """What a transaction has come to: rows, messages, and the id, text and attachment of each key's."""

    rows: int = 0
    messages: list[str] = field(default_factory=list)
    keys: dict[str, tuple[str, str, bool]] = field(default_factory=dict)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", [OnSqlite3, OnSqlite3ByHand, OnPsycopg, OnAsyncpg], ids=name_of)
def test_whatever_a_caller_does_in_whatever_order_its_commit_decides(kind: type[Caller]) -> None:
    machine = type("Machine", (TransactionMachine,), {"kind": kind})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=10, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
