"""What an outbox holds, whatever engine keeps it: everything accepted, once, no longer than it must."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from types import ModuleType
from typing import Any

import pytest
from engines.process import MakeOutbox, Process

from postroom import (
    Attachment,
    Email,
    Event,
    EventType,
    IdempotencyConflict,
    OutboxError,
    Receipt,
    Sms,
    StateConflict,
    Status,
)
from postroom.outbox.records import EnqueueResult
from postroom.outbox.views import MessageFilter
from postroom.receipts import Channel

CANARY = "canary-0123456789abcdef"


def email(**more: Any) -> Email:
    return Email(**{"to": "ann@example.org", "subject": "hello", "text": "hello", **more})


async def test_what_was_accepted_is_there_for_another_process(make_outbox: MakeOutbox) -> None:
    async with make_outbox() as one, make_outbox() as other:
        accepted = await one.add(email())
        assert [(line.id, line.status) for line in await other.outbox.list()] == [(accepted.id, "queued")]


async def test_credentials_of_a_message_reach_the_transport_and_are_never_shown(
    make_outbox: MakeOutbox, stage: ModuleType
) -> None:
    script = stage.Script()
    async with make_outbox(script) as post:
        accepted = await post.add(email(options={"token": CANARY}))
        assert CANARY not in repr(await post.outbox.get(accepted.id))
        await post.work()
        with pytest.raises(OutboxError, match="it must be"):
            await post.outbox.retry(accepted.id)
    assert script.settings_seen[0].token.get_secret_value() == CANARY


async def test_a_message_whose_credentials_are_gone_cannot_be_sent_again(make_outbox: MakeOutbox) -> None:
    async with make_outbox() as post:
        accepted = await post.add(email(options={"token": CANARY}))
        await post.outbox.cancel(accepted.id)
        with pytest.raises(OutboxError, match="credentials of its own, which were removed when it was settled"):
            await post.outbox.retry(accepted.id)


async def test_attachments_arrive_whole(make_outbox: MakeOutbox, stage: ModuleType) -> None:
    script = stage.Script()
    file = Attachment(filename="a.bin", content=bytes(range(256)) * 100)
    async with make_outbox(script) as post:
        await post.add(email(attachments=[file]))
        await post.add(email(attachments=[file, Attachment(filename="b.bin", content=b"b", inline=True)]))
        await post.work()
    assert [[a.content for a in message.attachments] for message in script.messages] == [
        [file.content],
        [file.content, b"b"],
    ]
    assert script.messages[1].attachments[1].inline


async def test_bodies_and_keys_go_after_their_retention_and_the_receipt_stays(make_outbox: MakeOutbox) -> None:
    async with make_outbox(outbox={"retention": "1d"}) as post:
        accepted = await post.add(email(idempotency_key="k"))
        await post.work()
        await post.work(after=86_399)
        assert (await post.outbox.get(accepted.id)).message is not None
        await post.work(after=2)
        shown = await post.outbox.get(accepted.id)
        assert shown.message is None
        assert shown.receipt.status is Status.SENT
        [line] = await post.outbox.list()
        assert line.to == ("ann@example.org",)
        assert (await post.add(email(idempotency_key="k", text="other"))).id != accepted.id


async def test_a_message_whose_text_is_gone_cannot_be_sent_again(make_outbox: MakeOutbox) -> None:
    async with make_outbox(outbox={"retention": "1d"}) as post:
        accepted = await post.add(email())
        await post.outbox.cancel(accepted.id)
        await post.work(after=90_000)
        with pytest.raises(OutboxError, match="settled long ago and its text removed"):
            await post.outbox.retry(accepted.id)


async def test_purging_removes_settled_messages_whole_and_no_others(make_outbox: MakeOutbox) -> None:
    async with make_outbox() as post:
        await post.outbox.add([email() for _ in range(3)])
        await post.work()
        waiting = await post.add(email())
        assert await post.outbox.purge(MessageFilter()) == 3
        assert [line.id for line in await post.outbox.list()] == [waiting.id]


class TestIdempotency:
    async def test_a_key_is_used_once_its_message_is_accepted_and_for_its_tenant_alone(
        self, make_outbox: MakeOutbox
    ) -> None:
        one, other, without = email(idempotency_key="k"), email(idempotency_key="other"), email()
        async with make_outbox() as post:
            assert await post.outbox.used_keys([one, other, without]) == frozenset()
            await post.add(one)
            assert await post.outbox.used_keys([one, other, without]) == {"k"}
            assert await post.outbox.used_keys([one], tenant="another") == frozenset()
            await post.outbox.purge(MessageFilter())
            await post.work()
            await post.outbox.purge(MessageFilter())
            assert await post.outbox.used_keys([one]) == frozenset()

    async def test_the_same_key_and_message_give_the_first_receipt(
        self, make_outbox: MakeOutbox, stage: ModuleType
    ) -> None:
        script = stage.Script()
        async with make_outbox(script) as post:
            first = await post.add(email(idempotency_key="k"))
            assert (await post.add(email(idempotency_key="k"))).id == first.id
            await post.work()
            again = await post.add(email(idempotency_key="k"))
            await post.work()
        assert (again.id, again.status) == (first.id, Status.SENT)
        assert len(script.calls) == 1

    @pytest.mark.parametrize(
        "other",
        [
            {"text": "other"},
            {"to": "bob@example.org"},
            {"options": {"token": "t"}},
            {"attachments": [Attachment(filename="a", content=b"a")]},
            {"provider": "a0"},
            {"required": True},
            {"message_id": "<mine@example.org>"},
        ],
    )
    async def test_the_same_key_with_another_message_is_refused(
        self, make_outbox: MakeOutbox, other: dict[str, Any]
    ) -> None:
        async with make_outbox() as post:
            first = await post.add(email(idempotency_key="k"))
            with pytest.raises(IdempotencyConflict, match=f"'k' was used for another message .{first.id}"):
                await post.add(email(idempotency_key="k", **other))
            assert len(await post.outbox.list()) == 1

    async def test_the_first_writer_wins_among_many(self, make_outbox: MakeOutbox) -> None:
        async with make_outbox() as post:
            receipts = await asyncio.gather(*(post.add(email(idempotency_key="k")) for _ in range(50)))
            assert len({receipt.id for receipt in receipts}) == 1
            assert len(await post.outbox.list()) == 1

    async def test_within_one_batch_too(self, make_outbox: MakeOutbox) -> None:
        async with make_outbox() as post:
            answers = await post.outbox.add([email(idempotency_key="k"), email(idempotency_key="k")])
            assert [isinstance(answer, EnqueueResult) and answer.replayed for answer in answers] == [False, True]

    async def test_tenants_have_keys_of_their_own(self, make_outbox: MakeOutbox) -> None:
        async with make_outbox() as post:
            one = await post.add(email(idempotency_key="k"), tenant="one")
            two = await post.add(email(idempotency_key="k", text="other"), tenant="two")
            assert one.id != two.id
            with pytest.raises(OutboxError, match="no message"):
                await post.outbox.get(one.id, tenant="two")

    async def test_an_id_of_the_callers_own_counts_once(self, make_outbox: MakeOutbox) -> None:
        async with make_outbox() as post:
            await post.add(email(id="mine"))
            with pytest.raises(OutboxError, match="there is a message mine already"):
                await post.add(email(id="mine"))


async def test_it_can_be_closed_and_used_again(make_outbox: MakeOutbox) -> None:
    async with make_outbox() as post:
        await post.add(email())
        await post.store.close()
        await post.add(email())
        assert len(await post.outbox.list()) == 2


class TestListing:
    async def test_the_newest_first_by_pages(self, make_outbox: MakeOutbox) -> None:
        async with make_outbox() as post:
            await post.outbox.add([email(subject=str(number)) for number in range(5)])
            page = await post.outbox.list(MessageFilter(limit=2))
            assert [line.subject for line in page] == ["4", "3"]
            page = await post.outbox.list(MessageFilter(limit=2, before_seq=page[-1].seq))
            assert [line.subject for line in page] == ["2", "1"]

    @pytest.mark.parametrize(
        ("choice", "found"),
        [
            (MessageFilter(status=(Status.CANCELLED,)), {"cancelled"}),
            (MessageFilter(status=(Status.QUEUED, Status.SCHEDULED)), {"mail", "text", "later"}),
            (MessageFilter(channel=Channel.SMS), {"text"}),
            (MessageFilter(account="a1"), {"text"}),
            (MessageFilter(account="a"), set()),
            (MessageFilter(to="bob"), {"later"}),
            (MessageFilter(tenant="t"), {"mail"}),
            (MessageFilter(since=1_800_000_010.0), {"later"}),
            (MessageFilter(until=1_800_000_010.0), {"mail", "text", "cancelled"}),
        ],
    )
    async def test_by_what_is_asked_for(
        self, make_outbox: MakeOutbox, stage: ModuleType, choice: MessageFilter, found: set[str]
    ) -> None:
        async with make_outbox(stage.Script(), stage.Script()) as post:
            await post.add(email(subject="mail"), tenant="t")
            await post.add(Sms(to="+442079460958", body="text", provider="a1"))
            await post.outbox.cancel((await post.add(email(subject="cancelled"))).id)
            post.clock.now += 10
            later = datetime.fromtimestamp(post.clock.now + 100, UTC)
            await post.add(email(subject="later", to="bob@example.org", send_at=later))
            assert {line.subject for line in await post.outbox.list(choice)} == found


class TestReports:
    """What providers report later (`Outbox.record`)."""

    def event(self, type_: EventType, **more: Any) -> Event:
        return Event(
            **{
                "type": type_,
                "channel": "email",
                "provider": "stage",
                "occurred_at": datetime(2027, 1, 1, tzinfo=UTC),
                **more,
            }
        )

    async def sent(self, post: Process) -> Receipt:
        accepted = await post.add(email())
        await post.work()
        return await post.receipt(accepted)

    async def test_a_report_is_kept_once_and_moves_its_message(self, make_outbox: MakeOutbox) -> None:
        async with make_outbox() as post:
            receipt = await self.sent(post)
            event = self.event(EventType.DELIVERED, message_id=receipt.id)
            told = await post.outbox.record(event)
            assert isinstance(told, Receipt)
            assert told.status is Status.DELIVERED
            assert await post.outbox.record(event) is None
            assert (await post.outbox.get(receipt.id)).events == (event,)

    async def test_a_report_finds_its_message_by_the_providers_id(self, make_outbox: MakeOutbox) -> None:
        async with make_outbox() as post:
            receipt = await self.sent(post)
            event = self.event(EventType.BOUNCED, provider_message_id=receipt.provider_message_id)
            moved = await post.outbox.record(event)
            assert moved is not None
            assert moved.status is Status.BOUNCED

    @pytest.mark.parametrize("other", [{"account": "a9"}, {"channel": "sms"}], ids=["account", "channel"])
    async def test_a_report_of_another_account_or_channel_moves_nothing(
        self, make_outbox: MakeOutbox, other: dict[str, Any]
    ) -> None:
        async with make_outbox() as post:
            receipt = await self.sent(post)
            for name in ({"message_id": receipt.id}, {"provider_message_id": receipt.provider_message_id}):
                assert await post.outbox.record(self.event(EventType.BOUNCED, **name, **other)) is None
            assert (await post.receipt(receipt)).status is Status.SENT
            told = self.event(EventType.DELIVERED, message_id=receipt.id, account="a0")
            moved = await post.outbox.record(told)
            assert moved is not None
            assert moved.status is Status.DELIVERED

    async def test_a_late_report_does_not_move_a_message_back(self, make_outbox: MakeOutbox) -> None:
        async with make_outbox() as post:
            receipt = await self.sent(post)
            await post.outbox.record(self.event(EventType.BOUNCED, message_id=receipt.id))
            late = await post.outbox.record(self.event(EventType.DELIVERED, message_id=receipt.id))
            assert late is not None
            assert late.status is Status.BOUNCED


async def test_a_message_whose_time_is_over_cannot_be_sent_again(make_outbox: MakeOutbox, stage: ModuleType) -> None:
    script = stage.Script()
    async with make_outbox(script, outbox={"expires_after": 60}) as post:
        accepted = await post.add(email())
        await post.outbox.cancel(accepted.id)
        assert (await post.outbox.retry(accepted.id)).status is Status.QUEUED
        await post.work(after=61)
        assert (await post.receipt(accepted)).status is Status.EXPIRED
        with pytest.raises(StateConflict, match="its time is over; send it as a new message"):
            await post.outbox.retry(accepted.id)
        assert (await post.receipt(accepted)).status is Status.EXPIRED
    assert script.calls == []
