"""The outbox against a model of it: whatever happens in whatever order, nothing is lost and nothing sent twice."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Coroutine
from pathlib import Path
from random import Random
from typing import Any, Literal

import pytest
from engines.memory import MemoryEngine
from engines.postgres import PostgresEngine
from engines.process import Clock, Engine, Process, SqliteEngine
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from postroom import Email, OutboxError, Receipt, Status
from postroom.outbox.executor import MessageExecutor
from postroom.outbox.records import ClaimedMessage, ClaimLimit, Exchange, Progress, Settlement
from postroom.outbox.states import WAITING
from postroom.outbox.views import MessageFilter
from postroom.receipts import Channel

QUEUE = "a/email"
IN_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""Thousands of short-lived files need not wait for the disk."""

MOST = {QUEUE: ClaimLimit(3, 1000)}


class OutboxMachine(RuleBasedStateMachine):
    """Workers that claim, hand over, settle, crash and come back; a person who interferes; a clock that moves.

    `handed` counts real hand-overs by message: what a provider would have got.
    """

    entries = Bundle("entries")

    def engine(self) -> Engine:
        return SqliteEngine()

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory(dir=IN_MEMORY)
        self.clock = Clock()
        config = {
            "accounts": {"a": {"provider": "memory", "from": "p@example.org"}},
            "outbox": {"url": f"sqlite:///{self.folder.name}/o.db", "retry_first": 10, "attempts": 4, "crashes": 1000},
        }
        self.process = Process(config, self.engine(), self.clock)
        self.store, self.outbox = self.process.store, self.process.outbox
        self.executor = MessageExecutor(
            self.process.accounts, self.process.router, self.process.settings, clock=self.clock, rng=Random(1)
        )
        self.holding: dict[int, dict[str, ClaimedMessage]] = {}
        self.begun: dict[int, set[str]] = {}
        self.workers = [self.register() for _ in range(2)]
        self.handed: Counter[str] = Counter()
        self.accepted: Counter[str] = Counter()
        self.again: Counter[str] = Counter()
        self.model: dict[str, Status] = {}

    def register(self) -> int:
        number: int = self.run(self.store.register("w"))
        self.holding[number], self.begun[number] = {}, set()
        return number

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    def teardown(self) -> None:
        self.run(self.process.__aexit__())
        self.loop.close()
        self.folder.cleanup()

    def status(self, id_: str) -> Status:
        found: Status = self.run(self.outbox.get(id_)).receipt.status
        return found

    @rule(target=entries, priority=st.sampled_from(["high", "normal", "low"]), expires=st.booleans())
    def accept(self, priority: Literal["high", "normal", "low"], expires: bool) -> str:
        [stored] = self.run(self.outbox.add([Email(to="a@example.org", text="x", priority=priority)]))
        id_: str = stored.receipt.id
        self.model[id_] = Status.QUEUED
        return id_

    @rule(which=st.integers(0, 1))
    def claim(self, which: int) -> None:
        number = self.workers[which]
        for entry in self.run(self.store.exchange(number, [], [], MOST)).claimed:
            assert self.model[entry.id] in WAITING
            assert all(entry.id not in held for held in self.holding.values()), "claimed while another has it"
            self.model[entry.id] = Status.SENDING
            self.holding[number][entry.id] = entry

    @rule(which=st.integers(0, 1), end=st.sampled_from(["accepted", "later", "refused", "unknown"]))
    def hand_over_and_settle(self, which: int, end: str) -> None:
        number = self.workers[which]
        if not self.holding[number]:
            return
        id_, entry = self.holding[number].popitem()
        if id_ in self.begun[number]:  # the answer to what was taken for accepted until now
            self.accepted[id_] -= 1
        else:
            self.begin(number, entry)
            self.handed[id_] += 1
        self.accepted[id_] += end in {"accepted", "unknown"}
        self.settle(number, entry, end)

    @rule(which=st.integers(0, 1))
    def hand_over_and_hear_nothing_yet(self, which: int) -> None:
        number = self.workers[which]
        for id_, entry in self.holding[number].items():
            if id_ not in self.begun[number]:
                self.begin(number, entry)
                self.handed[id_] += 1
                self.accepted[id_] += 1
                return

    @rule(which=st.integers(0, 1))
    def an_older_claim_or_another_workers_begins_nothing(self, which: int) -> None:
        number, other = self.workers[which], self.workers[1 - which]
        for entry in self.holding[number].values():
            assert not self.run(self.store.begin(number, entry.seq, entry.attempts - 1))
            assert not self.run(self.store.begin(other, entry.seq, entry.attempts))

    def begin(self, number: int, entry: ClaimedMessage) -> None:
        """Hand nothing over without the storage's word."""
        assert self.run(self.store.begin(number, entry.seq, entry.attempts))
        self.begun[number].add(entry.id)

    def settle(self, number: int, entry: ClaimedMessage, end: str) -> None:
        statuses = {
            "accepted": Status.SENT,
            "later": Status.RETRYING,
            "refused": Status.FAILED,
            "unknown": Status.IN_DOUBT,
        }
        status = statuses[end]
        settlement = Settlement(
            seq=entry.seq,
            attempts=entry.attempts,
            status=status,
            receipt=Receipt(id=entry.id, channel=Channel.EMAIL, status=status, account="a"),
            queue=QUEUE,
            route=entry.route,
            due_at=self.clock.now + 10,
            progress=Progress(),
        )
        [kept] = self.run(self.store.exchange(number, [settlement], [], {})).kept
        owned = self.model[entry.id] is Status.SENDING and number in self.workers
        assert kept or not owned
        self.begun[number].discard(entry.id)
        if kept:
            self.model[entry.id] = status

    @rule(which=st.integers(0, 1), heir_dies_too=st.booleans())
    def die_and_be_taken_over(self, which: int, heir_dies_too: bool) -> None:
        """A worker vanishes; the other one notices, and may die over it. What was not begun is not in doubt."""
        dead, heir = self.workers[which], self.workers[1 - which]
        begun, held = self.begun.pop(dead), self.holding.pop(dead)
        beats = self.run(self.store.live_workers())[dead]
        rescued = self.run(self.store.rescue(dead, beats, heir))
        assert {entry.id for entry in rescued} == set(held)
        assert self.run(self.store.exchange(dead, [], [], MOST)) == Exchange(), "nobody would take it over"
        for entry in held.values():
            assert not self.run(self.store.begin(dead, entry.seq, entry.attempts)), "it was only frozen, and wakes"
        self.workers[which] = self.register()
        if heir_dies_too:
            begun |= self.begun.pop(heir)
            held |= self.holding.pop(heir)
            beats = self.run(self.store.live_workers())[heir]
            heir, rescued = self.workers[which], self.run(self.store.rescue(heir, beats, self.workers[which]))
            self.workers[1 - which] = self.register()
        assert {entry.id for entry in rescued if entry.begun} == begun
        settled = [self.executor.rescued(entry, {}) for entry in rescued]
        assert all(self.run(self.store.exchange(heir, settled, [], {})).kept)
        for settlement in settled:
            id_, status = settlement.receipt.id, settlement.status
            assert (status is Status.IN_DOUBT) == (id_ in begun)
            assert status in {Status.IN_DOUBT, Status.QUEUED}
            self.model[id_] = status

    @rule(which=st.integers(0, 1))
    def a_worker_that_showed_life_is_not_taken_over(self, which: int) -> None:
        alive, heir = self.workers[which], self.workers[1 - which]
        beats = self.run(self.store.live_workers())[alive]
        assert self.run(self.store.heartbeat(alive))
        assert not self.run(self.store.rescue(alive, beats, heir))

    @rule(id_=entries, act=st.sampled_from(["cancel", "hold", "retry", "sent", "failed", "again"]))
    def a_person_interferes(self, id_: str, act: str) -> None:
        calls = {
            "cancel": lambda: self.outbox.cancel(id_),
            "hold": lambda: self.outbox.hold(id_),
            "retry": lambda: self.outbox.retry(id_),
            "sent": lambda: self.outbox.resolve(id_, "sent"),
            "failed": lambda: self.outbox.resolve(id_, "failed"),
            "again": lambda: self.outbox.resolve(id_, "retry"),
        }
        before = self.model[id_]
        try:
            receipt = self.run(calls[act]())
        except OutboxError:
            assert self.status(id_) is before
            return
        if before not in WAITING and receipt.status in WAITING:
            self.again[id_] += 1
        self.model[id_] = receipt.status

    @rule(seconds=st.sampled_from([-3600.0, 1.0, 11.0, 3600.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule()
    def the_file_is_closed_and_opened(self) -> None:
        self.run(self.store.close())

    @invariant()
    def every_accepted_message_is_where_the_model_says(self) -> None:
        stored = {line.id: line.status for line in self.run(self.outbox.list(MessageFilter(limit=10_000)))}
        assert stored == self.model

    @invariant()
    def nobody_gets_a_message_twice_unless_a_person_said_so(self) -> None:
        for id_, times in self.accepted.items():
            assert times <= 1 + self.again[id_]


class MemoryMachine(OutboxMachine):
    """The same on the stand-in engine."""

    def engine(self) -> Engine:
        return MemoryEngine()


pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
"""Each of thousands of steps waits for another thread, which takes long where many others want to run."""


class PostgresMachine(OutboxMachine):
    """The same on PostgreSQL."""

    def engine(self) -> Engine:
        return PostgresEngine()


_LENGTH = settings(max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck))

TestOutboxMachine = OutboxMachine.TestCase
TestOutboxMachine.settings = _LENGTH
TestMemoryMachine = MemoryMachine.TestCase
TestMemoryMachine.settings = _LENGTH
TestPostgresMachine = PostgresMachine.TestCase
TestPostgresMachine.settings = settings(_LENGTH, max_examples=12)  # each makes the tables anew, in a second
