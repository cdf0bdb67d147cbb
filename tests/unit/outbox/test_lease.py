"""A worker sends only while its messages are surely its own, and is given up only when it surely shows no life."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from types import ModuleType
from typing import Any

import pytest
from engines.process import MakeOutbox, Process

from postroom import Accepted, Email, Sms, Status
from postroom.errors import OutboxError
from postroom.outbox import lease as lease_module
from postroom.outbox.lease import Lease
from postroom.outbox.records import NEVER, ClaimedMessage, Progress
from postroom.plugin.confirmation import Withdrawn

SECONDS = 10.0
MESSAGE = ClaimedMessage(
    seq=5,
    id="m",
    status=Status.SENDING,
    queue="a/email",
    route="r",
    message=Email(to="ann@example.org", text="x"),
    attempts=2,
    crashes=0,
    expires_at=NEVER,
    begun_at=0.0,
    created_at=datetime.fromtimestamp(0.0, UTC),
    single_round=False,
    size=1,
    progress=Progress(),
    receipt=None,
)


class Time:
    """Monotonic seconds in the test's hands."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Workers:
    """The workers' list of a storage: `gone` are those the others gave up, `blocks` seconds a write takes."""

    def __init__(self, time: Time) -> None:
        self.time = time
        self.numbers = 0
        self.heartbeats = 0
        self.gone: set[int] = set()
        self.blocks = 0.0
        self.broken = False
        self.begun: list[tuple[int, int, int]] = []

    async def register(self, name: str) -> int:
        self.numbers += 1
        return self.numbers

    async def heartbeat(self, worker: int) -> bool:
        self.time.now += self.blocks
        if self.broken:
            raise OutboxError("locked")
        self.heartbeats += 1
        return worker not in self.gone

    async def sign_off(self, worker: int) -> None: ...

    async def live_workers(self) -> dict[int, int]:
        return {}

    async def busy_workers(self) -> set[int]:
        return set()

    async def begin(self, worker: int, seq: int, attempts: int) -> bool:
        if worker in self.gone:
            return False
        self.begun.append((worker, seq, attempts))
        return True

    async def rescue(self, dead: int, heartbeats: int, worker: int) -> list[Any]:
        return []


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def workers(time: Time) -> Workers:
    return Workers(time)


@pytest.fixture
async def lease(workers: Workers, time: Time) -> Lease:
    lease = Lease(workers, SECONDS, clock=time)
    await lease.register()
    return lease


async def test_a_lease_that_surely_holds_is_confirmed_without_asking(
    lease: Lease, workers: Workers, time: Time
) -> None:
    confirm = lease.confirmation(MESSAGE)
    time.now += SECONDS * 0.7
    await confirm()
    assert workers.heartbeats == 0
    assert workers.begun == [(lease.worker, MESSAGE.seq, MESSAGE.attempts)]


async def test_after_a_jump_the_lease_is_renewed_before_anything_is_handed_over(
    lease: Lease, workers: Workers, time: Time
) -> None:
    confirm = lease.confirmation(MESSAGE)
    time.now += SECONDS * 6
    await confirm()
    assert workers.heartbeats == 1


async def test_what_a_worker_claimed_before_it_was_given_up_is_withdrawn_for_good(
    lease: Lease, workers: Workers, time: Time
) -> None:
    before = lease.confirmation(MESSAGE)
    time.now += SECONDS * 6
    workers.gone.add(lease.worker)
    with pytest.raises(Withdrawn):
        await before()
    with pytest.raises(Withdrawn):  # though it is a registered worker again, under another number
        await before()
    await lease.confirmation(MESSAGE)()


async def test_what_the_storage_does_not_let_begin_is_withdrawn_and_the_worker_goes_on_as_another(
    lease: Lease, workers: Workers
) -> None:
    """Others took it over, though by its own clock that cannot be."""
    before, given_up = lease.confirmation(MESSAGE), lease.worker
    workers.gone.add(given_up)
    with pytest.raises(Withdrawn):
        await before()
    assert lease.worker != given_up
    await lease.confirmation(MESSAGE)()
    assert workers.begun == [(lease.worker, MESSAGE.seq, MESSAGE.attempts)]


