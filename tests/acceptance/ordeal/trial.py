"""A trial: two providers for each channel behind a failover route, workers at one outbox, and faults that hit both."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Self

from ordeal.configuration import smtp, twilio, written
from ordeal.processes import Crew, Process
from ordeal.troubled import NO_NUMBER, NOBODY, Condition, Troubled, TroubledMail, TroubledPhones

from postroom import Attachment, Email, Postroom, Receipt, Sms
from postroom.outbox.views import MessageFilter
from postroom.receipts import Status

LEASE = 1.0
GRACE = 10.0
CONCURRENCY = 20
POOL = 8
CONNECTIONS = 2 * POOL + 2 * CONCURRENCY
"""What a worker may have open at once, of its two accounts by SMTP and its two by HTTP."""

USUAL_DELAY = 0.05
SLOW_DELAY = 2.5 * LEASE
EVERYTHING = 10_000_000
MOVING = frozenset({Status.QUEUED, Status.SCHEDULED, Status.RETRYING, Status.SENDING})
"""States in which nothing may stay."""

DAMAGE = {
    "half a body": "UPDATE bodies SET body = substr(body, 1, length(body) / 2) WHERE seq = ?",
    "a body that is no text": "UPDATE bodies SET body = CAST(x'80ff00fe' AS TEXT) WHERE seq = ?",
    "a blob for a body": "UPDATE bodies SET body = x'00010203' WHERE seq = ?",
    "no body": "DELETE FROM bodies WHERE seq = ?",
    "half a progress": "UPDATE messages SET progress = '{\"tried\": [' WHERE seq = ?",
    "nonsense for a receipt": "UPDATE messages SET receipt = 'x' WHERE seq = ?",
    "attachments gone": "DELETE FROM message_files WHERE seq = ?",
}
"""What rots, and the SQL that makes it."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A message that the outbox accepted; `text` is what providers know it by."""

    id: str
    text: str
    deliverable: bool


