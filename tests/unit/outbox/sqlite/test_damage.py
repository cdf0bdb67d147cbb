"""Damage costs the message whose row it is in, and says so: everything else flows."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from types import ModuleType

import pytest
from engines.process import MakeOutbox, Process

from postroom import Accepted, Attachment, Channel, Email, Event, IdempotencyConflict, OutcomeUnknown, Receipt, Status
from postroom.outbox.records import ClaimLimit
from postroom.outbox.suppression import by_hand
from postroom.outcomes import SuppressionReason

pytestmark = pytest.mark.slow

OF_BODY = {
    "half": "UPDATE bodies SET body = substr(body, 1, length(body) / 2) WHERE seq = ?",
    "no text": "UPDATE bodies SET body = CAST(x'80ff00fe' AS TEXT) WHERE seq = ?",
    "a blob": "UPDATE bodies SET body = x'00010203' WHERE seq = ?",
    "other JSON": "UPDATE bodies SET body = '[]' WHERE seq = ?",
    "gone": "DELETE FROM bodies WHERE seq = ?",
    "without its attachment": "DELETE FROM message_files WHERE seq = ?",
}
OF_ROW = {
    "half a progress": "UPDATE messages SET progress = '{\"tried\": [' WHERE seq = ?",
    "a progress that is no text": "UPDATE messages SET progress = CAST(x'80ff' AS TEXT) WHERE seq = ?",
    "a blob for a progress": "UPDATE messages SET progress = x'00' WHERE seq = ?",
}
OF_RECEIPT = {
    "a receipt that is nonsense": "UPDATE messages SET receipt = 'x' WHERE seq = ?",
    "a receipt that is no text": "UPDATE messages SET receipt = CAST(x'80ff' AS TEXT) WHERE seq = ?",
    "a blob for a receipt": "UPDATE messages SET receipt = x'00' WHERE seq = ?",
}


def email() -> Email:
    return Email(to="ann@example.org", text="hello", attachments=[Attachment(filename="a", content=b"a")])


def damage(post: Process, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(post.store.path, isolation_level=None)) as connection:
        connection.execute(statement, values)


def number_of(post: Process, receipt: Receipt) -> int:
    with closing(sqlite3.connect(post.store.path)) as connection:
        [number] = connection.execute("SELECT seq FROM messages WHERE id = ?", (receipt.id,)).fetchone()
        assert isinstance(number, int)
        return number


def damage_page(path: Path, content: str) -> None:
    """Make a link to the next page lead nowhere, on a page that continues a value with this content."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        [size] = connection.execute("PRAGMA page_size").fetchone()
    file = bytearray(path.read_bytes())
    page = file.index(content.encode() * 50) // size + 1  # the next one holds nothing else
    file[page * size : page * size + 4] = b"\x7f\xff\xff\xff"
    path.write_bytes(file)


@pytest.mark.parametrize("credentials", [{}, {"token": "secret"}], ids=["no credentials", "own credentials"])
@pytest.mark.parametrize("where", ["text", "attachment"])
async def test_a_damaged_page_costs_its_own_message_and_no_neighbour(
    make_outbox: MakeOutbox, where: str, credentials: dict[str, str]
) -> None:
    def filled(content: str) -> Email:
        fields = {"text": content * 3000} if where == "text" else {}
        file = Attachment(filename="a", content=(content * 3000).encode() if where == "attachment" else b"a")
        return Email(**{"to": "ann@example.org", "text": "x", **fields}, attachments=[file], options=credentials)

    async with make_outbox(concurrency=50, outbox={"retention": "1d"}) as post:
        receipts = [await post.add(filled(f"<{number:08}>")) for number in range(12)]
    damage_page(post.store.path, f"<{5:08}>")
    async with make_outbox(concurrency=50, outbox={"retention": "1d"}) as post:
        await post.work()
        states = [(await post.receipt(receipt)).status for receipt in receipts]
        assert states == [Status.FAILED if number == 5 else Status.SENT for number in range(12)]
        [reason] = (await post.receipt(receipts[5])).recipients
        assert "cannot be read back" in (reason.detail or "")
        await post.work(after=86_401)
        assert [(await post.outbox.get(receipt.id)).message for receipt in receipts[6:]] == [None] * 6
        assert (await post.outbox.get(receipts[5].id)).message is None
        listed = await post.outbox.list()
        assert [line.id for line in reversed(listed)] == [receipt.id for receipt in receipts]


