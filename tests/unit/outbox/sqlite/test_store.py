"""What the SQLite file holds: everything accepted, nothing secret, no longer than it must."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import threading
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from engines.process import MakeOutbox, Process, SqliteEngine

from postroom import (
    Attachment,
    ConfigError,
    Email,
    Event,
    EventType,
    OutboxError,
    SearchTooBroad,
    Status,
)
from postroom.outbox.sqlite import query
from postroom.outbox.sqlite.query import settled_before
from postroom.outbox.sqlite.schema import VERSION
from postroom.outbox.sqlite.update import prune
from postroom.outbox.views import MessageFilter
from postroom.receipts import Channel

NOON = datetime(2027, 1, 1, 12, tzinfo=UTC)
CANARY = "canary-0123456789abcdef"


def email(**more: Any) -> Email:
    return Email(**{"to": "ann@example.org", "subject": "hello", "text": "hello", **more})


def sql(post: Process, statement: str, *values: object) -> list[Any]:
    with sqlite3.connect(post.store.path) as connection:
        return connection.execute(statement, values).fetchall()


async def test_many_callers_at_once_share_few_transactions(make_outbox: MakeOutbox) -> None:
    async with make_outbox() as post:
        await post.store.open()
        before = post.store.transactions
        await asyncio.gather(*(post.add(email()) for _ in range(100)))
        assert post.store.transactions - before <= 3
        assert sql(post, "SELECT count(*) FROM messages") == [(100,)]


async def test_the_file_is_for_its_owner_only(make_outbox: MakeOutbox) -> None:
    async with make_outbox() as post:
        await post.add(email(options={"token": CANARY}))
        files = list(post.store.path.parent.glob("outbox.db*"))
        assert {file.name for file in files} >= {"outbox.db", "outbox.db-wal", "outbox.db.key"}
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


async def test_a_file_that_is_open_to_others_is_closed_to_them_with_a_warning(
    make_outbox: MakeOutbox, caplog: pytest.LogCaptureFixture
) -> None:
    async with make_outbox() as post:
        await post.add(email(options={"token": CANARY}))
        opened = [post.store.path, post.store.path.with_name("outbox.db.key")]
    for file in opened:
        file.chmod(0o644)
    async with make_outbox() as post:
        await post.add(email(options={"token": CANARY}))
        assert {stat.S_IMODE(file.stat().st_mode) for file in post.store.path.parent.glob("outbox.db*")} == {0o600}
    told = [record.getMessage() for record in caplog.records if "open to others" in record.getMessage()]
    assert {text.partition(" was open")[0] for text in told} == {str(file) for file in opened}


async def test_whether_messages_can_be_stored_is_told_without_a_transaction(make_outbox: MakeOutbox) -> None:
    async with make_outbox() as post:
        await post.add(email())
        before = post.store.transactions
        with closing(sqlite3.connect(post.store.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")  # somebody writes, and whoever asks does not wait for that
            await asyncio.gather(*(post.store.check() for _ in range(50)))
            other.execute("ROLLBACK")
        assert post.store.transactions == before


async def test_a_write_that_failed_is_told_until_one_succeeds(make_outbox: MakeOutbox) -> None:
    async with make_outbox() as post:
        await post.store.open()

        def fail(connection: sqlite3.Connection) -> None:
            raise sqlite3.OperationalError("database or disk is full")

        with pytest.raises(OutboxError):
            await post.store.write(fail)
        with pytest.raises(OutboxError, match="disk is full"):
            await post.store.check()
        await post.add(email())
        await post.store.check()


async def test_trouble_that_is_over_is_found_out_though_nobody_writes(make_outbox: MakeOutbox) -> None:
    async with make_outbox() as post:
        await post.store.open()
        with pytest.raises(OutboxError):
            await post.store.write(lambda connection: connection.execute("SELECT nothing FROM nowhere"))
        for _ in range(1000):
            try:
                await post.store.check()
            except OutboxError:
                await asyncio.sleep(0.01)
            else:
                return
        raise AssertionError("it never asked again")


async def test_a_search_keeps_no_other_reader_waiting(make_outbox: MakeOutbox) -> None:
    async with make_outbox() as post:
        accepted = await post.add(email())
        begun, end = threading.Event(), threading.Event()

        def search(connection: sqlite3.Connection) -> None:
            begun.set()
            assert end.wait(60)

        searching = [asyncio.create_task(post.store.search(search)) for _ in range(20)]
        assert await asyncio.to_thread(begun.wait, 60)
        assert (await post.outbox.stats()).states == {Status.QUEUED: 1}
        assert (await post.outbox.get(accepted.id)).receipt.id == accepted.id
        await post.work()
        end.set()
        await asyncio.gather(*searching)


async def test_a_search_of_a_tenant_has_a_bound_and_the_operators_has_none(
    make_outbox: MakeOutbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query, "MOST_STEPS", 20_000)
    async with make_outbox() as post:
        await post.outbox.add([email() for _ in range(3000)], tenant="key_1")
        with pytest.raises(SearchTooBroad, match="since and until"):
            await post.outbox.list(MessageFilter(tenant="key_1", to="nobody"))
        assert await post.outbox.list(MessageFilter(to="nobody")) == []
        assert len(await post.outbox.list(MessageFilter(tenant="key_1", limit=5))) == 5


@pytest.mark.parametrize("part", ["ann", "ann@example.org", "@", 'o"b', "é", "\\"])
async def test_a_search_for_a_recipient_finds_what_is_in_the_address(make_outbox: MakeOutbox, part: str) -> None:
    addresses = ["ann@example.org", '"o\\"b"@example.org', "zoé@example.org"]
    async with make_outbox() as post:
        for address in addresses:
            await post.add(email(to=address))
        found = await post.outbox.list(MessageFilter(to=part))
        everything = await post.outbox.list(MessageFilter())
        assert [line.id for line in found] == [line.id for line in everything if part in line.to[0]]


async def test_credentials_of_a_message_lie_encrypted_reach_the_transport_and_go_when_it_is_settled(
    make_outbox: MakeOutbox, stage: ModuleType
) -> None:
    script = stage.Script()
    async with make_outbox(script) as post:
        accepted = await post.add(email(options={"token": CANARY}))
        assert sql(post, "SELECT options IS NOT NULL FROM bodies") == [(1,)]
        assert all(CANARY.encode() not in f.read_bytes() for f in post.store.path.parent.glob("outbox.db*"))
        assert CANARY not in repr(await post.outbox.get(accepted.id))
        await post.work()
        assert sql(post, "SELECT options FROM bodies") == [(None,)]
    assert script.settings_seen[0].token.get_secret_value() == CANARY


async def test_the_key_of_the_environment_closes_and_opens_credentials(
    make_outbox: MakeOutbox, stage: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTROOM_SECRET_KEY", "k" * 32)
    script = stage.Script()
    async with make_outbox(script) as post:
        await post.add(email(options={"token": CANARY}))
        assert not post.store.path.with_name("outbox.db.key").exists()
        await post.work()
    assert script.settings_seen[0].token.get_secret_value() == CANARY


async def test_a_short_key_is_refused(make_outbox: MakeOutbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTROOM_SECRET_KEY", "short")
    async with make_outbox() as post:
        with pytest.raises(ConfigError, match="POSTROOM_SECRET_KEY: must be at least 32 characters"):
            await post.add(email(options={"token": CANARY}))


async def test_attachments_are_kept_once_by_their_content_and_arrive_whole(
    make_outbox: MakeOutbox, stage: ModuleType
) -> None:
    script = stage.Script()
    file = Attachment(filename="a.bin", content=bytes(range(256)) * 100)
    async with make_outbox(script) as post:
        await post.add(email(attachments=[file]))
        await post.add(email(attachments=[file, Attachment(filename="b.bin", content=b"b", inline=True)]))
        assert sql(post, "SELECT count(*) FROM files") == [(2,)]
        await post.work()
    assert [[a.content for a in message.attachments] for message in script.messages] == [
        [file.content],
        [file.content, b"b"],
    ]
    assert script.messages[1].attachments[1].inline


async def test_bodies_and_keys_go_after_their_retention_and_the_receipt_stays(make_outbox: MakeOutbox) -> None:
    async with make_outbox(outbox={"retention": "1d"}) as post:
        accepted = await post.add(email(attachments=[Attachment(filename="a", content=b"a")], idempotency_key="k"))
        await post.work()
        await post.work(after=86_399)
        assert (await post.outbox.get(accepted.id)).message is not None
        await post.work(after=2)
        shown = await post.outbox.get(accepted.id)
        assert shown.message is None
        assert shown.receipt.status is Status.SENT
        for table in ("bodies", "files", "message_files", "idempotency_keys"):
            assert sql(post, f"SELECT count(*) FROM {table}") == [(0,)]
        [line] = await post.outbox.list()
        assert line.to == ("ann@example.org",)


async def test_purging_removes_settled_messages_whole_and_no_others(make_outbox: MakeOutbox) -> None:
    async with make_outbox() as post:
        await post.outbox.add([email(attachments=[Attachment(filename="a", content=b"a")]) for _ in range(3)])
        await post.work()
        waiting = await post.add(email())
        assert await post.outbox.purge(MessageFilter()) == 3
        assert [line.id for line in await post.outbox.list()] == [waiting.id]
        assert sql(post, "SELECT count(*) FROM files") == [(0,)]


async def test_a_report_of_nothing_we_know_is_kept_all_the_same(make_outbox: MakeOutbox) -> None:
    async with make_outbox() as post:
        assert (
            await post.outbox.record(
                Event(
                    type=EventType.INBOUND,
                    channel=Channel.SMS,
                    provider="stage",
                    occurred_at=NOON,
                    provider_message_id="x",
                )
            )
            is None
        )
        assert sql(post, "SELECT count(*) FROM events") == [(1,)]


async def test_a_message_that_is_let_go_again_while_others_are_pruned_keeps_its_text(
    make_outbox: MakeOutbox, stage: ModuleType
) -> None:
    script = stage.Script()
    async with make_outbox(script) as post:
        accepted, other = await post.add(email()), await post.add(email())
        for receipt in (accepted, other):
            await post.outbox.cancel(receipt.id)
        later = post.clock.now + 1
        found = await post.store.read(lambda c: settled_before(c, later, 10))
        assert len(found) == 2
        await post.outbox.retry(accepted.id)
        assert await post.store.write(lambda c: prune(c, found, later)) == 1
        await post.work()
        assert (await post.receipt(accepted)).status is Status.SENT


async def test_large_bodies_are_pruned_a_few_at_a_time(
    make_outbox: MakeOutbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query, "MOST_BYTES_PRUNED", 2_500)
    async with make_outbox(outbox={"retention": "1d"}) as post:
        for _ in range(5):
            await post.outbox.cancel((await post.add(email(text="x" * 1_000))).id)
        await post.work(after=86_401)
        assert sql(post, "SELECT count(*) FROM bodies") == [(0,)]
        assert len(await post.store.read(lambda c: settled_before(c, post.clock.now, 100))) == 0
        for _ in range(5):
            await post.outbox.cancel((await post.add(email(text="x" * 1_000))).id)
        assert len(await post.store.read(lambda c: settled_before(c, post.clock.now, 100))) == 3


class TestFiles:
    async def test_a_folder_that_is_not_there(self, stage: ModuleType, tmp_path: Path, make_outbox: MakeOutbox) -> None:
        async with make_outbox(outbox={"url": f"sqlite:///{tmp_path}/none/outbox.db"}) as post:
            with pytest.raises(OutboxError, match="its folder does not exist; make it"):
                await post.add(email())

    async def test_the_database_of_another_program_is_left_alone(self, make_outbox: MakeOutbox, tmp_path: Path) -> None:
        with sqlite3.connect(tmp_path / "outbox.db") as other:
            other.execute("CREATE TABLE theirs (x)")
        async with make_outbox() as post:
            with pytest.raises(OutboxError, match="is the database of another program"):
                await post.add(email())
            assert sql(post, "SELECT name FROM sqlite_master") == [("theirs",)]

    async def test_a_file_that_is_no_database(self, make_outbox: MakeOutbox, tmp_path: Path) -> None:
        (tmp_path / "outbox.db").write_text("something else entirely" * 100)
        async with make_outbox() as post:
            with pytest.raises(OutboxError, match="not a database; name another file"):
                await post.add(email())

    async def test_a_file_that_stays_locked_is_one_clear_error_for_all_who_wait(
        self, make_outbox: MakeOutbox, engine: SqliteEngine
    ) -> None:
        engine.busy_timeout = 0.5
        async with make_outbox() as post:
            first = await post.add(email())
            with closing(sqlite3.connect(post.store.path, isolation_level=None)) as other:
                other.execute("BEGIN EXCLUSIVE")
                async with asyncio.timeout(60):  # not half a second for each of them
                    answers = await asyncio.gather(*(post.add(email()) for _ in range(300)), return_exceptions=True)
                assert {type(answer) for answer in answers} == {OutboxError}
                assert "another process kept it locked" in str(answers[0])
                other.execute("COMMIT")
            after = await post.add(email())
            assert [line.id for line in await post.outbox.list()] == [after.id, first.id]

    async def test_a_newer_schema_is_refused_with_advice(self, make_outbox: MakeOutbox) -> None:
        async with make_outbox() as post:
            await post.add(email())
        sql(post, f"PRAGMA user_version = {VERSION + 1}")
        async with make_outbox() as post:
            with pytest.raises(OutboxError, match="written by a newer postroom .* upgrade postroom"):
                await post.add(email())

    async def test_a_damaged_row_is_set_aside_and_the_rest_flows(self, make_outbox: MakeOutbox) -> None:
        async with make_outbox() as post:
            bad = [await post.add(email()) for _ in range(4)]
            good = await post.add(email())
            for receipt, column, value in zip(
                bad,
                ("body", "body", "body", "progress"),
                ("{", '{"to": 5}', '{"strange": 1}', "{"),
                strict=True,
            ):
                table = "bodies" if column == "body" else "messages"
                sql(
                    post,
                    f"UPDATE {table} SET {column} = ? WHERE seq = (SELECT seq FROM messages WHERE id = ?)",
                    value,
                    receipt.id,
                )
            await post.work()
            assert (await post.receipt(good)).status is Status.SENT
            for receipt in bad:
                told = await post.receipt(receipt)
                assert told.status is Status.FAILED
                assert "cannot be read back from the outbox" in (told.recipients[0].detail or "")


@pytest.mark.parametrize("how", ["removed", "replaced"])
async def test_nothing_is_accepted_into_a_file_that_was_removed_or_replaced(make_outbox: MakeOutbox, how: str) -> None:
    async with make_outbox() as post:
        await post.add(email())
        path = post.store.path
        path.rename(path.with_name("moved.db"))
        if how == "replaced":
            path.write_bytes(b"")
        for _ in range(2):
            with pytest.raises(OutboxError, match="was removed or replaced while this process had it open"):
                await post.add(email())
        with pytest.raises(OutboxError, match="start them again"):
            await post.outbox.stats()
        path.with_name("moved.db").rename(path)
        await post.add(email())
        assert (await post.outbox.stats()).states == {Status.QUEUED: 2}


async def test_closing_waits_for_a_query_whose_caller_was_cancelled(make_outbox: MakeOutbox) -> None:
    began, ended = threading.Event(), threading.Event()

    def long(connection: sqlite3.Connection) -> None:
        began.set()
        connection.execute(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000) SELECT max(i) FROM n"
        ).fetchone()
        ended.set()

    async with make_outbox() as post:
        asking = asyncio.create_task(post.store.read(long))
        await asyncio.to_thread(began.wait)
        asking.cancel()
        await asyncio.wait([asking])
        await post.store.close()
        assert ended.is_set()


KEYS = ["the first key is as long as it has to be", "another key is as long as it has to be"]


@pytest.mark.parametrize("given", [*KEYS[1:], "too short", None], ids=["another", "unfit", "none"])
async def test_without_the_right_key_a_message_is_held_with_the_reason_and_its_credentials_stay(
    make_outbox: MakeOutbox, stage: ModuleType, monkeypatch: pytest.MonkeyPatch, given: str | None
) -> None:
    script = stage.Script()
    monkeypatch.setenv("POSTROOM_SECRET_KEY", KEYS[0])
    async with make_outbox(script) as post:
        bad, good = await post.add(email(options={"token": "its own"})), await post.add(email())
    if given is None:
        monkeypatch.delenv("POSTROOM_SECRET_KEY")
    else:
        monkeypatch.setenv("POSTROOM_SECRET_KEY", given)
    async with make_outbox(script) as post:
        await post.work()
        held = await post.receipt(bad)
        assert held.status is Status.HELD
        assert "POSTROOM_SECRET_KEY" in (held.recipients[0].detail or "")
        assert (await post.receipt(good)).status is Status.SENT, "it costs no other"
        await post.work(after=3600)
        assert (await post.receipt(bad)).status is Status.HELD
    monkeypatch.setenv("POSTROOM_SECRET_KEY", KEYS[0])
    async with make_outbox(script) as post:
        await post.outbox.retry(bad.id)
        await post.work()
        receipt = await post.receipt(bad)
    assert (receipt.status, [result.address for result in receipt.recipients]) == (Status.SENT, ["ann@example.org"])
    assert [call[0].options["token"].get_secret_value() for call in script.calls if call[0].options] == ["its own"]