@dataclass
class Trial:
    """Everything under trial in one folder. Chance comes from `random`, and what was done is in `faults.log`.

    The first `spared` workers are neither killed nor asked to end.
    """

    folder: Path
    random: Random
    workers_wanted: int = 3
    spared: int = 0
    accepted: dict[str, Sent] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)
    done: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    workers: list[Process] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        self.first, self.second = (TroubledMail(), TroubledPhones()), (TroubledMail(), TroubledPhones())
        self.providers: tuple[Troubled, ...] = (*self.first, *self.second)
        self._stack = AsyncExitStack()
        self._number = 0
        self._began = time.monotonic()
        for provider in self.providers:
            await self._stack.enter_async_context(provider)
        self._usual_speed()
        self.config = self._configured()
        self.outbox = self.folder / "outbox.db"
        self.crew = await self._stack.enter_async_context(Crew(self.config))
        self.room = await self._stack.enter_async_context(Postroom.from_config(self.config))
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self._stack.aclose()

    def _configured(self) -> Path:
        held = {"on_unknown": "hold", "concurrency": CONCURRENCY, "timeout": 20}
        accounts = {
            "mail-one": smtp(self.first[0], pool=POOL, final_timeout=20, **held),
            "mail-two": smtp(self.second[0], pool=POOL, final_timeout=20, **held),
            "text-one": twilio(self.first[1], **held),
            "text-two": twilio(self.second[1], **held),
        }
        routes = {"email": ["mail-one", "mail-two"], "sms": ["text-one", "text-two"]}
        times = {"lease": f"{LEASE:g}s", "grace": f"{GRACE:g}s", "retry_first": "100ms", "retry_most": "2s"}
        return written(self.folder, accounts, routes=routes, **{**times, **self.settings})

    # --- the load

    @property
    def copies(self) -> Counter[str]:
        """How often each message was taken, by its text."""
        found: Counter[str] = Counter()
        for provider in self.providers:
            found.update(arrival.text for arrival in provider.arrivals)
        return found

    @property
    def arrived(self) -> int:
        return sum(len(provider.arrivals) for provider in self.providers)

    async def accept(self, count: int) -> None:
        """Have `count` messages accepted; what is not is offered again under its key, so that none is in twice."""
        open_ = {message.idempotency_key: message for message in (self._message() for _ in range(count))}
        while open_:
            for message, result in zip(list(open_.values()), await self._offered(list(open_.values())), strict=True):
                if isinstance(result, str):
                    text = message.subject if isinstance(message, Email) else message.body
                    assert text
                    deliverable = not message.recipients[0].startswith((NOBODY, NO_NUMBER))
                    self.accepted[result] = Sent(result, text, deliverable)
                    del open_[message.idempotency_key]

    async def _offered(self, messages: list[Email | Sms]) -> list[object]:
        """Return for each message its id, or why it was not accepted."""
        try:
            results = await self.room.enqueue_many(messages)
            return [result.id if isinstance(result, Receipt) else result for result in results]
        except Exception as error:  # noqa: BLE001 - whatever keeps the outbox from accepting
            self.note("not accepted", error=repr(error))
            await asyncio.sleep(0.1)
            return [error] * len(messages)

    def _message(self) -> Email | Sms:
        self._number += 1
        number, text = self._number, f"message {self._number}"
        refused = self.random.random() < 0.01
        if number % 2:
            to = f"{NOBODY if refused else 'n'}{number}@example.org"
            files = [Attachment(filename="a.txt", content=text.encode())] if number % 10 == 1 else []
            return Email(to=to, subject=text, text="x" * 500, attachments=files, idempotency_key=text)
        return Sms(to=f"{NO_NUMBER if refused else '+1212200'}{number:04d}"[:16], body=text, idempotency_key=text)

    # --- the faults

    def note(self, fault: str, **details: Any) -> None:
        """Write down what was done, and when."""
        self.done[fault] += 1
        line = {"at": round(time.monotonic() - self._began, 3), "arrived": self.arrived, "fault": fault, **details}
        with (self.folder / "faults.log").open("a") as log:
            log.write(f"{json.dumps(line)}\n")

    async def start_workers(self) -> None:
        while len(self.workers) < self.workers_wanted:
            self.workers.append(await self.new_worker())

    async def new_worker(self) -> Process:
        """`postroom worker`, at work."""
        return await self.crew.command("worker", begins="delivering what is in")

    async def kill(self) -> None:
        """SIGKILL to one worker, and another in its place."""
        worker = self.workers.pop(self.random.randrange(self.spared, len(self.workers)))
        await asyncio.sleep(self.random.uniform(0, 0.03))
        await worker.kill()
        self.note("kill", pid=worker.pid)
        await self.start_workers()

    async def freeze(self) -> None:
        """SIGSTOP to one worker until others have taken it for dead, and SIGCONT."""
        worker = self.random.choice(self.workers)
        worker.signal(signal.SIGSTOP)
        seconds = self.random.uniform(1.5, 3.0) * LEASE
        self.note("freeze", pid=worker.pid, seconds=seconds)
        await asyncio.sleep(seconds)
        worker.signal(signal.SIGCONT)

    async def roll(self) -> None:
        """SIGTERM to one worker after the other, each with its successor at work, while providers are slow."""
        for provider in self.providers:
            provider.delay = SLOW_DELAY
        await asyncio.sleep(0.2)
        for worker in self.workers[self.spared :]:
            self.workers.append(await self.new_worker())
            self.workers.remove(worker)
            worker.signal(signal.SIGTERM)
            code = await worker.ended()
            self.note("roll", pid=worker.pid, code=code)
            if code != 0:
                self.broken.append(f"a worker that was asked to end did so with {code}")
        self._usual_speed()

    async def lock(self) -> None:
        """Another program holds the file's write lock for some leases."""
        seconds = self.random.uniform(2.0, 4.0) * LEASE
        with suppress(sqlite3.OperationalError):
            await asyncio.to_thread(self._lock, seconds)
            self.note("lock", seconds=seconds)

    def _lock(self, seconds: float) -> None:
        with closing(sqlite3.connect(self.outbox, isolation_level=None, timeout=30)) as foreign:
            foreign.execute("BEGIN IMMEDIATE")
            time.sleep(seconds)
            foreign.execute("ROLLBACK")

    @asynccontextmanager
    async def workers_held_back(self) -> AsyncIterator[None]:
        """No worker takes anything meanwhile, which is shorter than a lease."""
        held = self.workers.copy()
        await asyncio.to_thread(self._stop, held)
        try:
            yield
        finally:
            for worker in held:
                worker.signal(signal.SIGCONT)

    def _stop(self, workers: Sequence[Process]) -> None:
        """SIGSTOP to workers while none of them has the file's write lock."""
        with closing(sqlite3.connect(self.outbox, isolation_level=None, timeout=30)) as foreign:
            foreign.execute("BEGIN IMMEDIATE")
            for worker in workers:
                worker.signal(signal.SIGSTOP)
            foreign.execute("ROLLBACK")

    async def damage(self) -> None:
        """Some rows rot that wait."""
        await asyncio.to_thread(self._damage)

    def _damage(self) -> None:
        with closing(sqlite3.connect(self.outbox, isolation_level=None, timeout=30)) as foreign:
            foreign.execute("BEGIN IMMEDIATE")
            waiting = foreign.execute("SELECT seq, id FROM messages WHERE status IN ('queued', 'retrying')").fetchall()
            for seq, id_ in self.random.sample(waiting, min(4, len(waiting))):
                what = self.random.choice(list(DAMAGE))
                foreign.execute(DAMAGE[what], (seq,))
                self.damaged[id_] = what
                self.note("damage", id=id_, what=what)
            if self.random.random() < 0.5:
                foreign.execute("UPDATE queues SET health = 'x'")
                self.note("damaged health")
            foreign.execute("COMMIT")

    async def trouble(self) -> None:
        """The first provider of each route is well half of the time; in the other half it is not."""
        while True:
            for provider in self.first:
                await provider.become(
                    self.random.choice(list(Condition)) if self.random.random() < 0.5 else Condition.WELL
                )
            await asyncio.sleep(self.random.uniform(0.2, 1.5))

    def _usual_speed(self) -> None:
        for provider in self.providers:
            provider.delay = USUAL_DELAY

    # --- the end

    async def settle(self, patience: float = 60.0) -> None:
        """Wait until nothing moves any more that should; give up when `patience` seconds change nothing."""
        for provider in self.first:
            await provider.become(Condition.WELL)
        before: dict[Status, int] = {}
        since = time.monotonic()
        while time.monotonic() - since < patience:
            states = dict((await self.room.outbox.stats()).states)
            if not any(states.get(state) for state in MOVING):
                break
            if states != before:
                before, since = states, time.monotonic()
            await asyncio.sleep(0.2)
        for worker in self.workers:
            if (code := await worker.stop()) != 0:
                self.broken.append(f"a worker that was asked to end did so with {code}")

    async def judged(self) -> Judgement:
        """Hold what became of each accepted message against what the providers took."""
        listed = await self.room.outbox.list(MessageFilter(limit=EVERYTHING))
        begun = {text for provider in self.providers for text in provider.begun}
        taken = [
            [arrival.text, arrival.name, arrival.at - self._began] for p in self.providers for arrival in p.arrivals
        ]
        (self.folder / "taken.json").write_text(json.dumps(taken))
        return Judgement(self, {line.id: line.status for line in listed}, self.copies, begun)