async def test_credentials_that_nobody_read_stay_with_a_damaged_message(make_outbox: MakeOutbox) -> None:
    async with make_outbox() as post:
        receipt = await post.add(Email(to="ann@example.org", text="x", options={"token": "secret"}))
        damage(post, "UPDATE bodies SET body = '[]' WHERE seq = ?", number_of(post, receipt))
        await post.work()
        assert (await post.receipt(receipt)).status is Status.FAILED
        with closing(sqlite3.connect(post.store.path)) as connection:
            assert connection.execute("SELECT options IS NOT NULL FROM bodies").fetchall() == [(1,)]


@pytest.mark.parametrize("statement", [*(OF_BODY | OF_ROW).values()], ids=[*OF_BODY, *OF_ROW])
async def test_what_cannot_be_read_is_set_aside_with_its_reason_and_its_neighbours_are_sent(
    make_outbox: MakeOutbox, statement: str
) -> None:
    async with make_outbox(concurrency=50) as post:
        before, bad, after = [[await post.add(email()) for _ in range(many)] for many in (5, 2, 5)]
        for receipt in bad:
            damage(post, statement, number_of(post, receipt))
        await post.work()
        assert [(await post.receipt(each)).status for each in before + after] == [Status.SENT] * 10
        for receipt in bad:
            told = await post.receipt(receipt)
            assert told.status is Status.FAILED
            assert "cannot be read back from the outbox" in (told.recipients[0].detail or "")
        listed = {line.id: line.error for line in await post.outbox.list()}
        assert len(listed) == 12
        assert {listed[receipt.id] for receipt in bad} == {"outbox_error"}


@pytest.mark.parametrize("statement", [*OF_RECEIPT.values()], ids=[*OF_RECEIPT])
async def test_a_message_whose_receipt_is_damaged_may_have_been_sent_so_it_is_in_doubt(
    make_outbox: MakeOutbox, statement: str
) -> None:
    async with make_outbox(concurrency=50) as post:
        bad, good = await post.add(email()), await post.add(email())
        damage(post, statement, number_of(post, bad))
        await post.work()
        assert (await post.receipt(bad)).status is Status.IN_DOUBT
        assert (await post.receipt(good)).status is Status.SENT


@pytest.mark.parametrize("statement", [*OF_BODY.values()], ids=[*OF_BODY])
async def test_what_rots_while_it_waits_with_a_doubt_stays_in_doubt(
    make_outbox: MakeOutbox, stage: ModuleType, statement: str
) -> None:
    async def act(message: Email) -> Accepted:
        raise OutcomeUnknown("no answer")

    async with make_outbox(stage.Script(act), on_unknown="retry") as post:
        receipt = await post.add(email())
        await post.work()
        assert (await post.receipt(receipt)).status is Status.RETRYING
        damage(post, statement, number_of(post, receipt))
        await post.work(after=700)
        assert (await post.receipt(receipt)).status is Status.IN_DOUBT


@pytest.mark.parametrize(("begun", "status"), [(True, Status.IN_DOUBT), (False, Status.FAILED)])
async def test_what_a_dead_worker_had_and_nobody_can_read_is_in_doubt_if_it_was_begun(
    make_outbox: MakeOutbox, begun: bool, status: Status
) -> None:
    async with make_outbox(outbox={"lease": 0.3}) as post:
        bad, good = await post.add(email()), await post.add(email())
        dead = await post.store.register("dead")
        claimed = (await post.store.exchange(dead, [], [], {"a0/email": ClaimLimit(2, 2)})).claimed
        assert [message.id for message in claimed] == [bad.id, good.id]
        if begun:
            assert await post.store.begin(dead, claimed[0].seq, claimed[0].attempts)
        damage(post, OF_BODY["no text"], claimed[0].seq)
        await asyncio.wait_for(post.work(), 60)
        told = await post.receipt(bad)
        assert told.status is status
        assert "cannot be read back" in (told.recipients[0].detail or "")
        assert (await post.receipt(good)).status is Status.SENT


@pytest.mark.parametrize("health", ["'x'", "'{\"queue\": 5}'", "CAST(x'80ff' AS TEXT)", "x'00'"])
async def test_an_account_whose_health_is_damaged_begins_anew(make_outbox: MakeOutbox, health: str) -> None:
    async with make_outbox() as post:
        await post.add(email())
        await post.work()
    damage(post, f"UPDATE queues SET health = {health}")
    async with make_outbox() as post:
        receipt = await post.add(email())
        await post.work()
        assert (await post.receipt(receipt)).status is Status.SENT
        assert [account.queue for account in (await post.outbox.stats()).accounts] == ["a0/email"]


