"""A message in doubt is asked about at its provider: Twilio's message list, on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Protocol, cast

import pytest
from engines.holding import Holding
from engines.process import Clock, Engine, Process

from postroom import Event, EventType, Receipt, RecipientResult, Sms, Status
from postroom.outbox.outbox import Outbox
from postroom.outbox.records import ClaimedMessage, ClaimLimit, EnqueueResult, ProviderId, Settlement
from postroom.outbox.retry_policy import QUESTIONS
from postroom.outbox.storage import Store
from postroom.receipts import Channel
from postroom.testing.http import Answer, Drop, Hang, HttpRecorder, RecordedRequest, Step

SMS = Sms(to="+447700900000", body="Hi")


class Twilio(HttpRecorder):
    """Takes messages as `takes` says, in turn, and lists what is in `log`."""

    def __init__(self) -> None:
        super().__init__()
        self.takes: list[Step] = []
        self.log: list[dict[str, str]] = []
        self.answers_questions = True
        self._asks = asyncio.Semaphore(0)
        self.answer_with(self._step)

    def _step(self, request: RecordedRequest) -> Step:
        if request.method == "GET":
            self._asks.release()
            if not self.answers_questions:
                return Hang("request")
            return Answer(200, {"messages": self.log, "next_page_uri": None})
        return self.takes.pop(0)

    def keep(self, sid: str) -> None:
        about = {"to": "+447700900000", "from": "+15005550006", "body": "Hi", "direction": "outbound-api"}
        self.log.append({"sid": sid, "status": "queued", "date_created": format_datetime(datetime.now(UTC)), **about})

    async def asked_often(self, times: int) -> None:
        """Wait for that many more questions."""
        for _ in range(times):
            await self._asks.acquire()

    @property
    def methods(self) -> list[str]:
        return [request.method for request in self.requests]


@pytest.fixture
async def twilio() -> AsyncIterator[Twilio]:
    async with Twilio() as server:
        yield server


class Work(Protocol):
    """Works until there is nothing to do, and then until the provider has been asked that often in all."""

    async def __call__(self, *, after: float = 0.0, asks: int = 0) -> None: ...


@dataclass
class Processes:
    """Makes processes that work on the outbox, their clock in the test's hands; none knows of the one before."""

    engine: Engine
    twilio: Twilio
    url: str
    clock: Clock = field(default_factory=Clock)

    @asynccontextmanager
    async def __call__(
        self, outbox: dict[str, Any] | None = None, **settings: Any
    ) -> AsyncIterator[tuple[Outbox, Work]]:
        account = {"provider": "twilio", "account_sid": "AC1", "auth_token": "token", "from": "+15005550006"}
        given = {"it": {**account, "base_url": self.twilio.url, **settings}}
        kept = {"url": self.url, "lease": 5, **(outbox or {})}
        async with Process({"accounts": given, "outbox": kept}, self.engine, self.clock) as post:

            async def work(*, after: float = 0.0, asks: int = 0) -> None:
                await post.work(after)
                await until_asked(post.outbox, self.twilio, asks)

            yield post.outbox, work


@pytest.fixture
def process(twilio: Twilio, tmp_path: Path, engine: Engine) -> Processes:
    return Processes(engine, twilio, f"sqlite:///{tmp_path}/outbox.db")


async def until_asked(outbox: Outbox, twilio: Twilio, asks: int = 1) -> None:
    """Work until the provider is asked that often, and stop in the middle of it."""
    stop = asyncio.Event()
    working = asyncio.create_task(outbox.work(stop=stop))
    async with asyncio.timeout(60):
        await twilio.asked_often(asks)
    stop.set()
    await working


async def enqueued(outbox: Outbox) -> str:
    """Store the message, and return its id."""
    [stored] = await outbox.add([SMS])
    assert isinstance(stored, EnqueueResult)
    return stored.receipt.id


async def status(outbox: Outbox, id_: str) -> Status:
    return (await outbox.get(id_)).receipt.status


