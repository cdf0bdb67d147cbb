"""The worker's loop: what it starts, and what it does with a storage or a list that fails."""

from __future__ import annotations

import asyncio
from types import ModuleType
from typing import Any

import pytest
from engines.holding import Failing, Holding, Unhurried
from engines.process import MakeOutbox

from postroom import AuthenticationFailed, Email, OutboxError, Outcome, ProviderUnavailable, Sms, Status
from postroom.outbox import worker as worker_module
from postroom.outbox.worker import Worker
from postroom.receipts import Accepted


def email() -> Email:
    return Email(to="ann@example.org", subject="hello", text="hello")


async def test_a_result_that_could_not_be_written_is_written_later_and_nothing_is_sent_twice(
    make_outbox: MakeOutbox, stage: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "AFTER_TROUBLE", 0.0)
    script = stage.Script()
    async with make_outbox(script) as post:
        sent = await post.add(email())
        errors: list[Exception] = []

        async def act(message: Email) -> Accepted:
            errors.append(OutboxError("the disk is full"))
            post.outbox.store = post.store
            return Accepted(provider_message_id="1")

        script.act = act
        post.outbox.store = Failing(post.store, "exchange")
        post.outbox.store._errors = errors
        await post.work()
        assert (await post.receipt(sent)).status is Status.SENT
    assert len(script.calls) == 1
    assert errors == [], "the storage was never asked"


async def test_while_it_is_not_known_who_must_not_be_written_to_nothing_is_sent(
    make_outbox: MakeOutbox, stage: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "AFTER_TROUBLE", 0.0)
    script = stage.Script()
    async with make_outbox(script) as post:
        await post.add(email())
        calls_then: list[int] = []

        class Unsure(Failing):
            def __getattr__(self, name: str) -> Any:
                if name == "match_suppressions":
                    calls_then.append(len(script.calls))
                return super().__getattr__(name)

        post.outbox.suppressions._storage = Unsure(post.store, "match_suppressions", OutboxError("the disk is gone"))
        await post.work()
        assert (await post.outbox.stats()).states == {Status.SENT: 1}
    assert calls_then == [0, 0], "it was handed over before the list was read"
    assert len(script.calls) == 1


async def test_a_worker_that_is_cancelled_while_it_claims_hands_over_what_it_got(
    make_outbox: MakeOutbox, stage: ModuleType
) -> None:
    script = stage.Script()
    async with make_outbox(script) as post:
        sent = await post.add(email())
        post.outbox.store = holding = Holding(post.store, "exchange")
        working = asyncio.create_task(post.outbox.work())
        async with asyncio.timeout(60):
            await holding.reached.wait()
        working.cancel()
        await asyncio.wait([working], timeout=0.05)
        holding.go_on.set()
        await asyncio.wait([working])
        assert (await post.receipt(sent)).status is Status.SENT
        assert (await post.outbox.stats()).workers == 0


async def test_what_does_not_end_within_the_grace_is_in_doubt(make_outbox: MakeOutbox, stage: ModuleType) -> None:
    begun = asyncio.Event()

    async def act(message: Email) -> None:
        begun.set()
        await asyncio.Event().wait()

    async with make_outbox(stage.Script(act), outbox={"grace": 0.01}) as post:
        hung = await post.add(email())
        stop = asyncio.Event()
        working = asyncio.create_task(post.outbox.work(stop=stop))
        async with asyncio.timeout(60):
            await begun.wait()
            stop.set()
            await working
        assert (await post.receipt(hung)).status is Status.IN_DOUBT


class ReleasesWhileWriting:
    """A storage that says nothing of what was written; while results are, it lets a hand-over go on to its end."""

    def __init__(self, store: Any, go_on: asyncio.Event) -> None:
        self._store = store
        self._go_on = go_on
        self.worker: Worker | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def changed(self, since: int = -1) -> int:
        return await asyncio.Future()

    async def exchange(self, *arguments: Any) -> Any:
        answer = await self._store.exchange(*arguments)
        if arguments[1]:
            self._go_on.set()
            while self.worker and self.worker._in_flight.under_way:
                await asyncio.sleep(0)
        return answer