ALL = OF_BODY | OF_ROW | OF_RECEIPT


@pytest.mark.parametrize("statement", [*ALL.values()], ids=[*ALL])
async def test_listings_and_look_ups_show_what_can_be_read(make_outbox: MakeOutbox, statement: str) -> None:
    async with make_outbox() as post:
        first, bad, last = [await post.add(email()) for _ in range(3)]
        damage(post, statement, number_of(post, bad))
        assert [line.id for line in await post.outbox.list()] == [last.id, bad.id, first.id]
        assert (await post.outbox.get(bad.id)).receipt.status is Status.QUEUED
        assert (await post.outbox.stats()).states == {Status.QUEUED: 3}


@pytest.mark.parametrize("statement", ["'half'", "CAST(x'80ff' AS TEXT)", "x'00'"], ids=["half", "no text", "a blob"])
async def test_a_damaged_report_proves_nothing_and_keeps_no_result_from_being_written(
    make_outbox: MakeOutbox, stage: ModuleType, statement: str
) -> None:
    async def act(message: Email) -> Accepted:
        for named in ({"message_id": message.id}, {"provider_message_id": "x1"}):
            about = {"type": "delivered", "channel": "email", "provider": "stage", "occurred_at": 0, "account": "a0"}
            await post.outbox.record(Event.model_validate({**about, **named}))
        damage(post, f"UPDATE events SET event = {statement}")
        return Accepted(provider_message_id="x1")

    async with make_outbox(stage.Script(act)) as post:
        receipt = await post.add(email())
        await post.work()
        assert (await post.receipt(receipt)).status is Status.SENT


DAMAGED = ["'x'", "CAST(x'80ff' AS TEXT)", "x'616e6e'", "7"]


@pytest.mark.parametrize("value", DAMAGED)
@pytest.mark.parametrize("column", ["channel", "category", "reason", "detail", "since", "lifted"])
async def test_a_damaged_suppression_holds_and_stops_nobody_else_until_a_person_lifts_it(
    make_outbox: MakeOutbox, column: str, value: str
) -> None:
    ann, bob = Email(to="ann@example.org", text="x"), Email(to="bob@example.org", text="x")
    async with make_outbox() as post:
        entry = by_hand(Channel.EMAIL, "ann@example.org", "", None, lifted=False)
        await post.outbox.suppressions.add(entry.model_copy(update={"reason": SuppressionReason.BOUNCED}))
        damage(post, f"UPDATE suppressions SET {column} = {value}")
        receipts = [await post.add(ann), await post.add(bob)]
        await post.work()
        assert [(await post.receipt(each)).status for each in receipts] == [Status.SUPPRESSED, Status.SENT]
        [listed] = await post.outbox.suppressions.list()
        assert listed.address == "ann@example.org"
        assert await post.outbox.suppressions.list(after=listed.place) == []
        lifted = by_hand(Channel.EMAIL, "ann@example.org", listed.category, None, lifted=True)
        await post.outbox.suppressions.add(lifted)
        assert await post.outbox.suppressions.list() == []
        assert not await post.outbox.suppressed(ann)


@pytest.mark.parametrize("value", ["'x'", "x'00'", "CAST(x'80ff' AS TEXT)"])
async def test_a_lifting_whose_time_cannot_be_read_lifts_nothing(make_outbox: MakeOutbox, value: str) -> None:
    async with make_outbox() as post:
        held = by_hand(Channel.EMAIL, "ann@example.org", "", None, lifted=False)
        await post.outbox.suppressions.add(held.model_copy(update={"reason": SuppressionReason.BOUNCED}))
        await post.outbox.suppressions.add(by_hand(Channel.EMAIL, "ann@example.org", "", None, lifted=True))
        damage(post, f"UPDATE suppressions SET since = {value} WHERE lifted")
        assert await post.outbox.suppressed(Email(to="ann@example.org", text="x"))


@pytest.mark.parametrize("content", ["x'62'", "'a'", "x''", "CAST(x'80ff' AS TEXT)"])
async def test_an_attachment_that_is_not_what_was_accepted_is_never_sent(make_outbox: MakeOutbox, content: str) -> None:
    async with make_outbox() as post:
        other = await post.add(Email(to="bob@example.org", text="x", attachments=[{"filename": "b", "content": b"b"}]))
        bad = await post.add(email())
        damage(post, f"UPDATE files SET content = {content} WHERE content = x'61'")
        await post.work()
        assert (await post.receipt(bad)).status is Status.FAILED
        assert (await post.receipt(other)).status is Status.SENT