@dataclass
class Judgement:
    """What became of the messages of a trial, and which promises that breaks."""

    trial: Trial
    statuses: dict[str, Status]
    copies: Counter[str]
    begun: set[str]

    def __post_init__(self) -> None:
        self.lost = [sent for sent in self.trial.accepted.values() if (self._is_lost(sent))]
        self.repeated = [sent for sent in self.trial.accepted.values() if self.copies[sent.text] > 1]
        self.denied = [
            sent
            for sent in self.trial.accepted.values()
            if self.copies[sent.text] and self.statuses.get(sent.id) is Status.FAILED
        ]
        self.in_doubt = [s for s in self.trial.accepted.values() if self.statuses.get(s.id) is Status.IN_DOUBT]
        self.never_begun = [s for s in self.in_doubt if self._was_never_begun(s)]
        self.unknown = len(self.statuses.keys() - self.trial.accepted.keys())

    def _is_lost(self, sent: Sent) -> bool:
        """Whether nobody has it, and nobody was told: it is gone, not settled, or said to be sent."""
        status = self.statuses.get(sent.id)
        if self.copies[sent.text] or status in {Status.IN_DOUBT, Status.HELD}:
            return False
        if (
            status is Status.SUPPRESSED
        ):  # one worker heard that nobody is there, and was given up before it could settle
            return sent.deliverable
        return status is not Status.FAILED or (sent.deliverable and sent.id not in self.trial.damaged)

    def _was_never_begun(self, sent: Sent) -> bool:
        """Whether none of it reached a provider; a damaged message is in doubt since nobody can read what became of it."""
        return not self.copies[sent.text] and sent.text not in self.begun and sent.id not in self.trial.damaged

    @property
    def violations(self) -> list[str]:
        """Each broken promise, in a line."""
        return [*self.trial.broken, *self._lines()]

    def _lines(self) -> Iterator[str]:
        for what, found in {"lost": self.lost, "second copy": self.repeated, "failed, and taken": self.denied}.items():
            for sent in found:
                damage = self.trial.damaged.get(sent.id, "")
                yield f"{what}: {sent.id} {sent.text!r} is {self.statuses.get(sent.id)}, taken {self.copies[sent.text]} times {damage}"
        if self.unknown:
            yield f"{self.unknown} messages in the outbox that nobody was told were accepted"

    def report(self) -> dict[str, Any]:
        """The figures."""
        return {
            "accepted": len(self.trial.accepted),
            "lost": len(self.lost),
            "second copies": sum(self.copies[sent.text] - 1 for sent in self.repeated),
            "failed, and taken": len(self.denied),
            "in doubt": len(self.in_doubt),
            "of these never begun": len(self.never_begun),
            "damaged": len(self.trial.damaged),
            "states": {str(status): count for status, count in Counter(self.statuses.values()).most_common()},
            "faults": dict(self.trial.done),
        }
