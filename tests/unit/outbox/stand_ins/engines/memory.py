"""A stand-in engine that keeps everything in memory: whatever passes on it needs nothing that only SQLite has."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from postroom.config.outbox import OutboxSettings
from postroom.errors import Outcome, PostroomError
from postroom.events import Event
from postroom.outbox import gcra
from postroom.outbox.account_health import refreshed, troubled
from postroom.outbox.encryption import CredentialCipher
from postroom.outbox.insertion import Insertion
from postroom.outbox.records import (
    NEVER,
    NOW,
    AccountHealth,
    Addressee,
    ClaimedMessage,
    ClaimLimit,
    EnqueueResult,
    Exchange,
    IdKind,
    NewMessage,
    Ownership,
    Progress,
    ProviderId,
    Settlement,
    StoredMessage,
    Suppression,
    account_of,
    queue_of,
)
from postroom.outbox.reports import (
    after_reports,
    decided,
    disproven,
    key_of,
    kind_beside,
    message_after,
    settled,
    subject,
)
from postroom.outbox.serialization import SerializedMessage, load_message, serialize
from postroom.outbox.states import SETTLED, WAITING, Transition, apply
from postroom.outbox.suppression import learned
from postroom.outbox.transitions import (
    OPEN_TO_NEWS,
    Transitioned,
    accepted,
    expired,
    id_taken,
    is_late_news,
    key_conflict,
    replanned,
    teaches,
    unknown_message,
    was_planned_ahead,
)
from postroom.outbox.views import (
    PRIORITIES,
    MessageDetails,
    MessageFilter,
    MessageRow,
    MessageSummary,
    OutboxStats,
    QueueBacklog,
    details_of,
    moment,
    summary_of,
)
from postroom.outcomes import SuppressionReason
from postroom.receipts import Channel, Receipt, Status

ASKED_AGAIN_AFTER = 60.0


class NoCipher(CredentialCipher):
    """Memory is nobody's to read."""

    def encrypt(self, options: Mapping[str, str], message_id: str) -> bytes:
        del message_id
        return json.dumps(dict(options)).encode()

    def decrypt(self, sealed: bytes, message_id: str) -> dict[str, str]:
        del message_id
        found: dict[str, str] = json.loads(sealed)
        return found


@dataclass
class Row:
    """One message."""

    seq: int
    text: SerializedMessage
    queue: str
    route: str
    status: Status
    due_at: float
    created_at: float
    progress: Progress
    receipt: Receipt | None = None
    owner: int | None = None
    attempts: int = 0
    crashes: int = 0
    begun: bool = False
    begun_at: float = 0.0
    settled_at: float | None = None
    has_body: bool = True

    @property
    def new(self) -> NewMessage:
        return self.text.new

    @property
    def id(self) -> str:
        assert self.new.message.id
        return self.new.message.id

    @property
    def priority(self) -> int:
        return PRIORITIES.index(self.new.message.priority)

    @property
    def channel(self) -> Channel:
        return self.new.message.channel_name

    def receipt_now(self) -> Receipt:
        receipt = self.receipt or Receipt(
            id=self.id, channel=self.channel, status=self.status, account=account_of(self.queue)
        )
        return receipt.model_copy(update={"status": self.status})

    def stored(self) -> StoredMessage:
        credentials = bool(self.text.credentials)
        recipients = self.new.message.recipients if self.has_body else ()
        return StoredMessage(
            self.seq,
            self.id,
            self.queue,
            self.receipt_now(),
            self.progress,
            self.has_body,
            credentials,
            self.due_at,
            recipients,
            self.new.expires_at,
        )

    def claimed(self) -> ClaimedMessage:
        options = json.loads(self.text.credentials) if self.text.credentials else {}
        files = [content for _, content in self.text.files]
        return ClaimedMessage(
            seq=self.seq,
            id=self.id,
            status=self.status,
            queue=self.queue,
            route=self.route,
            message=load_message(self.channel, self.text.body, files.__getitem__, options, self.id),
            attempts=self.attempts,
            crashes=self.crashes,
            expires_at=self.new.expires_at,
            begun_at=self.begun_at,
            created_at=moment(self.created_at),
            single_round=self.new.single_round,
            size=self.text.size,
            progress=self.progress,
            receipt=self.receipt,
            begun=self.begun,
        )

    def row(self) -> MessageRow:
        files = [content for _, content in self.text.files]
        body = load_message(self.channel, self.text.body, files.__getitem__, {}, self.id) if self.has_body else None
        return MessageRow(
            seq=self.seq,
            id=self.id,
            channel=self.channel,
            status=self.status,
            queue=self.queue,
            route=self.route,
            priority=self.priority,
            due_at=self.due_at,
            expires_at=self.new.expires_at,
            attempts=self.attempts,
            crashes=self.crashes,
            begun_at=self.begun_at,
            created_at=self.created_at,
            settled_at=self.settled_at,
            receipt=self.receipt_now(),
            message=body,
        )

    def may_move(self) -> bool:
        doubted = any(result.outcome is Outcome.UNKNOWN for result in self.receipt_now().recipients)
        return not (doubted or self.progress.tried)

    def settle(self, now: float) -> None:
        self.settled_at = now if self.status in SETTLED else None
        if self.status in SETTLED:
            self.text = replace(self.text, credentials=None)