async def test_a_message_that_the_provider_has_is_sent_after_all_and_only_once(
    process: Processes, twilio: Twilio
) -> None:
    twilio.takes = [Drop("request")]
    async with process() as (outbox, work):
        stored = await enqueued(outbox)
        await work()
        assert await status(outbox, stored) == "in_doubt"
        twilio.keep("SM1")
        await work(after=QUESTIONS[0] + 1, asks=1)
        shown = await outbox.get(stored)
    assert (shown.receipt.status, shown.receipt.provider_message_id) == ("sent", "SM1")
    assert twilio.methods == ["POST", "GET"]


@pytest.mark.parametrize(("on_unknown", "sent_again"), [("hold", []), ("retry", ["POST"])])
async def test_a_message_that_is_not_found_is_asked_about_until_the_accounts_policy_decides(
    process: Processes, twilio: Twilio, on_unknown: str, sent_again: list[str]
) -> None:
    twilio.takes = [Drop("request"), Answer(201, {"sid": "SM2"})]
    async with process(on_unknown=on_unknown) as (outbox, work):
        stored = await enqueued(outbox)
        await work()
        for after in QUESTIONS:
            assert await status(outbox, stored) == "in_doubt"
            await work(after=after + 1, asks=1)
        await work(after=3600)
        assert await status(outbox, stored) == ("sent" if sent_again else "in_doubt")
    assert twilio.methods == ["POST", *["GET"] * len(QUESTIONS), *sent_again]


async def test_the_id_of_an_equal_message_is_not_taken_for_it_by_another_process(
    process: Processes, twilio: Twilio
) -> None:
    twilio.takes = [Answer(201, {"sid": "SM1"}), Drop("request")]
    async with process() as (outbox, work):
        first = await enqueued(outbox)
        await work()
        twilio.keep("SM1")
    async with process() as (outbox, work):
        second = await enqueued(outbox)
        await work()
        await work(after=QUESTIONS[0] + 1, asks=1)
        assert (await status(outbox, first), await status(outbox, second)) == ("sent", "in_doubt")


async def test_a_message_that_is_claimed_while_the_worker_ends_is_asked_about_all_the_same(
    process: Processes, twilio: Twilio
) -> None:
    twilio.takes = [Drop("request")]
    async with process() as (outbox, work):
        stored = await enqueued(outbox)
        await work()
        twilio.keep("SM1")
        await work(after=QUESTIONS[0] - 1)
        process.clock.now += 2
        holding = Holding(outbox.store, "claim_in_doubt")
        outbox.store = cast("Store", holding)
        stop = asyncio.Event()
        working = asyncio.create_task(outbox.work(stop=stop))
        async with asyncio.timeout(60):
            await holding.reached.wait()
        stop.set()
        await asyncio.wait([working], timeout=0.05)
        holding.go_on.set()
        await working
        assert await status(outbox, stored) == "sent"
        assert (await outbox.stats()).workers == 0


async def test_a_question_that_is_cut_off_is_asked_again_at_once(process: Processes, twilio: Twilio) -> None:
    twilio.takes = [Drop("request")]
    async with process(outbox={"grace": 0.01}) as (outbox, work):
        stored = await enqueued(outbox)
        await work()
        process.clock.now += QUESTIONS[0] + 1
        twilio.answers_questions = False
        await until_asked(outbox, twilio)
        assert await status(outbox, stored) == "in_doubt"
    twilio.answers_questions = True
    twilio.keep("SM1")
    async with process() as (outbox, work):
        await until_asked(outbox, twilio)
        assert await status(outbox, stored) == "sent"


async def in_hand_of(outbox: Outbox, worker: int) -> ClaimedMessage:
    """What another worker takes now, and has in hand."""
    [message] = (await outbox.store.exchange(worker, [], [], {"it/sms": ClaimLimit(1, 10)})).claimed
    assert isinstance(message, ClaimedMessage)
    return message


