"""A worker that was taken for dead and answers after all: only that a message was sent is news, and only in time."""

from __future__ import annotations

import pytest
from engines.process import MakeOutbox, Process

from postroom import Email, Receipt, Status
from postroom.outbox.records import ClaimedMessage, ClaimLimit, Settlement
from postroom.receipts import Channel

ONE = {"a0/email": ClaimLimit(1, 10)}


async def claimed(post: Process, worker: int) -> ClaimedMessage:
    [message] = (await post.store.exchange(worker, [], [], ONE)).claimed
    assert isinstance(message, ClaimedMessage)
    return message


async def rescued(post: Process, dead: int, heir: int) -> ClaimedMessage:
    [message] = await post.store.rescue(dead, 0, heir)
    assert isinstance(message, ClaimedMessage)
    return message


def result(message: ClaimedMessage, status: Status, *, due_at: float = 9e15) -> Settlement:
    receipt = Receipt(id=message.id, channel=Channel.EMAIL, status=status, account="a0")
    return Settlement(message.seq, message.attempts, status, receipt, message.queue, message.route, due_at)


async def kept(post: Process, worker: int, settlement: Settlement) -> bool:
    [was_kept] = (await post.store.exchange(worker, [settlement], [], {})).kept
    return bool(was_kept)


@pytest.fixture
async def post(make_outbox: MakeOutbox) -> Process:
    return make_outbox()


@pytest.mark.parametrize("now", [Status.IN_DOUBT, Status.RETRYING])
async def test_that_it_was_sent_after_all_is_news(post: Process, now: Status) -> None:
    async with post:
        receipt = await post.add(Email(to="ann@example.org", text="x"))
        frozen, heir = await post.store.register("frozen"), await post.store.register("heir")
        message = await claimed(post, frozen)
        taken = await rescued(post, frozen, heir)
        assert await kept(post, heir, result(taken, now))
        assert await kept(post, frozen, result(message, Status.SENT))
        assert (await post.receipt(receipt)).status is Status.SENT


@pytest.mark.parametrize("late", [Status.RETRYING, Status.FAILED, Status.IN_DOUBT, Status.SUPPRESSED, Status.QUEUED])
async def test_anything_else_is_none(post: Process, late: Status) -> None:
    async with post:
        receipt = await post.add(Email(to="ann@example.org", text="x"))
        frozen, heir = await post.store.register("frozen"), await post.store.register("heir")
        message = await claimed(post, frozen)
        await kept(post, heir, result(await rescued(post, frozen, heir), Status.IN_DOUBT))
        assert not await kept(post, frozen, result(message, late))
        assert (await post.receipt(receipt)).status is Status.IN_DOUBT


async def test_nor_is_anything_while_another_worker_has_it_in_hand(post: Process) -> None:
    async with post:
        receipt = await post.add(Email(to="ann@example.org", text="x"))
        frozen, heir = await post.store.register("frozen"), await post.store.register("heir")
        message = await claimed(post, frozen)
        await rescued(post, frozen, heir)
        assert not await kept(post, frozen, result(message, Status.SENT))
        assert (await post.receipt(receipt)).status is Status.SENDING


async def test_nor_once_it_was_handed_over_again(post: Process) -> None:
    async with post:
        receipt = await post.add(Email(to="ann@example.org", text="x"))
        frozen, heir = await post.store.register("frozen"), await post.store.register("heir")
        message = await claimed(post, frozen)
        taken = await rescued(post, frozen, heir)
        await kept(post, heir, result(taken, Status.RETRYING, due_at=0.0))
        again = await claimed(post, heir)
        await kept(post, heir, result(again, Status.RETRYING))
        assert not await kept(post, frozen, result(message, Status.SENT))
        assert (await post.receipt(receipt)).status is Status.RETRYING


async def test_nor_when_a_person_has_settled_it(post: Process) -> None:
    async with post:
        receipt = await post.add(Email(to="ann@example.org", text="x"))
        frozen, heir = await post.store.register("frozen"), await post.store.register("heir")
        message = await claimed(post, frozen)
        await kept(post, heir, result(await rescued(post, frozen, heir), Status.IN_DOUBT))
        await post.outbox.resolve(receipt.id, "failed")
        assert not await kept(post, frozen, result(message, Status.SENT))
        assert (await post.receipt(receipt)).status is Status.FAILED
