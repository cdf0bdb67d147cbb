"""Several machines at the same rows: each message once, each key once, limits for all together."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest
from engines.postgres import PostgresEngine
from engines.process import Clock, MakeOutbox, Process
from tests.postgres_server import server

from postroom import Email, OutboxError, SearchTooBroad, Status
from postroom.outbox.postgres import claim, database, query
from postroom.outbox.postgres import store as store_module
from postroom.outbox.postgres.store import PostgresStore
from postroom.outbox.records import ClaimedMessage, ClaimLimit, Settlement
from postroom.outbox.views import MessageFilter
from postroom.receipts import Channel, Receipt

QUEUE = "a0/email"


def email(**more: object) -> Email:
    return Email.model_validate({"to": "ann@example.org", "text": "x", **more})


async def test_one_key_used_by_many_at_once_stands_for_one_message(make_outbox: MakeOutbox) -> None:
    async with contextlib.AsyncExitStack() as stack:
        machines = [await stack.enter_async_context(make_outbox()) for _ in range(4)]
        found = await asyncio.gather(
            *(each.add(email(idempotency_key=f"k{n % 3}")) for each in machines for n in range(6))
        )
        assert len({receipt.id for receipt in found}) == 3
        assert len(await machines[0].outbox.list(MessageFilter())) == 3


async def test_one_attachment_stored_by_many_while_it_is_pruned_is_never_missing(make_outbox: MakeOutbox) -> None:
    attachment = {"filename": "a.txt", "content": b"same for all"}
    async with make_outbox() as one, make_outbox() as other:
        for _ in range(10):
            await one.add(email(attachments=[attachment]))
            await one.work()
            pruning = other.store.prune(one.clock() + 1, 100)
            await asyncio.gather(pruning, *(one.add(email(attachments=[attachment])) for _ in range(3)))
            await one.work()
        states = (await one.outbox.stats()).states
    assert states == {Status.SENT: 40}


async def test_no_message_is_claimed_by_two_and_the_limit_holds_over_all(make_outbox: MakeOutbox) -> None:
    async with contextlib.AsyncExitStack() as stack:
        machines = [await stack.enter_async_context(make_outbox()) for _ in range(4)]
        await machines[0].outbox.add([email() for _ in range(60)])
        workers = [(each.store, await each.store.register("w")) for each in machines]
        limits = {QUEUE: ClaimLimit(5, 12)}
        got = await asyncio.gather(*(store.exchange(number, [], [], limits) for store, number in workers))
        claimed = [message.seq for exchange in got for message in exchange.claimed]
        assert len(claimed) == len({*claimed}) == 12


async def test_what_is_under_way_is_counted_once_for_a_claim_however_many_messages_it_looks_at(
    make_outbox: MakeOutbox,
) -> None:
    async with make_outbox() as post:
        await post.outbox.add([email() for _ in range(60)])
        worker = await post.store.register("w")
        await post.store.exchange(worker, [], [], {QUEUE: ClaimLimit(30, 100)})
        wanted = ([QUEUE], [20], [100], [10**9])
        explained = await post.store.write(
            lambda c: c.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {claim._CLAIM}", worker, post.clock(), *wanted)
        )
    times = [
        node["Actual Loops"] for node in nodes(json.loads(explained)[0]["Plan"]) if node["Node Type"] == "Aggregate"
    ]
    assert times == [1]


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The steps of a plan that were taken."""
    if plan["Actual Loops"]:
        yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


async def test_a_rate_holds_over_all(make_outbox: MakeOutbox) -> None:
    async with contextlib.AsyncExitStack() as stack:
        clock = Clock()
        machines = [await stack.enter_async_context(make_outbox(clock=clock)) for _ in range(3)]
        await machines[0].outbox.add([email() for _ in range(60)])
        workers = [(each.store, await each.store.register("w")) for each in machines]
        limits = {QUEUE: ClaimLimit(50, 1000, rate=10.0)}
        total = 0
        for _ in range(100):
            clock.now += 0.02
            got = await asyncio.gather(*(store.exchange(number, [], [], limits) for store, number in workers))
            total += sum(len(exchange.claimed) for exchange in got)
        assert 15 <= total <= 20, "10 a second for 2 seconds, looked at every 20 ms"


