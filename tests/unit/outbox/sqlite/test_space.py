"""What removed messages took goes back to the disk: by upkeep, or by compacting a file of an earlier version."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from contextlib import closing
from pathlib import Path

from engines.process import MakeOutbox, Process

from postroom import Attachment, Email, Status
from postroom.outbox.sqlite.space import KEPT_FREE, MOST_AT_ONCE
from postroom.outbox.views import MessageFilter

LARGE = 12
SIZE = 2**20


def large(number: int) -> Email:
    """An e-mail whose attachment is nobody else's, so that the file keeps it apart."""
    return Email(
        to=f"n{number}@example.org", text="x", attachments=[Attachment(filename="a.bin", content=os.urandom(SIZE))]
    )


def pragma(post: Process, name: str) -> int:
    with closing(sqlite3.connect(post.store.path)) as connection:
        value: int = connection.execute(f"PRAGMA {name}").fetchone()[0]
        return value


def size(post: Process) -> int:
    return pragma(post, "page_count") * pragma(post, "page_size")


def free(post: Process) -> int:
    return pragma(post, "freelist_count") * pragma(post, "page_size")


def whole(post: Process) -> bool:
    with closing(sqlite3.connect(post.store.path)) as connection:
        return bool(connection.execute("PRAGMA integrity_check").fetchone() == ("ok",))


def made_by_an_earlier_version(path: Path) -> None:
    """A file whose pages cannot be given back one by one: SQLite settles that with the first page."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")


async def sent_and_kept_for_long(post: Process) -> None:
    """Messages that were sent, and one that still waits."""
    await post.outbox.add([large(number) for number in range(LARGE)])
    await post.work()
    await post.add(Email(to="waits@example.org", text="x", send_at="2030-01-01T00:00:00Z"))


async def test_upkeep_gives_back_what_pruned_messages_took(make_outbox: MakeOutbox) -> None:
    async with make_outbox(outbox={"retention": "1d"}) as post:
        await sent_and_kept_for_long(post)
        assert size(post) > LARGE * SIZE
        await post.work(after=86_401)
        assert free(post) <= KEPT_FREE
        assert size(post) < LARGE * SIZE / 2
        assert whole(post)
        assert len(await post.outbox.list(MessageFilter(status=(Status.SCHEDULED,)))) == 1


async def test_it_goes_back_in_small_transactions_between_which_others_write(make_outbox: MakeOutbox) -> None:
    async with make_outbox(outbox={"retention": "1d"}) as post:
        await sent_and_kept_for_long(post)
        post.clock.now += 86_401
        before = post.store.transactions
        tidying = asyncio.create_task(post.outbox.purge(MessageFilter()))
        written = 0
        while not tidying.done():
            await post.add(Email(to="ann@example.org", text="x"))
            written += 1
        assert await tidying == LARGE
        assert written > 1
        assert post.store.transactions - before > (LARGE * SIZE - KEPT_FREE) / MOST_AT_ONCE
        assert len(await post.outbox.list(MessageFilter(status=(Status.QUEUED,)))) == written


async def test_where_there_is_little_to_give_back_nothing_is_written(make_outbox: MakeOutbox) -> None:
    async with make_outbox() as post:
        await post.add(Email(to="ann@example.org", text="x"))
        before = post.store.transactions
        assert await post.store.prune(post.clock.now, 100) == 0
        assert post.store.transactions == before


async def test_a_file_of_an_earlier_version_is_shorter_once_it_is_compacted(make_outbox: MakeOutbox) -> None:
    async with make_outbox(outbox={"retention": "1d"}) as post:
        made_by_an_earlier_version(post.store.path)
        await sent_and_kept_for_long(post)
        await post.work(after=86_401)
        assert free(post) > LARGE * SIZE
        before, after = await post.outbox.compact()
        assert before > LARGE * SIZE
        assert after < SIZE
        assert post.store.path.stat().st_size <= after
        assert free(post) == 0
        await post.outbox.add([large(number) for number in range(LARGE)])
        await post.work()
        await post.work(after=86_401)
        assert free(post) <= KEPT_FREE, "and from then on by upkeep"


async def test_whoever_writes_while_the_file_is_compacted_waits_and_loses_nothing(make_outbox: MakeOutbox) -> None:
    async with make_outbox() as post:
        await sent_and_kept_for_long(post)
        compacting = asyncio.create_task(post.outbox.compact())
        written = [await post.add(Email(to="ann@example.org", text="x")) for _ in range(20)]
        await compacting
        await post.work()
        assert {(await post.receipt(receipt)).status for receipt in written} == {Status.SENT}
        assert whole(post)
