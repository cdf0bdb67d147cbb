"""An outbox moves to another place, whatever engine keeps either: all of it, once, and never is more than one workable."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import asyncpg
import pytest
from engines.postgres import PostgresEngine
from engines.process import Clock, Engine, Process, SqliteEngine
from tests.postgres_server import fresh_schema

from postroom import Attachment, Email, Event, EventType, OutboxError, PostroomError, Sms, Status
from postroom.config.outbox import OutboxSettings
from postroom.errors import MessageRejected, OutcomeUnknown
from postroom.gateway.access.factory import access_storage_of
from postroom.gateway.access.keys import ApiKey, KeyScope
from postroom.outbox.copying import CopyResult, OutboxCopy
from postroom.outbox.factory import open_copy_storage
from postroom.outbox.postgres import copying as postgres_copying
from postroom.outbox.records import ClaimLimit, Suppression
from postroom.outbox.storage import CopyStorage
from postroom.outbox.tables import BEGUN, TABLES, Row
from postroom.outbox.views import MessageFilter
from postroom.outcomes import SuppressionReason
from postroom.receipts import Channel

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LEASE = 0.05
FILE = Attachment(filename="a.bin", content=bytes(range(256)) * 10)


@dataclass
class Place:
    """Where an outbox is, or may be."""

    url: str
    config: dict[str, Any]
    clock: Clock

    def process(self) -> Process:
        """A process that has it as its outbox."""
        engine: Engine = PostgresEngine(self.url) if self.url.startswith("postgresql") else SqliteEngine()
        outbox = {"retry_first": 10, "lease": LEASE}
        if not self.url.startswith("postgresql"):
            outbox["url"] = self.url  # type: ignore[assignment]
        return Process({**self.config, "outbox": outbox}, engine, self.clock)

    def rows(self) -> CopyStorage:
        return open_copy_storage(OutboxSettings.model_validate({"url": self.url}))


PAIRS = [("sqlite", "postgres"), ("postgres", "sqlite"), ("sqlite", "sqlite"), ("postgres", "postgres")]

MakePlace = Callable[[str], Place]


@pytest.fixture
def script(stage: ModuleType) -> Any:
    return stage.Script()


@pytest.fixture
def make_place(tmp_path: Path, stage: ModuleType, script: Any, monkeypatch: pytest.MonkeyPatch) -> MakePlace:
    """Makes places of an engine, over one account whose script is `script`."""
    monkeypatch.setenv("POSTROOM_SECRET_KEY", "the same for all machines, and long enough")
    account = stage.StageSettings(script=script, from_="post@example.org")
    config = {"accounts": {"a": account}, "defaults": {"email": "a", "sms": "a"}}
    numbers, clock = itertools.count(), Clock()

    def make(engine: str) -> Place:
        url = fresh_schema() if engine == "postgres" else f"sqlite:///{tmp_path}/outbox{next(numbers)}.db"
        return Place(url, config, clock)

    return make


@pytest.fixture(params=PAIRS, ids="-".join)
def places(request: pytest.FixtureRequest, make_place: MakePlace) -> tuple[Place, Place]:
    """An outbox's place, and an empty one."""
    source, target = request.param
    return make_place(source), make_place(target)


@asynccontextmanager
async def copy_of(source: Place, target: Place, at_once: int = 3) -> AsyncIterator[OutboxCopy]:
    copy = OutboxCopy(source.rows(), target.rows(), LEASE, at_once)
    try:
        yield copy
    finally:
        await copy.close()


async def copied(source: Place, target: Place, *, dies_after: int | None = None) -> OutboxCopy:
    """Copy, up to the end or until so many transactions were made."""
    async with copy_of(source, target) as copy:
        steps = copy.run()
        made = 0
        async for _ in steps:
            made += 1
            if made == dies_after:
                await steps.aclose()  # type: ignore[attr-defined]
                break
    return copy


async def every_row(place: Place) -> dict[str, list[Row]]:
    """All that a place holds."""
    storage = place.rows()
    await storage.open()
    try:
        return {table.name: list(await storage.rows(table, (), 10_000)) for table in TABLES}
    finally:
        await storage.close()


def email(number: int = 0, **more: Any) -> Email:
    return Email(to=f"n{number}@example.org", subject=f"{number}", text="x", **more)


