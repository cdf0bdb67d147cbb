"""Closing a room while it works: what is under way ends first, what was not begun stays for later."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import ModuleType

from postroom import Email, Postroom, Status
from postroom.receipts import Accepted


def emails(many: int) -> list[Email]:
    return [Email(to=f"n{n}@example.org", subject="x", text="x") for n in range(many)]


async def test_closing_a_room_ends_its_work_and_loses_nothing(stage: ModuleType, tmp_path: Path) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def act(message: Email) -> Accepted:
        begun.set()
        await go_on.wait()
        return Accepted(provider_message_id="1")

    account = stage.StageSettings(script=stage.Script(act), from_="post@example.org", concurrency=1)
    outbox = {"url": f"sqlite:///{tmp_path}/outbox.db"}
    room = Postroom(accounts={"a": account}, outbox=outbox)
    await room.enqueue_many(emails(3))
    working = asyncio.create_task(room.work())
    await begun.wait()
    closing = asyncio.create_task(room.close())
    await asyncio.sleep(0)
    assert not closing.done()
    go_on.set()
    await closing
    await working
    async with Postroom(accounts={"a": account}, outbox=outbox) as later:
        assert (await later.outbox.stats()).states == {Status.SENT: 1, Status.QUEUED: 2}


async def test_work_stops_at_its_own_signal_too(stage: ModuleType, tmp_path: Path) -> None:
    account = stage.StageSettings(script=stage.Script(), from_="post@example.org")
    async with Postroom(accounts={"a": account}, outbox={"url": f"sqlite:///{tmp_path}/outbox.db"}) as room:
        stop = asyncio.Event()
        working = asyncio.create_task(room.work(stop=stop))
        queued = await room.enqueue(emails(1)[0])
        while (await room.outbox.get(queued.id)).receipt.status is not Status.SENT:
            await asyncio.sleep(0.01)
        stop.set()
        async with asyncio.timeout(60):
            await working
