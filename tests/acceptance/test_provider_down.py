"""A provider that is down for a while: its messages wait and then flow, the most urgent first; others do not notice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from ordeal.configuration import smtp, twilio, written
from ordeal.processes import Crew
from ordeal.servers import MailServer, PhoneServer, overloaded, unauthorised

from postroom import Email, Postroom, Sms
from postroom.outbox import MessageFilter
from postroom.receipts import Status


async def until(truth: Callable[[], object]) -> None:
    async with asyncio.timeout(90):
        while not truth():
            await asyncio.sleep(0.005)


async def test_what_waited_for_a_provider_flows_when_it_is_back_the_most_urgent_first(tmp_path: Path) -> None:
    mail = MailServer()
    await mail.start()
    await mail.stop()
    config = written(
        tmp_path, {"post": smtp(mail, on_unknown="hold", concurrency=1, pool=1)}, retry_first="20ms", retry_most="50ms"
    )
    async with Postroom.from_config(config) as room:
        stop = asyncio.Event()
        working = asyncio.create_task(room.work(stop=stop))
        for priority in ("low", "normal", "high"):
            messages = [Email(to="a@example.org", subject=priority, text="x", priority=priority) for _ in range(20)]
            await room.enqueue_many(messages)
        async with asyncio.timeout(90):
            while not any(health.cooldown_until for health in (await room.outbox.stats()).accounts):
                await asyncio.sleep(0.02)
        async with mail:
            await until(lambda: len(mail.arrivals) == 60)
            stop.set()
            await working
        assert (await room.outbox.stats()).states == {Status.SENT: 60}
    order = [arrival.text for arrival in mail.arrivals]
    # One message at a time goes on trying meanwhile; it may be any.
    assert order[:20].count("high") >= 19
    assert order[-20:].count("low") >= 19
    assert mail.repeated == {}


async def test_what_waited_flows_within_the_rate_of_its_account(tmp_path: Path) -> None:
    async with PhoneServer() as phones:
        phones.always = overloaded(1)
        config = written(tmp_path, {"texts": twilio(phones, rate="50/s")}, retry_first="20ms", retry_most="50ms")
        async with Postroom.from_config(config) as room:
            await room.enqueue_many([Sms(to=f"+1212{2_000_000 + n:07d}", body="x") for n in range(150)])
            stop = asyncio.Event()
            working = asyncio.create_task(room.work(stop=stop))
            await until(lambda: phones.refusals)
            await asyncio.sleep(2)  # it is down, and what the rate allowed meanwhile must not be made up for
            phones.always = None
            await until(lambda: len(phones.arrivals) == 150)
            stop.set()
            await working
            assert (await room.outbox.stats()).states == {Status.SENT: 150}
            details = [await room.outbox.get(line.id) for line in await room.outbox.list(MessageFilter(limit=150))]
    # When the attempts began, not when the server saw them: a machine that is busy with other tests bunches those.
    times = sorted(attempt.started_at.timestamp() for each in details for attempt in each.receipt.attempts)
    # Those that a busy machine made begin later come beside what was due by then; the two seconds would be 100 more.
    assert max(sum(begin <= at < begin + 1 for at in times) for begin in times) <= 1.5 * 50
    assert phones.repeated == {}


async def test_a_dead_account_does_not_slow_another(tmp_path: Path) -> None:
    dead = MailServer()
    await dead.start()
    await dead.stop()
    async with MailServer() as mail, PhoneServer() as phones:
        phones.always = unauthorised()
        accounts = {
            "dead": smtp(dead),
            "mail": smtp(mail),
            "texts": twilio(phones),
        }
        config = written(tmp_path, accounts)
        async with Postroom.from_config(config) as room:
            for provider in ("dead", "mail"):
                await room.enqueue_many(
                    [Email(to=f"n{n}@example.org", subject=f"{n}", text="x", provider=provider) for n in range(300)]
                )
            await room.enqueue_many(
                [Sms(to=f"+1212{2_000_000 + n:07d}", body="x", provider="texts") for n in range(300)]
            )
        async with Crew(config) as crew:
            worker = await crew.worker()
            async with asyncio.timeout(90):
                while len(mail.arrivals) < 300:
                    await asyncio.sleep(0.01)
            assert await worker.stop() == 0
        assert len(phones.refusals) < 10
        async with Postroom.from_config(config) as room:
            stats = await room.outbox.stats()
            [paused] = [health for health in stats.accounts if health.paused]
            assert paused.queue == "texts/sms"
            assert stats.states[Status.SENT] == 300
            assert stats.states.get(Status.FAILED, 0) == 0