async def leave_in_hand(post: Process, begun: str, claimed: str) -> None:
    """Let a worker die with these messages in hand, of which it has begun one."""
    dead = await post.store.register("dead")
    got = await post.store.exchange(dead, [], [], {"a/email": ClaimLimit(9, 9)})
    by_id = {message.id: message for message in got.claimed}
    assert by_id.keys() == {begun, claimed}
    assert await post.store.begin(dead, by_id[begun].seq, by_id[begun].attempts)


async def fill(place: Place, script: Any) -> dict[str, str]:
    """Put something into every table, and a message into every state that one can be moved in; returns ids by name."""
    ids: dict[str, str] = {}

    async def add(name: str, message: Email | Sms, **more: Any) -> str:
        ids[name] = (await post.add(message, **more)).id
        return ids[name]

    async def give_up(message: Email) -> None:
        raise MessageRejected("no") if message.subject == "1" else OutcomeUnknown("no answer")

    async with place.process() as post:
        sent = await add("sent", email(0, attachments=[FILE], idempotency_key="sent"))
        await post.work()
        await post.outbox.record(Event(
            type=EventType.DELIVERED, provider="stage", account="a", channel=Channel.EMAIL, provider_message_id=f"stage-{sent}",
            recipient="n0@example.org", occurred_at=NOW,
        ))  # fmt: skip
        await post.outbox.record(Event(
            type=EventType.DELIVERED, provider="stage", account="a", channel=Channel.EMAIL, provider_message_id="of nobody yet",
            recipient="z@example.org", occurred_at=NOW,
        ))  # fmt: skip
        accept, script.act = script.act, give_up
        await add("failed", email(1))
        await add("in doubt", email(2, options={"token": "secret"}))
        await post.work()
        script.act = accept
        await leave_in_hand(post, await add("begun", email(7)), await add("claimed", email(8)))
        await add("queued", email(3, attachments=[FILE], idempotency_key="queued"), tenant="t")
        await add(
            "scheduled", Sms(to="+442079460958", body="later", send_at=datetime.fromtimestamp(post.clock.now + 99, UTC))
        )
        await add("own", email(4, options={"token": "secret"}))
        await post.outbox.hold(await add("held", email(5)))
        await post.outbox.cancel(await add("cancelled", email(6)))
        await post.store.add_suppression(
            Suppression(channel=Channel.EMAIL, address="s@example.org", reason=SuppressionReason.MANUAL, since=NOW)
        )
        storage = access_storage_of(post.store)
        await storage.open()
        key, _ = ApiKey.generate("eu", name="shop", scope=KeyScope(), now=NOW)
        await storage.add_key(key)
        await storage.mark_key(key.id, "flagged", 5.0)
        await storage.close()
    return ids


async def columns_of(place: Place) -> dict[str, set[str]]:
    """Every table that an engine has made, with its columns."""
    if place.url.startswith("postgresql"):
        connection = await asyncpg.connect(place.url.partition("?")[0])
        found = await connection.fetch(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = $1",
            place.url.partition("schema=")[2],
        )
        await connection.close()
    else:
        with closing(sqlite3.connect(place.url.removeprefix("sqlite:///"))) as file:
            found = file.execute(
                "SELECT m.name, c.name FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table'"
            ).fetchall()
    columns: dict[str, set[str]] = {}
    for table, column in found:
        columns.setdefault(table, set()).add(column)
    return columns


@pytest.mark.parametrize(
    ("engine", "left"), [("sqlite", {"meta", "early_files", "sqlite_sequence"}), ("postgres", {"meta"})]
)
async def test_no_table_and_no_column_is_forgotten(make_place: MakePlace, engine: str, left: set[str]) -> None:
    place = make_place(engine)
    await accepts(place)
    there = await columns_of(place)
    elsewhere = {BEGUN.name} if engine == "sqlite" else set()
    copied = {table.name: set(table.columns) for table in TABLES if table.name not in elsewhere}
    assert {name: columns for name, columns in there.items() if name not in left} == copied


async def test_every_row_is_there_as_it_was(places: tuple[Place, Place], script: Any) -> None:
    source, target = places
    await fill(source, script)
    before = await every_row(source)
    assert [name for name, rows in before.items() if not rows] == ["api_counts"]
    copy = await copied(source, target)
    assert copy.result is CopyResult.COPIED
    assert copy.counts == {name: len(rows) for name, rows in before.items()}
    assert await every_row(target) == before


