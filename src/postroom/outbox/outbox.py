"""`Outbox`: accepts messages, shows what became of them, and does what a person decides."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from postroom.addresses import Address
from postroom.delivery.attempt import check_sendable, message_id_for, unsupported
from postroom.delivery.bulk import of_right_type
from postroom.delivery.dispatcher import sender_of
from postroom.errors import ConfigError, OutboxError, PluginError, PostroomError
from postroom.messages import Email, Message, Sms, new_id
from postroom.outbox.account_health import in_cooldown, order_by_health
from postroom.outbox.next_hop import next_hop
from postroom.outbox.records import NEVER, NOW, NewMessage, account_of
from postroom.outbox.states import Transition
from postroom.outbox.suppression import learned, suppressions_of
from postroom.outbox.transitions import unknown_message
from postroom.outbox.views import MessageFilter
from postroom.outbox.worker import Worker
from postroom.receipts import Channel, Receipt, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from postroom.delivery.accounts import Accounts
    from postroom.delivery.bulk import Result
    from postroom.delivery.failover import Order
    from postroom.delivery.progress import DeliveryProgress
    from postroom.delivery.routing import Router
    from postroom.errors import Suppressed
    from postroom.events import Event
    from postroom.outbox.executor import MessageExecutor
    from postroom.outbox.insertion import Insertion
    from postroom.outbox.next_hop import Hop
    from postroom.outbox.records import AccountHealth, EnqueueResult
    from postroom.outbox.storage import Store
    from postroom.outbox.suppression import SuppressionList
    from postroom.outbox.views import MessageDetails, MessageSummary, OutboxStats
    from postroom.outbox.worker import StopSignal

_log = logging.getLogger("postroom.outbox")

HEALTH_AGE = 0.5
"""Seconds for which what is known of accounts is good enough to choose one."""

LONGEST_WAIT = 60.0
"""Seconds that `send` waits for the first round of attempts."""

_STILL_GOING = frozenset({Status.QUEUED, Status.SENDING, Status.SCHEDULED})
_POLL_INTERVAL = 0.1


class Outbox:
    """The durable way of a message. Everything it says was accepted is on disk.

    Get it from `Postroom.outbox`. Its methods raise OutboxError when the store cannot be used, MessageNotFound for
    an unknown id, and StateConflict when the message is in a state where that cannot be done.
    """

    def __init__(self, store: Store, executor: MessageExecutor, suppressions: SuppressionList) -> None:
        self.store = store
        self.suppressions = suppressions
        self._executor = executor
        self._router: Router = executor.router
        self._accounts: Accounts = executor.accounts
        self._settings = executor.settings
        self._health: dict[str, AccountHealth] = {}
        self._health_read = float("-inf")
        self._worker: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._working: set[asyncio.Future[None]] = set()

    async def add(
        self,
        messages: Sequence[Email | Sms],
        *,
        tenant: str = "",
        single_round: bool = False,
        held_until: Sequence[float] = (),
    ) -> list[EnqueueResult | PostroomError]:
        """Accept messages in one transaction; one answer for each, in their order.

        What is wrong with one message, or with its provider, is its answer and keeps no other back. `tenant`
        says whose they are: idempotency keys count for each tenant alone. `single_round` makes one round of attempts.
        `held_until` has the time (seconds since 1970) until which each is held, 0 for those that are not.
        """
        prepared, entries = await self._prepare(messages, tenant, held_until, single_round=single_round)
        answers = await self.store.insert(entries) if entries else []
        return _merged(prepared, answers)

    async def insertion(self, messages: Sequence[Email | Sms], connection: object) -> Insertion[list[Result]]:
        """Make messages ready to be accepted through a caller's connection; the receipts, as those of `enqueue`.

        What is left is done by the insertion, where that connection may be used.
        """
        prepared, entries = await self._prepare(messages, "", ())
        return (await self.store.insertion(entries, connection)).then(
            lambda answers: [_receipt(answer) for answer in _merged(prepared, answers)]
        )

    async def used_keys(self, messages: Sequence[Email | Sms], *, tenant: str = "") -> frozenset[str]:
        """Return the idempotency keys of these messages that stand for a message already: `add` makes none of those."""
        keys = [message.idempotency_key for message in messages if message.idempotency_key]
        return await self.store.used_keys(keys, tenant=tenant) if keys else frozenset()

    async def enqueue(self, messages: Sequence[Email | Sms], *, connection: object = None) -> list[Result]:
        """Accept messages as `add` does, or through a caller's connection, and return their receipts."""
        if connection is not None:
            return await (await self.insertion(messages, connection)).run_awaiting()
        return [_receipt(answer) for answer in await self.add(messages)]

    async def get(self, message_id: str, *, tenant: str | None = None, contents: bool = True) -> MessageDetails:
        """Return all that is known of one message; its attachments and large texts only with `contents`."""
        found = await self.store.find(message_id, tenant=tenant, contents=contents)
        if found is None:
            raise unknown_message(message_id)
        return found

    async def list(self, where: MessageFilter | None = None) -> list[MessageSummary]:
        """Return messages, the newest first; all, or those that `where` names."""
        return await self.store.list(where or MessageFilter())

    async def stats(self) -> OutboxStats:
        """Count messages by state and account, and tell the health of accounts."""
        return await self.store.stats()

    async def cancel(self, message_id: str, *, tenant: str | None = None) -> Receipt:
        """Stop a message that still waits."""
        return await self._change(message_id, Transition.CANCEL, tenant)

    async def hold(self, message_id: str, *, tenant: str | None = None) -> Receipt:
        """Keep a message that still waits until `retry` lets it go."""
        return await self._change(message_id, Transition.HOLD, tenant)

    async def retry(self, message_id: str, *, tenant: str | None = None, held_until: float = NOW) -> Receipt:
        """Send again now what failed, expired, was cancelled, is held, waits, or is in doubt.

        Those recipients who were accepted are left out. Raises StateConflict for one whose time is over: it would
        expire at once. For a `tenant` what a quota or an operator holds stays held,
        whatever was done with it meanwhile. It waits until `held_until` (seconds since 1970) where that is given.
        """
        return await self._change(message_id, Transition.REQUEUE, tenant, held_until=held_until)

    async def resolve(
        self,
        message_id: str,
        outcome: Literal["sent", "failed", "retry"],
        *,
        note: str = "",
        tenant: str | None = None,
        held_until: float = NOW,
    ) -> Receipt:
        """Settle a message in doubt: it was `sent`, it was not and is given up (`failed`), or is to `retry`.

        To `retry` is as the method of that name.
        """
        return await self._change(message_id, _RESOLUTIONS[outcome], tenant, note, held_until)

    async def resume(self, account: str) -> bool:
        """Try an account that is paused or in cooldown again now; False when it was neither."""
        self._router.account(account)
        return await self.store.resume(account)

    async def purge(self, where: MessageFilter) -> int:
        """Remove settled messages and all that is known of them; returns how many."""
        return await self.store.purge(where)

    async def migrate(self) -> None:
        """Make the tables, or bring them to this version; opening an outbox does so too.

        Raises OutboxError where that cannot be done, or the tables are a newer version's or another program's.
        """
        await self.store.open()

    async def compact(self) -> tuple[int, int]:
        """Give back to the disk what removed messages took; returns the bytes the store took before, and takes now.

        Whoever writes meanwhile waits, and workers stop handing over if that takes longer than their lease. Raises
        OutboxError when the disk has no room for the copy.
        """
        return await self.store.compact()

    async def record(self, event: Event) -> Receipt | None:
        """Keep a provider's report; the receipt of its message, or None when it is known or about none of ours."""
        return await self.store.record_event(event, learned(event, self._settings.stop_languages))

    async def suppressed(self, message: Message) -> dict[str, Suppressed]:
        """Return why a message may not go to some of its recipients."""
        [found] = await self.suppressions.match([message])
        return found

    async def record_all(self, events: Sequence[Event]) -> None:
        """Keep what a provider reports, and notify observers of each event about a message of ours."""
        receipts = await asyncio.gather(*map(self.record, events))
        for event, receipt in zip(events, receipts, strict=True):
            if receipt is not None:
                self._executor.notify(event, receipt)

    async def suppress_refused(self, progress: DeliveryProgress) -> None:
        """Put on the suppression list whom a direct send showed must not be written to.

        A list that cannot be written now costs the send nothing: the provider's next answer says it again.
        """
        try:
            for entry in suppressions_of(progress):
                await self.suppressions.add(entry)
        except OutboxError as error:
            _log.warning("message %s: a recipient could not be put on the suppression list: %s", progress.id, error)

    async def order(self) -> Order:
        """Return the order of accounts by their health, for direct sends."""
        await self._read_health()
        return order_by_health(self._health, self._executor.clock())

    async def work(self, *, stop: StopSignal | None = None, until_empty: bool = False) -> None:
        """Deliver until `stop`, and then let what is under way end; `until_empty`: until nothing is due."""
        ended = asyncio.get_running_loop().create_future()
        self._working.add(ended)
        signal = AnyStop(stop, self._stop) if stop else self._stop
        try:
            await Worker(self.store, self._executor, until_empty=until_empty).run(signal)
        finally:
            self._working.discard(ended)
            self._health_read = float("-inf")
            ended.set_result(None)

    async def send(self, message: Email | Sms) -> Receipt:
        """Store a message, have this process deliver it, and wait for the first round of attempts.

        Returns the receipt, whatever it says; after a minute, or when its account rests, as it is by then.
        Unless the message is `required`, it makes one round only.
        """
        [answer] = await self.add([message], single_round=not message.required)
        if isinstance(answer, PostroomError):
            raise answer
        if answer.replayed and answer.receipt.status not in _STILL_GOING:
            return answer.receipt
        watched = self._executor.wait_for(answer.receipt.id)
        self._start()
        try:
            return await self._first_result(answer.receipt.id, watched)
        finally:
            self._executor.wait_no_longer(answer.receipt.id)

    async def close(self) -> None:
        """Let every `work` end what is under way, and close the store."""
        self._stop.set()
        if self._working:
            await asyncio.wait(set(self._working))
        await self.store.close()

    async def _first_result(self, message_id: str, watched: asyncio.Future[Receipt]) -> Receipt:
        """Wait for a result of ours, or of another process that took the message."""
        assert self._worker
        both: set[asyncio.Future[Any]] = {watched, self._worker}
        end = time.monotonic() + LONGEST_WAIT
        while True:
            await asyncio.wait(both, timeout=_POLL_INTERVAL, return_when=asyncio.FIRST_COMPLETED)
            if watched.done():
                return watched.result()
            if self._worker.done():
                self._worker.result()
            receipt, queue = await self._now(message_id)
            if receipt.status not in _STILL_GOING or time.monotonic() > end or await self._rests(receipt, queue):
                return receipt

    async def _now(self, message_id: str) -> tuple[Receipt, str]:
        found = await self.store.receipt(message_id)
        if found is None:
            raise unknown_message(message_id)
        return found

    async def _rests(self, receipt: Receipt, queue: str) -> bool:
        """Whether a message waits for an account that nothing is tried with now."""
        if receipt.status is not Status.QUEUED:
            return False
        await self._read_health()
        health = self._health.get(queue)
        return health is not None and in_cooldown(health, self._executor.clock())

    def _start(self) -> None:
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self.work(stop=self._stop), name="postroom outbox")

    async def _change(
        self, message_id: str, transition: Transition, tenant: str | None, note: str = "", held_until: float = NOW
    ) -> Receipt:
        return await self.store.transition(message_id, transition, tenant=tenant, note=note, held_until=held_until)

    async def _prepare(
        self, messages: Sequence[Email | Sms], tenant: str, held_until: Sequence[float], *, single_round: bool = False
    ) -> tuple[Sequence[NewMessage | PostroomError], Sequence[NewMessage]]:
        """Return what the store takes of each message, or what is wrong with it; and those alone that it takes."""
        await self._read_health()
        times = held_until or [0.0] * len(messages)
        prepared: list[NewMessage | PostroomError] = []
        for message, until in zip(messages, times, strict=True):
            if len(prepared) % _PREPARED_AT_ONCE == _PREPARED_AT_ONCE - 1:
                await asyncio.sleep(0)
            prepared.append(self._entry_or_error(message, tenant, single_round=single_round, held_until=until))
        return prepared, [entry for entry in prepared if isinstance(entry, NewMessage)]

    async def _read_health(self) -> None:
        now = time.monotonic()
        if now - self._health_read > HEALTH_AGE:
            self._health_read = now
            self._health = await self.store.health()

    def _entry_or_error(
        self, message: Email | Sms, tenant: str, *, single_round: bool, held_until: float
    ) -> NewMessage | PostroomError:
        try:
            return self._entry(of_right_type(message), tenant, single_round=single_round, held_until=held_until)
        except PostroomError as error:
            return error

    def _entry(self, message: Email | Sms, tenant: str, *, single_round: bool, held_until: float) -> NewMessage:
        now = self._executor.clock()
        check_sendable(message, datetime.fromtimestamp(now, UTC))
        hop = next_hop(self._router, message, self._health, now)
        assert hop
        self._refuse_impossible(message, hop)
        self._refuse_unfit_credentials(message, hop)
        later = message.send_at.timestamp() if message.send_at else 0.0
        held = held_until > max(now, later)
        due_at = max(later, held_until) if held or later > now else NOW
        begins = now if due_at >= NEVER else max(now, due_at)
        last = message.expires_at.timestamp() if message.expires_at else begins + self._settings.expires_after
        return NewMessage(
            message=self._identified(message, hop),
            queue=hop.queue,
            route=hop.route,
            status=Status.HELD if held else Status.SCHEDULED if due_at else Status.QUEUED,
            due_at=due_at,
            expires_at=last,
            tenant=tenant,
            single_round=single_round,
            recipients=hop.recipients,
            held_until=held_until,
        )

    def _refuse_impossible(self, message: Message, hop: Hop) -> None:
        """Raise UnsupportedFeature when no account of the route can express the message."""
        missing: frozenset[str] = frozenset()
        targets = self._router.targets(hop.route, message.channel_name)
        for target in targets:
            try:
                able = self._accounts.capabilities(target, message.channel_name).features
                lenient = self._accounts.settings(target, message.channel_name).unsupported == "warn"
            except (ConfigError, PluginError):
                return  # only workers need to have the plugin and the account's secrets
            missing = message.features - able - {"send_at"}
            if not missing or lenient:
                return
        raise unsupported(targets[-1].name, targets[-1].provider, missing)

    def _refuse_unfit_credentials(self, message: Message, hop: Hop) -> None:
        """Raise ConfigError when the credentials that a message brings have the form of no account of its route."""
        unfit: ConfigError | None = None
        for target in self._router.targets(hop.route, message.channel_name) if message.options else ():
            try:
                self._accounts.settings_for(target, message)
            except ConfigError as error:
                if (error.path or "").partition(".")[0] != "options":
                    return  # only workers need to have the account's own settings
                unfit = unfit or error
            except PluginError:
                return  # only workers need to have the plugin
            else:
                return
        if unfit is not None:
            raise unfit

    def _identified(self, message: Message, hop: Hop) -> Message:
        """Give a message its id, and an e-mail the Message-ID that stays, whoever sends it in the end."""
        id_ = message.id or new_id()
        if isinstance(message, Email) and not message.message_id:
            sender = message.from_ or self._account_sender(hop)
            if sender:
                return message.stamped(id=id_, message_id=message_id_for(id_, sender))
        return message.stamped(id=id_)

    def _account_sender(self, hop: Hop) -> Address | None:
        """The account's sender, if its settings can be read here: only workers need to know its secrets."""
        account = account_of(hop.queue)
        try:
            settings = self._accounts.settings(self._router.account(account), Channel.EMAIL)
            sender = sender_of(account, Channel.EMAIL, settings.from_)
        except ConfigError:
            return None
        return sender if isinstance(sender, Address) else None


def _merged(
    prepared: Sequence[NewMessage | PostroomError], answers: Sequence[EnqueueResult | PostroomError]
) -> list[EnqueueResult | PostroomError]:
    """The store's answers, and what was wrong with the others, in the order of the messages."""
    if len(answers) == len(prepared):
        return list(answers)
    left = iter(answers)
    return [next(left) if isinstance(entry, NewMessage) else entry for entry in prepared]


def _receipt(answer: EnqueueResult | PostroomError) -> Result:
    return answer if isinstance(answer, PostroomError) else answer.receipt


class AnyStop:
    """Set as soon as any of its signals is."""

    def __init__(self, *signals: StopSignal) -> None:
        self._signals = signals

    def is_set(self) -> bool:
        return any(signal.is_set() for signal in self._signals)

    async def wait(self) -> object:
        waits = [asyncio.ensure_future(signal.wait()) for signal in self._signals]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return True


_PREPARED_AT_ONCE = 50
"""Messages looked at before others in the loop may go on: some five milliseconds."""

_RESOLUTIONS = {"sent": Transition.LEARN_SENT, "failed": Transition.LEARN_FAILED, "retry": Transition.LEARN_NOT_TAKEN}