def answered(message: ClaimedMessage, sid: str) -> Settlement:
    receipt = Receipt(
        id=message.id,
        channel=Channel.SMS,
        status=Status.SENT,
        account="it",
        provider_message_id=sid,
        recipients=(RecipientResult.accepted(SMS.to[0], sid),),
    )
    where = (message.queue, message.route)
    ids = (ProviderId("it", sid),)
    return Settlement(message.seq, message.attempts, Status.SENT, receipt, *where, provider_ids=ids, recipients=SMS.to)


@pytest.mark.parametrize("on_unknown", ["hold", "retry"])
async def test_what_is_found_settles_nothing_while_an_equal_text_is_under_way(
    process: Processes, twilio: Twilio, on_unknown: str
) -> None:
    """The entry of the first is all there is: the second was lost, and must not be taken for sent."""
    twilio.takes = [Drop("request")]
    async with process(on_unknown=on_unknown, outbox={"lease": 60}) as (outbox, work):
        lost = await enqueued(outbox)
        await work()
        first = await enqueued(outbox)
        other = await outbox.store.register("another worker")
        message = await in_hand_of(outbox, other)
        assert message.id == first
        twilio.keep("SM1")
        for _ in range(len(QUESTIONS) + 2):  # nor does it count as asked
            process.clock.now += QUESTIONS[0] + 1
            await until_asked(outbox, twilio)
            assert (await outbox.get(lost)).receipt.status is Status.IN_DOUBT
        await outbox.store.exchange(other, [answered(message, "SM1")], [], {})
        process.clock.now += QUESTIONS[0] + 1
        await until_asked(outbox, twilio)
        assert (await status(outbox, first), await status(outbox, lost)) == ("sent", "in_doubt")
        assert (await outbox.get(lost)).receipt.provider_message_id is None
    assert twilio.methods.count("POST") == 1


async def test_a_text_to_somebody_else_does_not_keep_what_is_found_from_counting(
    process: Processes, twilio: Twilio
) -> None:
    twilio.takes = [Drop("request")]
    async with process(outbox={"lease": 60}) as (outbox, work):
        stored = await enqueued(outbox)
        await work()
        await outbox.add([Sms(to="+447700900001", body="+447700900000 Hi")])
        await in_hand_of(outbox, await outbox.store.register("another worker"))
        twilio.keep("SM1")
        process.clock.now += QUESTIONS[0] + 1
        await until_asked(outbox, twilio)
        assert await status(outbox, stored) == "sent"


async def test_of_two_equal_texts_in_doubt_one_entry_settles_one(process: Processes, twilio: Twilio) -> None:
    twilio.takes = [Drop("request"), Drop("request")]
    async with process() as (outbox, work):
        both = [await enqueued(outbox) for _ in range(2)]
        await work()
        twilio.keep("SM1")
    for _ in range(2):  # processes that know nothing of each other
        async with process() as (outbox, _):
            process.clock.now += QUESTIONS[0] + QUESTIONS[1] + 1
            await until_asked(outbox, twilio)
            ended = sorted([await status(outbox, each) for each in both])
    assert ended == ["in_doubt", "sent"]


@pytest.mark.parametrize("told", [EventType.DELIVERED, EventType.BOUNCED])
async def test_what_was_reported_of_a_sid_that_nobody_knew_counts_once_it_is_found(
    process: Processes, twilio: Twilio, told: EventType
) -> None:
    twilio.takes = [Drop("request")]
    async with process() as (outbox, work):
        stored = await enqueued(outbox)
        await work()
        about = {"channel": "sms", "provider": "twilio", "account": "it", "occurred_at": 0}
        report = Event.model_validate({"type": told, "provider_message_id": "SM1", **about})
        assert await outbox.record(report) is None
        twilio.keep("SM1")
        await work(after=QUESTIONS[0] + 1, asks=1)
        shown = await outbox.get(stored)
    assert (shown.receipt.status, shown.events) == (told.value, (report,))