@pytest.mark.parametrize("refusals", [0, 1])
async def test_results_that_come_while_others_are_written_are_looked_behind_at_once(
    make_outbox: MakeOutbox, stage: ModuleType, monkeypatch: pytest.MonkeyPatch, refusals: int
) -> None:
    """Nothing else wakes the worker for its end, or for what is to be tried again by then."""
    go_on, left = asyncio.Event(), [ProviderUnavailable("busy")] * refusals

    async def act(message: Email) -> Accepted:
        if message.subject == "second":
            await go_on.wait()
            if left:
                raise left.pop()
        return Accepted(provider_message_id=message.id)

    script = stage.Script(act)
    async with make_outbox(script, concurrency=10, outbox={"retry_first": 1e-9}) as post:
        await post.add(email())
        await post.work()
        monkeypatch.setattr(worker_module, "IDLE_WAIT", 3600.0)
        for subject in ("first", "second"):
            await post.add(Email(to="ann@example.org", subject=subject, text="hello"))
        storage: Any = ReleasesWhileWriting(post.store, go_on)
        storage.worker = worker = Worker(storage, post.outbox._executor, until_empty=True)
        async with asyncio.timeout(60):
            await worker.run(asyncio.Event())
        assert (await post.outbox.stats()).states == {Status.SENT: 3}


async def test_two_processes_share_the_work_and_send_each_message_once(
    make_outbox: MakeOutbox, stage: ModuleType
) -> None:
    script = stage.Script()
    async with make_outbox(script, concurrency=4) as one, make_outbox(script, clock=one.clock) as other:
        await one.outbox.add([email() for _ in range(100)])
        await asyncio.gather(one.work(), other.work())
        assert (await other.outbox.stats()).states == {Status.SENT: 100}
    assert len({message.id for message in script.messages}) == len(script.calls) == 100


@pytest.mark.parametrize("concurrency", [1, 2])
async def test_a_hand_over_that_is_interrupted_halfway_serves_nobody_twice(
    make_outbox: MakeOutbox, stage: ModuleType, concurrency: int
) -> None:
    begun = asyncio.Event()

    async def hang(message: Sms) -> None:
        if len(script.recipients) == concurrency:
            begun.set()
        await asyncio.Event().wait()

    script = stage.Script(hang)
    numbers = ("+447700900001", "+447700900002")
    async with make_outbox(script, outbox={"grace": 0.01}, concurrency=concurrency) as post:
        hung = await post.add(Sms(to=numbers, body="x"))
        stop = asyncio.Event()
        working = asyncio.create_task(post.outbox.work(stop=stop))
        async with asyncio.timeout(60):
            await begun.wait()
            stop.set()
            await working
        handed_over = list(script.recipients)
        assert len(handed_over) == concurrency
        script.act = stage.accept
        await post.work(after=10_000)
        assert sorted(script.recipients) == sorted(numbers), "each of them once"
        receipt = await post.receipt(hung)
    outcomes = {result.address: result.outcome for result in receipt.recipients}
    assert {address for address, outcome in outcomes.items() if outcome is Outcome.UNKNOWN} == set(handed_over)


async def test_large_messages_of_a_slow_account_leave_room_for_those_of_others(
    make_outbox: MakeOutbox, stage: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "MOST_BYTES", 4_000)
    go_on = asyncio.Event()

    async def hang(message: Email) -> Accepted:
        await go_on.wait()
        return Accepted(provider_message_id=message.id)

    slow, fast = stage.Script(), stage.Script()
    async with make_outbox(slow, fast, concurrency=50) as post:
        for account in ("a0", "a1"):  # opened, so that nothing but their size holds messages back
            await post.add(Email(to="ann@example.org", text="x", provider=account))
        await post.work()
        slow.act = hang
        large = [Email(to="ann@example.org", text="x" * 900, provider="a0") for _ in range(20)]
        small = [Email(to="ann@example.org", text="x" * 900, provider="a1") for _ in range(20)]
        for message in [*large, *small]:
            await post.add(message)
        stop = asyncio.Event()
        working = asyncio.create_task(post.outbox.work(stop=stop))
        async with asyncio.timeout(60):
            while len(fast.calls) < 21:
                await asyncio.sleep(0.005)
        in_hand = len(slow.calls) - 1
        go_on.set()
        stop.set()
        await working
    assert 1 <= in_hand <= 3


async def test_a_message_larger_than_all_the_room_there_is_still_goes(
    make_outbox: MakeOutbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "MOST_BYTES", 100)
    async with make_outbox() as post:
        sent = await post.add(Email(to="ann@example.org", text="x" * 1_000))
        await post.work()
        assert (await post.receipt(sent)).status is Status.SENT


async def test_no_slot_is_given_away_before_it_is_known_what_the_last_hand_over_says_of_the_account(
    make_outbox: MakeOutbox, stage: ModuleType
) -> None:
    async def refused(message: Email) -> None:
        raise AuthenticationFailed("401")

    script = stage.Script(refused)
    async with make_outbox(script, concurrency=1) as post:
        await post.outbox.add([email() for _ in range(5)])
        post.outbox.store = Unhurried(post.store)
        await post.work()
    assert len(script.calls) == 1, "the account was paused, and tried again all the same"