async def test_what_is_written_wakes_the_workers_of_other_machines(
    make_outbox: MakeOutbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    for interval in ("POLL_INTERVAL", "NET_INTERVAL"):
        monkeypatch.setattr(store_module, interval, 3600.0)
    async with make_outbox() as one, make_outbox() as other:
        version = await other.store.changed()
        version = await other.store.changed(version)  # it listens by now
        version = await other.store.changed(version)  # and has heard what it said to itself
        waiting = asyncio.create_task(other.store.changed(version))
        await one.add(email())
        async with asyncio.timeout(60):
            assert await waiting != version


async def test_where_no_notification_has_ever_come_somebody_looks_all_the_same(
    make_outbox: MakeOutbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    for interval in ("POLL_INTERVAL", "NET_INTERVAL"):
        monkeypatch.setattr(store_module, interval, 0.01)
    async with make_outbox() as other:
        version = await other.store.changed()
        async with asyncio.timeout(60):
            assert await other.store.changed(version) != version


async def test_where_notifications_come_somebody_looks_less_often_but_looks(
    make_outbox: MakeOutbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "POLL_INTERVAL", 3600.0)
    monkeypatch.setattr(store_module, "NET_INTERVAL", 0.01)
    async with make_outbox() as other:
        version = -1
        async with asyncio.timeout(60):
            for _ in range(4):  # it listens, and hears what it said to itself; nobody says anything more
                version = await other.store.changed(version)


class CuttingProxy:
    """Stands between a store and its database; cuts the line in place of the answer to the next COMMIT, once `cut`."""

    def __init__(self) -> None:
        self.cut = False
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def stop(self) -> None:
        assert self._server
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind = int(server().rpartition(":")[2].partition("/")[0])
        from_server, to_server = await asyncio.open_connection("127.0.0.1", behind)
        committing = False

        async def answers() -> None:
            while data := await from_server.read(65536):
                if committing:
                    writer.transport.abort()
                    to_server.close()
                    return
                writer.write(data)
            writer.close()

        task = asyncio.create_task(answers())
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                if self.cut and b"COMMIT" in data:
                    self.cut, committing = False, True
                to_server.write(data)
        with contextlib.suppress(ConnectionError):
            await task
        to_server.close()


async def test_what_was_claimed_in_a_commit_whose_answer_was_lost_is_neither_lost_nor_sent_twice(
    make_outbox: MakeOutbox, engine: PostgresEngine
) -> None:
    proxy = CuttingProxy()
    port = await proxy.start()
    behind = server().rpartition(":")[2].partition("/")[0]
    async with make_outbox() as direct:
        receipts = [await direct.add(email()) for _ in range(3)]
        engine.url = engine.url.replace(f":{behind}/", f":{port}/")
        async with make_outbox() as post:
            number = await post.store.register("w")
            proxy.cut = True
            with pytest.raises(OutboxError):
                await post.store.exchange(number, [], [], {QUEUE: ClaimLimit(2, 10)})
            got = await post.store.exchange(number, [], [], {QUEUE: ClaimLimit(2, 10)})
            claimed = [message for message in got.claimed if isinstance(message, ClaimedMessage)]
            assert {message.id for message in claimed} == {receipt.id for receipt in receipts}
            assert {message.attempts for message in claimed} == {1}
            done = [
                Settlement(
                    message.seq,
                    message.attempts,
                    Status.SENT,
                    Receipt(id=message.id, channel=Channel.EMAIL, status=Status.SENT),
                    message.queue,
                    message.route,
                )
                for message in claimed
            ]
            assert all((await post.store.exchange(number, done, [], {})).kept)
            assert (await post.outbox.stats()).states == {Status.SENT: 3}
    await proxy.stop()


async def test_the_error_for_a_connection_that_ends_in_a_transaction_tells_why_it_ended(
    make_outbox: MakeOutbox,
) -> None:
    async with make_outbox() as post:
        await post.outbox.stats()
        with pytest.raises(OutboxError, match="terminating connection due to administrator command"):
            await post.store.write(lambda c: c.execute("SELECT pg_terminate_backend(pg_backend_pid())"))


async def test_the_server_ends_a_transaction_with_which_its_process_does_not_go_on(
    make_outbox: MakeOutbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "LONGEST_IDLE", 0.1)
    async with make_outbox() as frozen, make_outbox() as other:
        number = await frozen.store.register("w")
        receipt = await frozen.add(email())

        async def freezes(connection: asyncpg.Connection) -> None:
            await connection.execute("SELECT 1 FROM workers WHERE number = $1 FOR UPDATE", number)
            ended = asyncio.Event()
            connection.add_termination_listener(lambda _: ended.set())
            assert not await other.store.begin(number, 1, 1)  # waits until that lock is gone
            await ended.wait()
            await connection.execute("SELECT 1")

        with pytest.raises(OutboxError):
            await frozen.store.write(freezes)
        assert await other.outbox.get(receipt.id)


async def test_what_was_rescued_in_a_commit_whose_answer_was_lost_is_rescued_all_the_same(
    make_outbox: MakeOutbox, engine: PostgresEngine
) -> None:
    proxy = CuttingProxy()
    port = await proxy.start()
    behind = server().rpartition(":")[2].partition("/")[0]
    async with make_outbox() as direct:
        receipts = [await direct.add(email()) for _ in range(3)]
        dead = await direct.store.register("dead")
        taken = await direct.store.exchange(dead, [], [], {QUEUE: ClaimLimit(3, 10)})
        assert await direct.store.begin(dead, taken.claimed[0].seq, 1)
        engine.url = engine.url.replace(f":{behind}/", f":{port}/")
        async with make_outbox() as post:
            number = await post.store.register("w")
            proxy.cut = True
            with pytest.raises(OutboxError):
                await post.store.rescue(dead, 0, number)
            assert (await post.store.exchange(number, [], [], {QUEUE: ClaimLimit(3, 10)})).claimed == ()
            assert (await post.store.live_workers())[dead] == 0
            rescued = await post.store.rescue(dead, 0, number)
            assert dead not in await post.store.live_workers()
            messages = [message for message in rescued if isinstance(message, ClaimedMessage)]
            assert {message.id for message in messages} == {receipt.id for receipt in receipts}
            assert [message.begun for message in messages] == [True, False, False]
            assert {message.crashes for message in messages} == {1}
    await proxy.stop()


async def test_a_search_of_a_tenant_has_a_bound_and_the_operators_has_none(
    make_outbox: MakeOutbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query, "MOST_LOOKED_AT", 20)
    async with make_outbox() as post:
        await post.outbox.add([email() for _ in range(30)], tenant="key_1")
        with pytest.raises(SearchTooBroad, match="since and until"):
            await post.outbox.list(MessageFilter(tenant="key_1", to="nobody"))
        assert await post.outbox.list(MessageFilter(to="nobody")) == []
        assert len(await post.outbox.list(MessageFilter(tenant="key_1", limit=5))) == 5
        assert await post.outbox.list(MessageFilter(tenant="key_1", to="nobody", since=post.clock() + 1)) == []


async def test_compacting_keeps_all_messages_and_gives_back_what_removed_ones_took(make_outbox: MakeOutbox) -> None:
    async with make_outbox() as post:
        await post.outbox.add([email(text="x" * 2000) for _ in range(300)])
        await post.work()
        await post.outbox.purge(MessageFilter())
        kept = await post.add(email())
        before, after = await post.outbox.compact()
        assert after < before
        assert (await post.outbox.get(kept.id)).receipt.id == kept.id


def engine_store(post: Process) -> PostgresStore:
    assert isinstance(post.store, PostgresStore)
    return post.store


async def test_connections_that_the_server_ends_are_replaced(make_outbox: MakeOutbox) -> None:
    async with make_outbox() as post:
        receipt = await post.add(email())
        look = "SELECT pg_backend_pid() FROM pg_sleep(0.2)"  # long enough that each is asked on one of its own
        store = engine_store(post)
        numbers = await asyncio.gather(*(store.read(lambda c: c.fetchval(look)) for _ in range(4)))
        operator = await asyncpg.connect(server())
        await operator.execute("SELECT pg_terminate_backend(pid, 60000) FROM unnest($1::integer[]) pid", numbers)
        await operator.close()
        await post.work()
        assert (await post.receipt(receipt)).status is Status.SENT