async def test_an_attachment_that_was_cut_short_is_mended_by_the_next_message_with_it(make_outbox: MakeOutbox) -> None:
    async with make_outbox() as post:
        bad = await post.add(email())
        damage(post, "UPDATE files SET content = x''")
        await post.work()
        assert (await post.receipt(bad)).status is Status.FAILED
        again = await post.add(email())
        await post.work()
        assert (await post.receipt(again)).status is Status.SENT


@pytest.mark.parametrize("value", [*DAMAGED, "9e999", "-9e999"])
async def test_a_damaged_rate_begins_anew(make_outbox: MakeOutbox, value: str) -> None:
    async with make_outbox(rate="5/s") as post:
        await post.add(email())
        await post.work()
        damage(post, f"UPDATE queues SET theoretical_start = {value}")
        receipt = await post.add(email())
        await post.work()
        assert (await post.receipt(receipt)).status is Status.SENT


@pytest.mark.parametrize("value", ["'x'", "CAST(x'80ff' AS TEXT)", "x'00'", "NULL", "7", "zeroblob(100)"])
async def test_a_damaged_key_of_fingerprints_is_made_anew_and_repeats_conflict(
    make_outbox: MakeOutbox, value: str
) -> None:
    message = Email(to="ann@example.org", text="x", idempotency_key="k")
    async with make_outbox() as post:
        await post.add(message)
    damage(post, f"UPDATE meta SET value = {value} WHERE name = 'salt'")
    async with make_outbox() as post:
        with pytest.raises(IdempotencyConflict):
            await post.add(message)
        await post.add(message.model_copy(update={"idempotency_key": "another"}))
        assert len(await post.outbox.list()) == 2


STRANDED = {
    "a status that is none": ("status = 'qeued'", Status.IN_DOUBT),
    "a blob for a status": ("status = x'00'", Status.IN_DOUBT),
    "a status that is no text": ("status = CAST(x'80ff' AS TEXT)", Status.IN_DOUBT),
    "under way without an owner": ("status = 'sending'", Status.IN_DOUBT),
    "under way with an owner that is none": ("status = 'sending', owner = 999", Status.IN_DOUBT),
    "a queue without a channel": ("queue = 'a0'", Status.FAILED),
    "a queue that is no text": ("queue = CAST(x'80ff' AS TEXT)", Status.FAILED),
    "a blob for a queue": ("queue = x'00'", Status.FAILED),
    "a priority that is none": ("priority = 7", Status.FAILED),
    "a text for a priority": ("priority = 'x'", Status.FAILED),
    "a text for a due time": ("due_at = 'x'", Status.FAILED),
    "a blob for a due time": ("due_at = x'00'", Status.FAILED),
}


@pytest.mark.parametrize(("change", "status"), [*STRANDED.values()], ids=[*STRANDED])
async def test_what_no_claim_would_ever_find_is_set_aside_where_people_see_it(
    make_outbox: MakeOutbox, change: str, status: Status
) -> None:
    async with make_outbox() as post:
        first, bad, last = [await post.add(email()) for _ in range(3)]
        damage(post, f"UPDATE messages SET {change} WHERE seq = ?", number_of(post, bad))
        assert len(await post.outbox.list()) == 3
        assert sum((await post.outbox.stats()).states.values()) == 3
        await asyncio.wait_for(post.work(), 60)
        await asyncio.wait_for(post.work(), 60)
        states = [(await post.receipt(each)).status for each in (first, bad, last)]
        assert states == [Status.SENT, status, Status.SENT]
        [line] = [line for line in await post.outbox.list() if line.id == bad.id]
        assert line.error == "outbox_error"
        await post.outbox.retry(bad.id)
        assert (await post.receipt(bad)).status is Status.QUEUED


async def test_what_a_worker_died_with_before_it_could_set_it_aside_is_in_doubt_as_before(
    make_outbox: MakeOutbox, stage: ModuleType
) -> None:
    script = stage.Script()
    async with make_outbox(script, outbox={"lease": 0.3}) as post:
        receipt = await post.add(email())
        damage(post, "UPDATE messages SET status = 'sending' WHERE seq = ?", number_of(post, receipt))
        dead = await post.store.register("dead")
        assert len(await post.store.claim_lost(dead, 10)) == 1
        await asyncio.wait_for(post.work(), 60)
        assert (await post.receipt(receipt)).status is Status.IN_DOUBT
        assert len(script.calls) == 0