async def secret_of(place: Place) -> bytes:
    """What unsubscribe links are signed with, as a gateway there knows it."""
    async with place.process() as post:
        storage = access_storage_of(post.store)
        await storage.open()
        await storage.close()
        return storage.secret


async def test_what_moved_goes_on_where_it_was(places: tuple[Place, Place], script: Any) -> None:
    source, target = places
    ids = await fill(source, script)
    await copied(source, target)
    script.calls.clear()
    assert await secret_of(target) == await secret_of(source)
    async with target.process() as post:
        repeated = await post.add(email(0, attachments=[FILE], idempotency_key="sent"))
        assert (repeated.id, repeated.status) == (ids["sent"], Status.DELIVERED)
        with pytest.raises(PostroomError, match="was used for another message"):
            await post.add(email(9, idempotency_key="sent"))
        with pytest.raises(OutboxError, match="in doubt|in_doubt"):
            await post.outbox.cancel(ids["in doubt"])
        await post.work(after=1000)
        states = {name: (await post.outbox.get(id_)).receipt.status for name, id_ in ids.items()}
    assert states == {
        "sent": "delivered",
        "failed": "failed",
        "in doubt": "in_doubt",
        "begun": "in_doubt",
        "claimed": "sent",
        "queued": "sent",
        "scheduled": "sent",
        "own": "sent",
        "held": "held",
        "cancelled": "cancelled",
    }
    assert sorted(getattr(message, "subject", "sms") for message in script.messages) == ["3", "4", "8", "sms"]
    [queued] = [message for message in script.messages if getattr(message, "subject", "") == "3"]
    assert queued.attachments[0].content == FILE.content


async def test_numbers_go_on_behind_those_that_were_given(places: tuple[Place, Place], script: Any) -> None:
    source, target = places
    await fill(source, script)
    async with source.process() as post:
        gone = await post.store.register("was here")
        await post.store.sign_off(gone)
        last = max(line.seq for line in await post.outbox.list(MessageFilter()))
    await copied(source, target)
    async with target.process() as post:
        assert await post.store.register("new") > gone
        await post.add(email(9))
        assert max(line.seq for line in await post.outbox.list(MessageFilter())) > last


async def accepts(place: Place) -> str | None:
    """The id of a message that a place accepts now, if it does."""
    async with place.process() as post:
        try:
            return (await post.add(email(77))).id
        except OutboxError:
            return None


async def test_wherever_a_copy_dies_one_place_at_most_takes_messages_and_none_is_lost(
    places: tuple[Place, Place], script: Any
) -> None:
    source, target = places
    accepted = {*(await fill(source, script)).values()}
    ends, opened = 0, []
    for _ in itertools.count():
        copy = await copied(source, target, dies_after=1)
        taken = [(place, id_) for place in places if (id_ := await accepts(place))]
        assert len(taken) <= 1
        accepted |= {id_ for _, id_ in taken}
        opened.append([places.index(place) for place, _ in taken])
        ends += copy.counts != {}
        if ends:
            break
    assert opened[0] == [0]
    assert [] in opened
    assert opened[-1] == [1]
    async with target.process() as post:
        assert {line.id for line in await post.outbox.list(MessageFilter())} == accepted


async def test_a_copy_that_is_run_again_changes_nothing(places: tuple[Place, Place], script: Any) -> None:
    source, target = places
    await fill(source, script)
    await copied(source, target)
    async with target.process() as post:
        await post.work(after=1000)
    before = await every_row(target)
    assert (await copied(source, target)).result is CopyResult.WAS_COPIED
    assert await every_row(target) == before


async def test_a_place_that_was_left_refuses_every_write(places: tuple[Place, Place], script: Any) -> None:
    source, target = places
    ids = await fill(source, script)
    await copied(source, target)
    async with source.process() as post:
        with pytest.raises(OutboxError, match="was moved to .*; name that in .outbox. url"):
            await post.add(email(9))
        with pytest.raises(OutboxError, match="was moved to"):
            await post.outbox.work(until_empty=True)
        with pytest.raises(OutboxError, match="was moved to"):
            await post.outbox.cancel(ids["queued"])
        storage = access_storage_of(post.store)
        await storage.open()
        with pytest.raises(OutboxError, match="was moved to"):
            await storage.ping()
        await storage.close()
        assert len(await post.outbox.list()) == 10


