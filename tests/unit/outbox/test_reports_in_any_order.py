"""Reports, answers, rescues and searches in any order: what is proven is what a message ends as, and is not done again."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections import defaultdict
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest
from engines.memory import MemoryEngine
from engines.postgres import PostgresEngine
from engines.process import Clock, Engine, Process, SqliteEngine
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from postroom import Accepted, Email, Event, OutboxError, Outcome, Status
from postroom.errors import OutcomeUnknown, ProviderUnavailable
from postroom.outbox.executor import MessageExecutor
from postroom.outbox.records import ClaimedMessage, ClaimLimit, EnqueueResult, Ownership, Settlement
from postroom.outbox.states import SETTLED
from postroom.outbox.views import MessageDetails, MessageFilter
from postroom.plugin import UnknownAttempt

ANN, BOB = "ann@example.org", "bob@example.org"
WHEN = datetime(2027, 1, 1, tzinfo=UTC)
ACCOUNTS = ("asks", "repeats", "holds")
LIMITS = {f"{account}/email": ClaimLimit(3, 1000) for account in ACCOUNTS}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

WHICH = st.integers(0, 1)
TOLD = st.tuples(
    st.sampled_from(["sent", "deferred", "delivered", "bounced", "opened"]), st.booleans(), st.sampled_from([0, -1])
)
"""What a provider reports of a copy: what, whether by our id or by its own, and of which recipient."""

ENDS = ["accepted", "lost", "never came", "refused"]


@dataclass(frozen=True)
class Copy:
    """A message that a provider took, as it names it."""

    sid: str
    account: str
    message: str
    recipients: tuple[str, ...]


class Provider:
    """What is at the other end: takes copies, and lists those that look alike, since all messages are equal."""

    def __init__(self) -> None:
        self.copies: list[Copy] = []
        self.end = "accepted"
        self.listed = 0

    def act(self, account: str) -> Any:
        async def act(message: Email) -> Accepted:
            if self.end == "refused":
                raise ProviderUnavailable(f"{account}: not now")
            if self.end == "never came":
                raise OutcomeUnknown(f"{account}: no answer")
            assert message.id
            copy = Copy(f"SM{len(self.copies)}", account, message.id, message.recipients)
            self.copies.append(copy)
            if self.end == "lost":
                raise OutcomeUnknown(f"{account}: no answer")
            return Accepted(provider_message_id=copy.sid)

        return act

    def found(self, account: str) -> Any:
        async def reconcile(attempt: UnknownAttempt[Any]) -> Accepted | None:
            wanted = attempt.message.recipients
            alike = [copy for copy in self.copies if (copy.account, copy.recipients) == (account, wanted)]
            return Accepted(provider_message_id=alike[self.listed % len(alike)].sid) if alike else None

        return reconcile


class ReportsMachine(RuleBasedStateMachine):
    """Two workers, each between a claim, a hand-over and the result it writes; and reports, whenever they come."""

    def engine(self) -> Engine:
        return SqliteEngine()

    def __init__(self) -> None:
        super().__init__()
        stage = sys.modules["postroom_stage"]
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.clock, self.provider = Clock(), Provider()

        def account(name: str, **more: Any) -> dict[str, Any]:
            script = stage.Script(self.provider.act(name), found=self.provider.found(name))
            return {"provider": "stage", "from": "p@example.org", "script": script, **more}

        config = {
            "accounts": {
                "asks": account("asks", provider="stage-asks"),
                "repeats": account("repeats", on_unknown="retry"),
                "holds": account("holds"),
            },
            "defaults": {"email": "asks"},
            "outbox": {"url": f"sqlite:///{self.folder.name}/o.db", "retry_first": 1, "attempts": 6, "repeats": 3},
        }
        self.process = Process(config, self.engine(), self.clock)
        self.store, self.outbox = self.process.store, self.process.outbox
        self.executor = MessageExecutor(
            self.process.accounts, self.process.router, self.process.settings, clock=self.clock, rng=Random(1)
        )
        self.workers = [self.run(self.store.register("w")) for _ in range(2)]
        self.claimed: defaultdict[int, list[ClaimedMessage]] = defaultdict(list)
        self.results: defaultdict[int, list[Settlement]] = defaultdict(list)
        self.frozen: list[tuple[int, Settlement]] = []
        self.reports: list[Event] = []
        self.accepted: list[str] = []

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    def teardown(self) -> None:
        self.run(self.process.__aexit__())
        self.loop.close()
        self.folder.cleanup()

    def shown(self) -> dict[str, MessageDetails]:
        lines = self.run(self.outbox.list(MessageFilter(limit=1000)))
        return {line.id: self.run(self.outbox.get(line.id)) for line in lines}

    @rule(account=st.sampled_from(ACCOUNTS), to=st.sampled_from([(ANN,), (ANN, BOB)]))
    def accept(self, account: str, to: tuple[str, ...]) -> None:
        [answer] = self.run(self.outbox.add([Email(to=to, text="x", provider=account)]))
        assert isinstance(answer, EnqueueResult)
        self.accepted.append(answer.receipt.id)

    @initialize(accounts=st.lists(st.sampled_from(ACCOUNTS), min_size=2, max_size=4))
    def accept_some(self, accounts: list[str]) -> None:
        for account in accounts:
            self.accept(account, (ANN, BOB) if account == "repeats" else (ANN,))

    @rule(which=WHICH, after=st.sampled_from([0.0, 30.0, 1000.0]), ends=st.lists(st.sampled_from(ENDS), max_size=3))
    def claim(self, which: int, after: float, ends: list[str]) -> None:
        """Some of what is claimed is handed over at once."""
        number = self.workers[which]
        self.clock.now += after
        for entry in self.run(self.store.exchange(number, [], [], LIMITS)).claimed:
            proven = {event.recipient for event in self.run(self.outbox.get(entry.id)).events}
            everyone = entry.message.recipients
            meant = entry.progress.recipients if entry.progress.recipients is not None else everyone
            pending = entry.progress.pending if entry.progress.pending is not None else everyone
            assert not proven & {*meant} & {*pending}, "whoever is proven to be served is tried again"
            self.claimed[number].append(entry)
        for end in ends[: len(self.claimed[number])]:
            self.hand_one_over(number, end)

    @precondition(lambda self: any(self.claimed.values()))
    @rule(end=st.sampled_from(ENDS), told=st.lists(TOLD, max_size=2))
    def hand_over(self, end: str, told: list[tuple[str, bool, int]]) -> None:
        """The provider may report before anybody here has its answer."""
        self.hand_one_over(next(number for number, claimed in self.claimed.items() if claimed), end)
        if end in {"accepted", "lost"}:
            self.report(1, told)

    def hand_one_over(self, number: int, end: str) -> None:
        entry = self.claimed[number].pop(0)
        assert self.run(self.store.begin(number, entry.seq, entry.attempts))
        self.provider.end = end
        settlement, _ = self.run(self.executor.deliver(entry, {}, {}))
        self.results[number].append(settlement)

    @precondition(lambda self: any(self.results.values()))
    @rule(last=st.booleans(), both=st.booleans())
    def write_a_result(self, last: bool, both: bool) -> None:
        number = next(number for number, results in self.results.items() if results)
        results = self.results[number]
        written = [results.pop(-1 if last else 0) for _ in range(2 if both and len(results) > 1 else 1)]
        self.run(self.store.exchange(number, written, [], {}))

    @rule(which=WHICH)
    def die(self, which: int) -> None:
        """A worker freezes with all that it has in hand; the other one takes it over."""
        dead, heir = self.workers[which], self.workers[1 - which]
        beats = self.run(self.store.live_workers())[dead]
        self.results[heir] += [
            self.executor.rescued(entry, {}) for entry in self.run(self.store.rescue(dead, beats, heir))
        ]
        self.frozen += [(dead, settlement) for settlement in self.results.pop(dead, [])]
        self.claimed.pop(dead, None)
        self.workers[which] = self.run(self.store.register("w"))

    @precondition(lambda self: self.frozen)
    @rule()
    def a_frozen_worker_wakes_with_its_answer(self) -> None:
        number, settlement = self.frozen.pop(0)
        self.run(self.store.exchange(number, [settlement], [], {}))

    @precondition(lambda self: self.provider.copies)
    @rule(which=WHICH, listed=st.integers(0, 5))
    def ask(self, which: int, listed: int) -> None:
        """Every entry that may be the message is one that the provider may list."""
        number = self.workers[which]
        self.clock.now += 2000
        self.provider.listed = listed
        for entry in self.run(self.store.claim_in_doubt(number, 2)):

            async def owner_of(sid: str, recipients: tuple[str, ...], entry: ClaimedMessage = entry) -> Ownership:
                found: Ownership = await self.store.ownership(sid, entry, recipients)
                return found

            self.results[number].append(self.run(self.executor.reconcile(entry, {}, owner_of)))

    @precondition(lambda self: self.provider.copies)
    @rule(back=st.integers(1, 4), told=st.lists(TOLD, min_size=1, max_size=3))
    def report(self, back: int, told: list[tuple[str, bool, int]]) -> None:
        copy = self.provider.copies[-min(back, len(self.provider.copies))]
        for type_, by_name, which in told:
            name = {"message_id": copy.message} if by_name else {"provider_message_id": copy.sid}
            about = {"account": copy.account, "recipient": copy.recipients[which], "occurred_at": WHEN}
            event = Event.model_validate({"type": type_, "channel": "email", "provider": "stage", **about, **name})
            self.run(self.outbox.record(event))
            self.reports.append(event)

    @precondition(lambda self: self.accepted)
    @rule(number=st.integers(0, 20))
    def a_person_sends_again(self, number: int) -> None:
        try:
            self.run(self.outbox.retry(self.accepted[number % len(self.accepted)]))
        except OutboxError:
            return

    @invariant()
    def what_is_reported_is_what_becomes_of_it(self) -> None:
        shown = self.shown()
        for details in shown.values():
            if details.receipt.status is not Status.SENDING:
                self.what_a_report_proves_is_what_its_message_is(details)
        self.an_id_settles_one_message_whose_reports_are_with_it(shown)

    def what_a_report_proves_is_what_its_message_is(self, details: MessageDetails) -> None:
        status, types = details.receipt.status, {str(event.type) for event in details.events}
        outcomes = {result.address: result.outcome for result in details.receipt.recipients}
        proven = {event.recipient for event in details.events}
        bounced = {event.recipient for event in details.events if event.type == "bounced"}
        for recipient in proven:
            assert recipient
            assert outcomes[recipient] is (Outcome.PERMANENT if recipient in bounced else Outcome.ACCEPTED)
        if status in SETTLED and bounced:
            assert status is Status.BOUNCED
        elif status in SETTLED and "delivered" in types:
            assert status is Status.DELIVERED
        if details.message and proven >= {*details.message.recipients}:
            assert status in {Status.SENT, Status.DELIVERED, Status.BOUNCED}, "all of it is proven"

    def an_id_settles_one_message_whose_reports_are_with_it(self, shown: dict[str, MessageDetails]) -> None:
        owners: dict[str, str] = {}
        for id_, details in shown.items():
            for sid in {result.provider_message_id for result in details.receipt.recipients}:
                assert sid is None or owners.setdefault(sid, id_) == id_, "one id settled two messages"
        for event in self.reports:
            owner = event.message_id or owners.get(event.provider_message_id or "")
            assert owner is None or event in shown[owner].events


class MemoryReportsMachine(ReportsMachine):
    """The same on the stand-in engine."""

    def engine(self) -> Engine:
        return MemoryEngine()


class PostgresReportsMachine(ReportsMachine):
    """The same on PostgreSQL."""

    def engine(self) -> Engine:
        return PostgresEngine()


_LENGTH = settings(max_examples=80, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck))

TestReports = pytest.mark.usefixtures("stage")(ReportsMachine.TestCase)
TestReports.settings = settings(_LENGTH, max_examples=20)  # each step reads the whole file back
TestMemoryReports = pytest.mark.usefixtures("stage")(MemoryReportsMachine.TestCase)
TestMemoryReports.settings = _LENGTH
TestPostgresReports = pytest.mark.usefixtures("stage")(PostgresReportsMachine.TestCase)
TestPostgresReports.settings = settings(_LENGTH, max_examples=12)