async def test_what_cannot_be_confirmed_is_withdrawn(lease: Lease, workers: Workers, time: Time) -> None:
    confirm = lease.confirmation(MESSAGE)
    time.now += SECONDS
    workers.broken = True
    with pytest.raises(Withdrawn):
        await confirm()


async def test_a_heartbeat_that_took_long_counts_from_its_beginning(lease: Lease, workers: Workers, time: Time) -> None:
    workers.blocks = SECONDS * 0.9
    await lease.renew()
    assert not lease.is_fresh
    workers.blocks = 0.0
    await lease.confirmation(MESSAGE)()
    assert workers.heartbeats == 2


async def test_silence_does_not_count_while_nobody_could_write(lease: Lease, workers: Workers, time: Time) -> None:
    assert lease.unblocked_at == 100.0
    workers.blocks = SECONDS * 1.5
    await lease.renew()
    assert lease.unblocked_at == time.now


def email() -> Email:
    return Email(to="ann@example.org", text="x")


async def heartbeats_of(post: Process) -> int:
    return sum((await post.store.live_workers()).values())


async def test_a_worker_shows_life_until_its_last_message_is_settled(
    make_outbox: MakeOutbox, stage: ModuleType
) -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def act(message: Email) -> Accepted:
        reached.set()
        await go_on.wait()
        return Accepted(provider_message_id=message.id)

    async with make_outbox(stage.Script(act), outbox={"lease": 0.2, "grace": 30}) as post:
        accepted = await post.add(email())
        stop = asyncio.Event()
        working = asyncio.create_task(post.outbox.work(stop=stop))
        await reached.wait()
        stop.set()
        before = await heartbeats_of(post)
        while await heartbeats_of(post) < before + 3:
            await asyncio.sleep(0.01)
        go_on.set()
        await working
        assert (await post.receipt(accepted)).status is Status.SENT
        assert await post.store.live_workers() == {}


async def test_a_frozen_worker_that_wakes_sends_nothing_that_others_have_taken_over(
    make_outbox: MakeOutbox, stage: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One message is being sent when the process freezes; of those that wait behind it, none may go out."""
    time = Time()
    monkeypatch.setattr(lease_module, "boot_seconds", time)
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def act(message: Any) -> Accepted:
        reached.set()
        await go_on.wait()
        return Accepted(provider_message_id="1")

    script = stage.Script(act)
    async with make_outbox(script, concurrency=1, on_unknown="hold") as post:
        warm = await post.add(Sms(to="+442079460950", body="x"))
        go_on.set()
        await post.work()
        assert (await post.receipt(warm)).status is Status.SENT
        reached.clear()
        go_on.clear()
        # To two numbers, so that one account with one slot has a second part waiting behind the first.
        accepted = await post.add(Sms(to=["+442079460951", "+442079460952"], body="x"))
        stop = asyncio.Event()
        working = asyncio.create_task(post.outbox.work(stop=stop))
        await reached.wait()
        [(frozen, heartbeats)] = (await post.store.live_workers()).items()
        other = await post.store.register("another worker")
        assert await post.store.rescue(frozen, heartbeats, other)
        calls = len(script.calls)
        time.now += 1000
        stop.set()
        go_on.set()
        await working
    assert len(script.calls) == calls
    assert accepted.id


async def test_a_worker_that_signed_off_is_not_entered_again_by_its_own_heartbeat() -> None:
    workers = Workers(Time())
    lease = Lease(workers, SECONDS, clock=workers.time)
    await lease.register()
    await lease.sign_off()
    workers.gone = {lease.worker}
    await lease.renew()
    assert (workers.numbers, workers.heartbeats) == (1, 0)