async def test_it_comes_back_with_all_that_happened_meanwhile(places: tuple[Place, Place], script: Any) -> None:
    source, target = places
    await fill(source, script)
    await copied(source, target)
    async with target.process() as post:
        new = await post.add(email(9))
        await post.work()
    assert (await copied(target, source)).result is CopyResult.COPIED
    assert await accepts(target) is None
    script.calls.clear()
    async with source.process() as post:
        assert (await post.outbox.get(new.id)).receipt.status is Status.SENT
        await post.work()
    assert script.messages == []


@pytest.mark.parametrize("dies_after", [1, None])
async def test_one_that_was_never_completed_is_taken_back(
    places: tuple[Place, Place], script: Any, dies_after: int | None
) -> None:
    source, target = places
    await fill(source, script)
    before = await every_row(source)
    await copied(source, target, dies_after=4)
    await copied(target, source, dies_after=dies_after)
    if dies_after:
        assert await accepts(source) is None
        with pytest.raises(OutboxError, match="was never completed|was moved to"):
            await copied(source, target)
    assert (await copied(target, source)).result is CopyResult.TAKEN_BACK
    assert await every_row(source) == before
    assert await accepts(target) is None
    assert await accepts(source)
    await copied(source, target)
    assert await accepts(target)


async def test_two_at_once_do_not_mix(places: tuple[Place, Place], script: Any) -> None:
    source, target = places
    await fill(source, script)
    await copied(source, target, dies_after=3)
    other = target.rows()
    stale = await other.mark()
    await other.close()
    await copied(source, target, dies_after=1)
    storage = target.rows()
    await storage.open()
    assert stale
    with pytest.raises(OutboxError, match="somebody else copies it"):
        await storage.add(stale, stale, TABLES[-2], [])
    await storage.close()


async def test_a_place_that_holds_anything_is_not_filled(places: tuple[Place, Place], script: Any) -> None:
    source, target = places
    await fill(source, script)
    assert await accepts(target)
    with pytest.raises(OutboxError, match="is not empty .1 messages, 1 bodies.; name a"):
        await copied(source, target)
    assert await accepts(source)
    assert await accepts(target)


async def test_what_was_moved_elsewhere_or_is_not_whole_is_not_copied(
    places: tuple[Place, Place], make_place: MakePlace, script: Any
) -> None:
    (source, target), third = places, make_place("sqlite")
    await fill(source, script)
    await copied(source, target, dies_after=4)
    with pytest.raises(OutboxError, match="was moved to"):
        await copied(source, third)
    with pytest.raises(OutboxError, match="a copy of .* that is not complete; run"):
        await copied(target, third)
    with pytest.raises(OutboxError, match="that is not complete; .*; to copy another one, name an empty place"):
        await copied(third, target)


@pytest.mark.parametrize("places", PAIRS[:2], ids="-".join, indirect=True)
async def test_a_place_that_somebody_has_open_is_not_copied(
    places: tuple[Place, Place], script: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_copying, "ENDING", 0.3)  # nobody ends here, so that there is nothing to wait for
    source, target = places
    await fill(source, script)
    async with source.process() as post:
        await post.outbox.stats()
        with pytest.raises(OutboxError, match="is open in another process|is in use by"):
            await copied(source, target)
    assert await accepts(source)


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
async def test_a_worker_that_shows_life_keeps_its_outbox(make_place: MakePlace, engine: str) -> None:
    source, target = make_place(engine), make_place("sqlite")
    async with source.process() as post, copy_of(source, target) as copy:
        await post.store.register("silent")
        beating = asyncio.create_task(beats(post, await post.store.register("host 7")))
        with pytest.raises(OutboxError, match=r"is being worked .host 7.; end every worker"):
            await copy._silent_workers()
        beating.cancel()


async def beats(post: Process, worker: int) -> None:
    while await post.store.heartbeat(worker):
        await asyncio.sleep(LEASE / 20)


async def test_the_key_of_credentials_is_asked_for_before_anything_is_copied(
    places: tuple[Place, Place], script: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = places
    await fill(source, script)
    monkeypatch.setenv("POSTROOM_SECRET_KEY", "another one, which was never used for them")
    with pytest.raises(PostroomError, match="set POSTROOM_SECRET_KEY to the value it has where"):
        await copied(source, target)
    monkeypatch.setenv("POSTROOM_SECRET_KEY", "the same for all machines, and long enough")
    assert await accepts(source)
    assert await accepts(target)
