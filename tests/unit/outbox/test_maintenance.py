"""What a worker does beside sending, and that nothing is dropped when it ends in the middle of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from engines.holding import Holding
from engines.process import MakeOutbox, Process

from postroom import Accepted, AuthenticationFailed, Email, Outcome, Status
from postroom.outbox import lease as lease_module
from postroom.outbox.records import ClaimedMessage, ClaimLimit

pytestmark = pytest.mark.slow

LEASE = 0.2
"""Seconds; a worker that shows no life for so long is dead."""


def email() -> Email:
    return Email(to="ann@example.org", subject="hello", text="hello")


async def claimed_by_the_dead(post: Process, *, begun: bool = True) -> ClaimedMessage:
    """Return a message that a worker claimed which shows no more life."""
    dead = await post.store.register("dead")
    [message] = (await post.store.exchange(dead, [], [], {"a0/email": ClaimLimit(1, 1)})).claimed
    assert isinstance(message, ClaimedMessage)
    if begun:
        assert await post.store.begin(dead, message.seq, message.attempts)
    return message


async def until(post: Process, status: Status) -> None:
    async with asyncio.timeout(60):
        while status not in (await post.outbox.stats()).states:
            await asyncio.sleep(0.005)


async def test_what_a_dead_worker_had_not_begun_is_sent_once(make_outbox: MakeOutbox, stage: ModuleType) -> None:
    script = stage.Script()
    async with make_outbox(script, outbox={"lease": LEASE}) as post:
        waiting = await post.add(email())
        await claimed_by_the_dead(post, begun=False)
        stop = asyncio.Event()
        working = asyncio.create_task(post.outbox.work(stop=stop))
        await until(post, Status.SENT)
        stop.set()
        await working
        assert len((await post.receipt(waiting)).attempts) == 1
        assert (await post.outbox.stats()).states == {Status.SENT: 1}
    assert len(script.calls) == 1


async def test_what_a_dead_worker_had_begun_is_in_doubt_and_another_worker_goes_on(
    make_outbox: MakeOutbox, stage: ModuleType
) -> None:
    script = stage.Script()
    async with make_outbox(script, outbox={"lease": LEASE}) as post:
        lost = await post.add(email())
        await claimed_by_the_dead(post)
        stop = asyncio.Event()
        working = asyncio.create_task(post.outbox.work(stop=stop))
        await until(post, Status.IN_DOUBT)
        stop.set()
        await working
        shown = await post.outbox.get(lost.id)
        assert (shown.receipt.status, shown.crashes) == (Status.IN_DOUBT, 1)
        [attempt] = shown.receipt.attempts
        assert (attempt.outcome, attempt.detail) == (Outcome.UNKNOWN, "the worker died")
        assert (await post.outbox.stats()).workers == 0
    assert script.calls == []


async def test_a_worker_that_shows_life_keeps_what_it_has(
    make_outbox: MakeOutbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed = 0.0
    monkeypatch.setattr(lease_module, "boot_seconds", lambda: passed)  # none passes while the machine is busy
    async with make_outbox(outbox={"lease": LEASE}) as post:
        await post.add(email())
        living = await post.store.register("living")
        await post.store.exchange(living, [], [], {"a0/email": ClaimLimit(1, 1)})
        stop = asyncio.Event()
        working = asyncio.create_task(post.outbox.work(stop=stop))
        for _ in range(30):
            assert await post.store.heartbeat(living)
            await asyncio.sleep(LEASE / 10)
            passed += LEASE / 10
        stop.set()
        await working
        assert (await post.outbox.stats()).states == {Status.SENDING: 1}


@pytest.mark.parametrize("way", ["stopped", "cancelled"])
async def test_messages_that_were_rescued_while_the_worker_ends_are_settled_all_the_same(
    make_outbox: MakeOutbox, way: str
) -> None:
    async with make_outbox(outbox={"lease": LEASE}) as post:
        lost = await post.add(email())
        await claimed_by_the_dead(post)
        post.outbox.store = holding = Holding(post.store, "rescue")
        stop = asyncio.Event()
        working = asyncio.create_task(post.outbox.work(stop=stop))
        async with asyncio.timeout(60):
            await holding.reached.wait()
        if way == "stopped":
            stop.set()
        else:
            working.cancel()
        await asyncio.wait([working], timeout=0.05)
        assert not working.done(), "it left with messages in its hands"
        holding.go_on.set()
        await asyncio.wait([working])
        assert (await post.receipt(lost)).status is Status.IN_DOUBT
        assert (await post.outbox.stats()).workers == 0


async def test_a_worker_that_was_taken_for_dead_goes_on_as_a_new_one(
    make_outbox: MakeOutbox, stage: ModuleType
) -> None:
    async with make_outbox(stage.Script(), outbox={"lease": LEASE}) as post:
        stop = asyncio.Event()
        working = asyncio.create_task(post.outbox.work(stop=stop))
        async with asyncio.timeout(60):
            while not (alive := await post.store.live_workers()):
                await asyncio.sleep(0.001)
            heir = await post.store.register("heir")
            [(number, heartbeats)] = alive.items()
            while number in await post.store.live_workers():
                alive = await post.store.live_workers()
                await post.store.rescue(number, alive.get(number, heartbeats), heir)
            await post.store.sign_off(heir)
            sent = await post.add(email())
            while (await post.receipt(sent)).status is not Status.SENT:
                await asyncio.sleep(0.005)
        stop.set()
        await working
        assert (await post.outbox.stats()).workers == 0


async def test_messages_of_an_account_in_trouble_go_another_way_of_their_route_only(
    make_outbox: MakeOutbox, stage: ModuleType
) -> None:
    async def refused(message: Email) -> None:
        raise AuthenticationFailed("a0: wrong password")

    second = stage.Script()
    async with make_outbox(stage.Script(refused), second, concurrency=1) as post:
        along = [await post.add(email()) for _ in range(5)]
        alone = await post.add(Email(to="ann@example.org", text="x", provider="a0"))
        await post.work()
        assert {(await post.receipt(receipt)).account for receipt in along} == {"a1"}
        assert (await post.receipt(alone)).status in {Status.QUEUED, Status.RETRYING}
    assert len(second.calls) == 5


async def test_until_empty_waits_out_the_lease_of_a_killed_worker_and_settles_what_it_held(
    make_outbox: MakeOutbox, stage: ModuleType
) -> None:
    async with make_outbox(stage.Script(), on_unknown="retry", outbox={"lease": LEASE, "retry_first": 0.01}) as post:
        lost = await post.add(email())
        await claimed_by_the_dead(post)
        await post.work()
        assert (await post.receipt(lost)).status in {Status.RETRYING, Status.SENT}
        assert (await post.outbox.stats()).workers == 0


async def test_until_empty_leaves_to_a_living_worker_what_that_has_in_hand(make_outbox: MakeOutbox) -> None:
    async with make_outbox(outbox={"lease": 30}) as post:
        held = await post.add(email())
        living = await post.store.register("living")
        await post.store.exchange(living, [], [], {"a0/email": ClaimLimit(1, 1)})

        async def live() -> None:
            while True:
                await post.store.heartbeat(living)
                await asyncio.sleep(0.02)

        alive = asyncio.create_task(live())
        await post.work()
        alive.cancel()
        assert (await post.receipt(held)).status is Status.SENDING


async def test_the_workers_that_have_messages_in_hand_are_known(make_outbox: MakeOutbox) -> None:
    async with make_outbox() as post:
        await post.add(email())
        idle, busy = await post.store.register("idle"), await post.store.register("busy")
        assert await post.store.busy_workers() == set()
        await post.store.exchange(busy, [], [], {"a0/email": ClaimLimit(1, 1)})
        assert await post.store.busy_workers() == {busy}
        assert idle in await post.store.live_workers()


async def test_what_waits_behind_hand_overs_without_an_answer_goes_another_way(
    make_outbox: MakeOutbox, stage: ModuleType
) -> None:
    """A provider may take ten minutes over its last reply; only what it was given waits for that."""
    answered = asyncio.Event()

    async def hang(message: Email) -> Accepted:
        await answered.wait()
        accepted: Accepted = await stage.accept(message)
        return accepted

    first, second = stage.Script(hang), stage.Script()
    async with make_outbox(first, second, concurrency=6, outbox={"lease": LEASE}) as post:
        for _ in range(20):
            await post.add(email())
        stop = asyncio.Event()
        working = asyncio.create_task(post.outbox.work(stop=stop))
        async with asyncio.timeout(60):
            while len(second.messages) + len(first.calls) < 20:
                post.clock.now += 1
                await asyncio.sleep(0.005)
        assert len(first.calls) <= 6
        answered.set()
        await until_all(post, Status.SENT, 20)
        stop.set()
        await working
    assert len(first.messages) + len(second.messages) == 20


async def until_all(post: Process, status: Status, count: int) -> None:
    async with asyncio.timeout(60):
        while (await post.outbox.stats()).states != {status: count}:
            await asyncio.sleep(0.005)


class Asked(Holding):
    """Says when it was asked who has messages in hand, with the answer to `rescue` still on its way."""

    def __init__(self, store: Any) -> None:
        super().__init__(store, "rescue")
        self.asked = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        found = super().__getattr__(name)
        return self._noted(found) if name == "busy_workers" else found

    def _noted(self, method: Callable[..., Any]) -> Callable[..., Any]:
        async def noted() -> Any:
            answer = await method()
            if self.reached.is_set():
                self.asked.set()
            return answer

        return noted


async def test_a_run_until_empty_does_what_it_has_just_taken_over(make_outbox: MakeOutbox, stage: ModuleType) -> None:
    async with make_outbox(outbox={"lease": 0.3}) as post:
        left = await post.add(email())
        dead = await post.store.register("dead")
        await post.store.exchange(dead, [], [], {"a0/email": ClaimLimit(1, 1)})
        post.outbox.store = asked = Asked(post.store)
        work = asyncio.create_task(post.work())
        await asked.asked.wait()
        asked.go_on.set()
        await work
        assert (await post.receipt(left)).status is Status.SENT