@dataclass
class Report:
    """What a provider reported, and the message it is about as far as that is known."""

    event: Event
    seq: int | None
    received_at: float


@dataclass
class Memory:
    """What all processes share."""

    rows: dict[int, Row] = field(default_factory=dict)
    keys: dict[tuple[str, str], Row] = field(default_factory=dict)
    reports: dict[str, Report] = field(default_factory=dict)
    provider_ids: dict[tuple[Channel, str, str], dict[int, IdKind]] = field(default_factory=dict)
    workers: dict[int, int] = field(default_factory=dict)
    starts: dict[str, float] = field(default_factory=dict)
    health: dict[str, AccountHealth] = field(default_factory=dict)
    suppressions: dict[tuple[str, str, str, str], Suppression] = field(default_factory=dict)
    last_seq: int = 0
    last_worker: int = 0
    version: int = 0
    written: asyncio.Event = field(default_factory=asyncio.Event)

    def wrote(self) -> None:
        self.version += 1
        self.written.set()
        self.written = asyncio.Event()


class MemoryStore:
    """See `postroom.outbox.storage.Store`. Nothing here waits, so each method is a transaction."""

    def __init__(self, memory: Memory, clock: Callable[[], float]) -> None:
        self._memory = memory
        self._clock = clock

    @property
    def clock(self) -> Callable[[], float]:
        return self._clock

    async def open(self) -> None:
        return

    async def close(self) -> None:
        return

    async def insert(self, messages: Sequence[NewMessage]) -> list[EnqueueResult | PostroomError]:
        answers = [self._inserted(serialize(new, NoCipher(Path()), b"salt")) for new in messages]
        self._memory.wrote()
        return answers

    async def insertion(
        self, messages: Sequence[NewMessage], connection: object
    ) -> Insertion[list[EnqueueResult | PostroomError]]:
        raise TypeError(f"memory has no connections, and none like {connection!r}")

    async def used_keys(self, keys: Sequence[str], *, tenant: str) -> frozenset[str]:
        return frozenset(key for key in keys if (tenant, key) in self._memory.keys)

    async def transition(
        self, id_: str, transition: Transition, *, tenant: str | None = None, note: str = "", held_until: float = NOW
    ) -> Receipt:
        row = self._by_id(id_, tenant)
        if row is None:
            raise unknown_message(id_)
        message, events, now = row.stored(), self._events(row.seq), self._clock()
        by_tenant = tenant is not None
        after = decided(message, transition, note, events, now=now, by_tenant=by_tenant, held_until=held_until)
        return self._moved(row, after)

    async def record_event(self, event: Event, suppression: Suppression | None = None) -> Receipt | None:
        if event.fingerprint in self._memory.reports:
            return None
        seq = subject(event, self._named(event), self._holders(event))
        self._memory.reports[event.fingerprint] = Report(event, seq, self._clock())
        row = None if seq is None else self._memory.rows[seq]
        if suppression and teaches(event, row.stored() if row else None):
            await self.add_suppression(suppression)
        if row is None:
            return None
        after = after_reports(row.stored(), self._events(row.seq))
        return row.receipt_now() if after is None else self._moved(row, after)

    async def compact(self) -> tuple[int, int]:
        return 0, 0

    async def purge(self, where: MessageFilter) -> int:
        lines = await self.list(replace(where, limit=10**9))
        settled = [line for line in lines if line.status in SETTLED]
        for line in settled:
            self._drop_key(self._memory.rows.pop(line.seq))
            for holders in self._memory.provider_ids.values():
                holders.pop(line.seq, None)
        return len(settled)

    async def due_queues(self) -> Mapping[str, float]:
        due: dict[str, float] = {}
        for row in self._waiting():
            due[row.queue] = min(due.get(row.queue, NEVER), row.due_at)
        return due

    async def exchange(
        self,
        worker: int,
        settlements: Sequence[Settlement],
        health: Sequence[AccountHealth],
        limits: Mapping[str, ClaimLimit],
    ) -> Exchange:
        for suppression in (each for done in settlements for each in done.suppressions):
            await self.add_suppression(suppression)
        adopted: list[tuple[Event, Receipt]] = []
        written = [self._settled(worker, done, adopted) for done in settlements]
        self._memory.health |= {each.queue: each for each in health}
        claimed: list[ClaimedMessage] = []
        free_at = NEVER
        for queue, limit in limits.items() if worker in self._memory.workers else ():
            rows, queue_free_at = self._due(queue, limit)
            free_at = min(free_at, queue_free_at)
            claimed += [self._claimed(row, worker) for row in rows]
        self._memory.wrote()
        return Exchange(tuple(written), tuple(claimed), free_at, tuple(adopted))

    async def changed(self, since: int = -1) -> int:
        while self._memory.version == since:
            await self._memory.written.wait()
        return self._memory.version

    async def health(self) -> dict[str, AccountHealth]:
        return dict(self._memory.health)

    async def ownership(self, provider_id: str, message: ClaimedMessage, recipients: Sequence[str]) -> Ownership:
        account, channel = account_of(message.queue), message.message.channel_name
        holders = self._memory.provider_ids.get((channel, account, provider_id), {})
        if any(seq != message.seq and kind is not IdKind.SHARED for seq, kind in holders.items()):
            return Ownership.ANOTHER
        under_way = (r for r in self._memory.rows.values() if r.status is Status.SENDING and r.seq != message.seq)
        like = (r for r in under_way if r.channel is channel and account_of(r.queue) == account)
        uncertain = any({*r.new.message.recipients} & {*recipients} for r in like)
        return Ownership.UNCERTAIN if uncertain else Ownership.FREE

    async def register(self, name: str) -> int:
        del name
        self._memory.last_worker += 1
        self._memory.workers[self._memory.last_worker] = 0
        return self._memory.last_worker

    async def heartbeat(self, worker: int) -> bool:
        if worker not in self._memory.workers:
            return False
        self._memory.workers[worker] += 1
        return True

    async def sign_off(self, worker: int) -> None:
        if not self._owned(worker):
            self._memory.workers.pop(worker, None)

    async def begin(self, worker: int, seq: int, attempts: int) -> bool:
        row = self._memory.rows.get(seq)
        if row is None or worker not in self._memory.workers or (row.owner, row.attempts) != (worker, attempts):
            return False
        row.begun = True
        return True

    async def live_workers(self) -> dict[int, int]:
        return dict(self._memory.workers)

    async def busy_workers(self) -> set[int]:
        return {worker for worker in self._memory.workers if self._owned(worker)}

    async def rescue(self, dead: int, heartbeats: int, worker: int) -> Sequence[ClaimedMessage]:
        workers = self._memory.workers
        if worker not in workers or workers.get(dead) != heartbeats:
            return ()
        del workers[dead]
        rows = self._owned(dead)
        for row in rows:
            row.owner, row.crashes = worker, row.crashes + 1
        return [row.claimed() for row in rows]

    async def claim_in_doubt(self, worker: int, limit: int) -> Sequence[ClaimedMessage]:
        now = self._clock()
        rows = [row for row in self._memory.rows.values() if row.status is Status.IN_DOUBT and row.due_at <= now]
        for row in rows[:limit]:
            row.owner, row.due_at = worker, now + ASKED_AGAIN_AFTER
        return [row.claimed() for row in rows[:limit]]

    async def claim_lost(self, worker: int, limit: int) -> Sequence[ClaimedMessage]:
        return []

    async def expire(self, limit: int) -> Sequence[Receipt]:
        over = [row for row in self._waiting() if row.new.expires_at <= self._clock()]
        return [self._moved(row, expired(row.stored())) for row in over[:limit]]

    async def replan(self, longest: float, limit: int) -> int:
        now, rows = self._clock(), self._memory.rows.values()
        ahead = [row for row in rows if was_planned_ahead(row.status, row.due_at, row.begun_at, now)][:limit]
        for row in ahead:
            row.due_at, row.begun_at = replanned(row.due_at, row.begun_at, now, longest), now
        return len(ahead)

    async def waiting_routes(self, queue: str) -> Sequence[str]:
        return sorted({row.route for row in self._waiting(queue)})

    async def reroute(self, queue: str, route: str, other: str, limit: int) -> int:
        rows = [row for row in self._waiting(queue) if row.route == route and row.may_move()][:limit]
        for row in rows:
            row.queue = other
        return len(rows)

    async def prune(self, before: float, limit: int) -> int:
        rows = [r for r in self._memory.rows.values() if r.has_body and r.settled_at and r.settled_at <= before]
        for row in rows[:limit]:
            row.has_body = False
            self._drop_key(row)
        return len(rows[:limit])

    async def forget_orphans(self, before: float, limit: int) -> int:
        reports = self._memory.reports
        old = [name for name, each in reports.items() if each.seq is None and key_of(each.event)]
        old = [name for name in old if reports[name].received_at <= before][:limit]
        for name in old:
            del reports[name]
        return len(old)

    async def find(self, id_: str, *, tenant: str | None = None, contents: bool = True) -> MessageDetails | None:
        row = self._by_id(id_, tenant)
        return details_of(row.row(), self._events(row.seq)) if row else None

    async def receipt(self, id_: str) -> tuple[Receipt, str] | None:
        row = self._by_id(id_)
        return (row.receipt_now(), row.queue) if row else None

    async def stats(self) -> OutboxStats:
        rows = self._memory.rows.values()
        queues = [row.queue for row in self._waiting()]
        oldest = min((row.created_at for row in self._waiting() if row.due_at < NEVER), default=None)
        return OutboxStats(
            states={status: count for status in Status if (count := sum(row.status is status for row in rows))},
            waiting=tuple(QueueBacklog(queue=queue, messages=queues.count(queue)) for queue in sorted({*queues})),
            accounts=tuple(self._memory.health.values()),
            workers=len(self._memory.workers),
            oldest_waiting=moment(oldest) if oldest else None,
        )

    async def resume(self, account: str) -> bool:
        mine = [each for queue, each in self._memory.health.items() if account_of(queue) == account and troubled(each)]
        self._memory.health |= {each.queue: refreshed(each) for each in mine}
        self._memory.wrote()
        return bool(mine)

    async def add_suppression(self, suppression: Suppression) -> bool:
        return self._suppress(suppression)

    def _suppress(self, suppression: Suppression) -> bool:
        place = (suppression.channel, suppression.address, suppression.category, suppression.reason)
        known = self._memory.suppressions.get(place)
        if known and known.since > suppression.since:
            return False
        self._memory.suppressions[place] = suppression
        return True

    async def list_suppressions(self, channel: Channel | None, after: str, limit: int) -> list[Suppression]:
        held = filter(self._holds, self._memory.suppressions.values())
        found = [each for each in held if channel in {None, each.channel} and each.place > after]
        return sorted(found, key=lambda each: each.place)[:limit]

    async def match_suppressions(self, addressees: Iterable[Addressee]) -> dict[int, Suppression]:
        found = {}
        for number, (channel, address, category) in enumerate(addressees):
            for about, reason in itertools.product(("", category), SuppressionReason):
                held = self._memory.suppressions.get((channel, address, about, reason))
                if held and self._holds(held):
                    found[number] = held
        return found

    def _holds(self, entry: Suppression) -> bool:
        by_hand = self._memory.suppressions.get((entry.channel, entry.address, entry.category, "manual"))
        return not (entry.lifted or (by_hand and by_hand.lifted and by_hand.since >= entry.since))

    def _inserted(self, text: SerializedMessage) -> EnqueueResult | PostroomError:
        message, memory = text.new.message, self._memory
        assert message.id
        key = (text.new.tenant, message.idempotency_key or "")
        if message.idempotency_key and (first := memory.keys.get(key)):
            if first.text.fingerprint != text.fingerprint:
                return key_conflict(text.new, first.id)
            return EnqueueResult(first.receipt_now(), first.new.status, replayed=True)
        if self._by_id(message.id):
            return id_taken(message.id)
        memory.last_seq += 1
        new, progress = text.new, Progress(recipients=text.new.recipients, held_until=text.new.held_until)
        row = Row(memory.last_seq, text, new.queue, new.route, new.status, new.due_at, self._clock(), progress)
        memory.rows[row.seq] = row
        if message.idempotency_key:
            memory.keys[key] = row
        return accepted(new)

    def _by_id(self, id_: str, tenant: str | None = None) -> Row | None:
        found = (row for row in self._memory.rows.values() if row.id == id_)
        row = next(found, None)
        return row if row and tenant in {None, row.new.tenant} else None

    def _waiting(self, queue: str | None = None) -> Iterator[Row]:
        return (r for r in self._memory.rows.values() if r.status in WAITING and queue in {None, r.queue})

    def _owned(self, worker: int) -> list[Row]:
        return [r for r in self._memory.rows.values() if r.status is Status.SENDING and r.owner == worker]

    def _due(self, queue: str, limit: ClaimLimit) -> tuple[list[Row], float]:
        now, rows = self._clock(), self._memory.rows.values()
        under_way = sum(row.queue == queue and row.status is Status.SENDING for row in rows)
        free, free_at = min(limit.limit, limit.most_under_way - under_way), NEVER
        if free > 0 and limit.rate:
            allowed = gcra.allowed(self._memory.starts.get(queue, 0.0), limit.rate, now)
            free, free_at = min(free, allowed.messages), allowed.free_at
        due = [row for row in self._waiting(queue) if row.due_at <= now]
        due.sort(key=lambda row: (row.priority, row.due_at == NOW, row.due_at, row.seq))
        taken, size = [], limit.size
        for row in due[: max(free, 0)]:
            if size <= 0:
                break
            size -= row.text.size
            taken.append(row)
        if taken and limit.rate:
            start = self._memory.starts.get(queue, 0.0)
            self._memory.starts[queue] = gcra.advanced(start, limit.rate, now, len(taken))
        return taken, free_at

    def _claimed(self, row: Row, worker: int) -> ClaimedMessage:
        row.status = apply(row.status, Transition.CLAIM)
        row.owner, row.attempts, row.begun_at, row.begun = worker, row.attempts + 1, self._clock(), False
        return row.claimed()

    def _settled(self, worker: int, done: Settlement, adopted: list[tuple[Event, Receipt]]) -> Settlement | None:
        row = self._memory.rows.get(done.seq)
        if row is None or row.attempts != done.attempts:
            return None
        if row.owner != worker and not (row.owner is None and row.status in OPEN_TO_NEWS and is_late_news(done)):
            return None
        if not all(self._keep_id(row, each) for each in done.provider_ids) and done.otherwise:
            done = done.otherwise
        new = self._adopted([each.value for each in done.provider_ids])
        done = settled(done, self._events(row.seq))
        adopted += [(event, done.receipt) for event in new]
        for event in new:
            if (lesson := learned(event)) and teaches(event, message_after(done)):
                self._suppress(lesson)
        row.status, row.queue, row.route, row.due_at = done.status, done.queue, done.route, done.due_at
        row.crashes, row.progress, row.receipt, row.owner = done.crashes, done.progress, done.receipt, None
        row.settle(self._clock())
        return done

    def _moved(self, row: Row, after: Transitioned) -> Receipt:
        row.owner = row.owner if row.status is after.status else None
        row.status, row.due_at, row.receipt, row.progress = after.status, after.due_at, after.receipt, after.progress
        row.settle(self._clock())
        self._memory.wrote()
        return after.receipt

    def _keep_id(self, row: Row, new: ProviderId) -> bool:
        """Keep a provider's id; False when it is another's."""
        holders = self._memory.provider_ids.setdefault((row.channel, new.account, new.value), {})
        others = {seq: kind for seq, kind in holders.items() if seq != row.seq}
        kind = kind_beside(new, [*others.values()])
        if kind is None:
            return False
        if others and kind is IdKind.OWN:
            holders.clear()
            for loser in others:
                self._lose(loser, row.seq, new.value)
        elif kind is IdKind.SHARED:
            holders.update(dict.fromkeys(others, kind))
        holders[row.seq] = kind
        return True

    def _lose(self, seq: int, to: int, provider_id: str) -> None:
        for report in self._memory.reports.values():
            if report.seq == seq and key_of(report.event) == provider_id:
                report.seq = to
        loser = self._memory.rows[seq]
        if after := disproven(loser.stored(), provider_id):
            self._moved(loser, after)

    def _adopted(self, provider_ids: Sequence[str]) -> list[Event]:
        found: list[Event] = []
        for report in self._memory.reports.values():
            if report.seq is None and key_of(report.event) in provider_ids:
                report.seq = subject(report.event, None, self._holders(report.event))
                found += [report.event] if report.seq is not None else []
        return found

    def _events(self, seq: int) -> list[Event]:
        return [report.event for report in self._memory.reports.values() if report.seq == seq]

    def _named(self, event: Event) -> int | None:
        """The message with the id that a report names, if it was handed over through the account that reports."""
        account = event.account or ""
        queues = {queue_of(account, event.channel, own_credentials=own) for own in (False, True)}
        for row in self._memory.rows.values():
            tried = row.receipt is not None and any(a.account == account for a in row.receipt.attempts)
            ours = row.id == event.message_id and row.channel == event.channel and row.attempts
            if ours and (not account or row.queue in queues or tried):
                return row.seq
        return None

    def _holders(self, event: Event) -> list[tuple[int, IdKind]]:
        said = (event.channel, event.account or "", key_of(event))
        return [
            holder
            for (channel, account, value), holders in self._memory.provider_ids.items()
            if (channel, account if event.account else "", value) == said
            for holder in sorted(holders.items())
        ]

    def _drop_key(self, row: Row) -> None:
        self._memory.keys = {key: kept for key, kept in self._memory.keys.items() if kept is not row}

    def _matches(self, row: Row, where: MessageFilter) -> bool:
        return (
            (not where.status or row.status in where.status)
            and where.channel in {None, row.channel}
            and where.account in {None, account_of(row.queue)}
            and where.tenant in {None, row.new.tenant}
            and (where.since is None or row.created_at >= where.since)
            and (where.until is None or row.created_at < where.until)
            and (where.before_seq is None or row.seq < where.before_seq)
        )

    async def list(self, where: MessageFilter) -> list[MessageSummary]:
        rows = sorted(self._memory.rows.values(), key=lambda row: -row.seq)
        lines = (summary_of(row.row()) for row in rows if self._matches(row, where))
        found = [line for line in lines if where.to is None or any(where.to in address for address in line.to)]
        return found[: where.limit]


@dataclass
class MemoryEngine:
    """Keeps what its processes store as long as it lives itself."""

    memory: Memory = field(default_factory=Memory)

    def store(self, settings: OutboxSettings, clock: Callable[[], float]) -> MemoryStore:
        del settings
        return MemoryStore(self.memory, clock)
