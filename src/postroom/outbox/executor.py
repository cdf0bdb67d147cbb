"""The executor: a claimed message is handed over, or asked about, and becomes a `Settlement`.

This is the same for every engine. The engine says which message is due.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from postroom.delivery.accounts import Target
from postroom.delivery.attempt import attempt, prepare, split_for_transport
from postroom.delivery.dispatcher import AttemptResult
from postroom.delivery.progress import DeliveryProgress
from postroom.errors import OutboxError, Outcome, OutcomeUnknown, PluginError, PostroomError
from postroom.outbox.account_health import HealthSample, health_sample_of, unanswered
from postroom.outbox.outcome_policy import OutcomePolicy
from postroom.outbox.records import Ownership, Settlement, account_of, brings_credentials
from postroom.outbox.reports import PROOFS, settled
from postroom.outbox.suppression import suppressions_of
from postroom.plugin.confirmation import Withdrawn
from postroom.plugin.transport import UnknownAttempt
from postroom.receipts import Accepted, Channel, NotTaken, Receipt, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from postroom.config.outbox import OutboxSettings
    from postroom.delivery.accounts import Accounts
    from postroom.delivery.observers import Observers
    from postroom.delivery.routing import Router
    from postroom.events import Event
    from postroom.messages import Message
    from postroom.outbox.records import AccountHealth, ClaimedMessage, UnreadableMessage
    from postroom.plugin.confirmation import Confirm

_log = logging.getLogger("postroom.outbox")

SuppressedRecipients = Mapping[str, PostroomError]
"""Why a message may not go to some of its recipients."""

OwnerOf = Callable[[str, tuple[str, ...]], Awaitable[Ownership]]

UNOPENED = 1
"""Messages taken for an account whose transport is not open yet."""

OWN_AT_ONCE = 50
"""Messages with credentials of their own under way at once, for each provider."""


class MessageExecutor:
    """Hands messages over, and answers with what is next for each.

    `screen` says of messages which recipients must not be written to, and why. `clock` gives seconds since 1970.
    """

    def __init__(
        self,
        accounts: Accounts,
        router: Router,
        settings: OutboxSettings,
        *,
        observers: Observers | None = None,
        screen: Callable[[Sequence[Message]], Awaitable[Sequence[SuppressedRecipients]]] | None = None,
        clock: Callable[[], float] = time.time,
        rng: random.Random | None = None,
    ) -> None:
        self.accounts = accounts
        self.router = router
        self.settings = settings
        self.clock = clock
        self.rng = rng or random.Random()  # noqa: S311 - spreads load, guards nothing
        self._decide = OutcomePolicy(accounts, router, settings, clock=clock, rng=self.rng)
        self._screen = screen
        self._observers = observers
        self._watched: dict[str, asyncio.Future[Receipt]] = {}

    def limits(self, queue: str) -> tuple[int, float | None]:
        """Return how many messages the account of `queue` can have under way, and how many may start a second.

        Before its transport is open that is one, which opens it. Raises PluginError or ConfigError when the
        account cannot be used, OutboxError for what is no queue.
        """
        account, _, rest = queue.partition("/")
        name, _, own = rest.partition("/")
        if name not in set(Channel):
            raise OutboxError(f"{queue!r} is the name of no queue; what waits there will be set aside")
        channel = Channel(name)
        target = self.router.account(account)
        if own:
            return OWN_AT_ONCE, None
        settings = self.accounts.settings(target, channel)
        dispatcher = self.accounts.opened(target, channel)
        return (dispatcher.transport.at_once if dispatcher else UNOPENED), settings.rate_per_second

    async def suppressed(self, entries: Sequence[ClaimedMessage]) -> Sequence[SuppressedRecipients]:
        """Return for each message who must not be written to; to be asked right before it is delivered."""
        if not self._screen or not entries:
            return [{}] * len(entries)
        return await self._screen([entry.message for entry in entries])

    async def deliver(
        self,
        entry: ClaimedMessage,
        health: Mapping[str, AccountHealth],
        suppressed: SuppressedRecipients,
        confirm: Confirm | None = None,
    ) -> tuple[Settlement, HealthSample | None]:
        """Hand a claimed message over to the account of its queue, once; to nobody whom `suppressed` name.

        What `confirm` withdraws before anything was sent goes back, should it be this worker's after all.
        """
        delivery = _delivery(entry)
        if entry.expires_at <= self.clock():
            return self._decide.expired(entry, delivery), None
        recipients = delivery.pending(_meant(entry))
        if suppressed:
            delivery.suppress(suppressed)
            recipients = delivery.pending(recipients)
        if not recipients:
            return self._decide.next(entry, delivery, recipients, health), None
        before = delivery.last_attempt
        try:
            target = self._decide.target(entry)
            message = entry.message.stamped(send_at=None) if entry.message.send_at else entry.message
            skipped = await attempt(self.accounts, target, message, recipients, delivery, confirm=confirm)
        except PostroomError as lost_target:
            delivery.skip(recipients, lost_target)
            return self._decide.next(entry, delivery, recipients, health), None
        except asyncio.CancelledError:
            return self._interrupted(entry, delivery, health), None
        except Withdrawn as withdrawn:
            why = str(withdrawn) or "another worker may have it now"
            _log.warning("message %s: not handed over: %s", entry.id, why)
            return self._interrupted(entry, delivery, health), None
        sample = health_sample_of(skipped, before, delivery)
        return self._decided(entry, delivery, recipients, health), sample

    def overdue(self, entry: ClaimedMessage, since: float, now: float) -> HealthSample | None:
        """Return what it says of its account that a hand-over has no answer since then, if its `timeout` has passed."""
        if entry.status is Status.IN_DOUBT or brings_credentials(entry.queue):
            return None
        try:
            target = self._decide.target(entry)
            timeout = self.accounts.settings(target, entry.message.channel_name).timeout
        except PostroomError:  # then it is not being handed over either
            return None
        return unanswered(target, timeout, since, now)

    def is_repeat(self, entry: ClaimedMessage) -> bool:
        """Whether an earlier hand-over of the message may have been taken."""
        return any(attempt.outcome is Outcome.UNKNOWN for attempt in entry.receipt.attempts) if entry.receipt else False

    def is_settled_by(self, entry: ClaimedMessage, events: Sequence[Event]) -> bool:
        """Whether reports make another message of it than was claimed."""
        as_claimed = self.put_back(entry)
        return settled(as_claimed, [event for event in events if event.type in PROOFS]) is not as_claimed

    def put_back(self, entry: ClaimedMessage) -> Settlement:
        """Return a message as it was: it surely was not handed over."""
        return self._decide.put_back(entry, _delivery(entry))

    def unreadable(self, entry: UnreadableMessage) -> Settlement:
        """Set a message aside that cannot be read back."""
        return self._decide.unreadable(entry)

    def rescued(self, entry: ClaimedMessage, health: Mapping[str, AccountHealth]) -> Settlement:
        """Decide upon a message whose worker died: there is doubt only if that had begun to hand it over."""
        return self.crashed(entry, health) if entry.begun else self._decide.never_begun(entry, _delivery(entry))

    def crashed(self, entry: ClaimedMessage, health: Mapping[str, AccountHealth]) -> Settlement:
        """Decide upon a message that may have been handed over when its worker died."""
        delivery = _delivery(entry)
        recipients = delivery.pending(_meant(entry))
        died = OutcomeUnknown(
            f"{account_of(entry.queue)}: the worker died with the message in its hands; it may have been sent, so look "
            "for it at the provider before sending it again",
            detail="the worker died",
        )
        try:
            target = self._decide.target(entry)
        except PluginError as gone:
            _log.warning("message %s: %s", entry.id, gone)
            target = Target(account_of(entry.queue), "")
        assume_sent = self._decide.on_unknown(entry) == "assume_sent"
        delivery.record(target, AttemptResult(recipients, _moment(entry.begun_at), 0.0, died), assume_sent=assume_sent)
        if entry.crashes >= self.settings.crashes and self._decide.may_resend(entry):
            _log.error("message %s: set aside, %s workers died over it", entry.id, entry.crashes)
            return replace(self._decide.settled(entry, delivery, Status.FAILED), crashes=entry.crashes)
        return replace(self._decide.next(entry, delivery, recipients, health), crashes=entry.crashes)

    async def reconcile(
        self, entry: ClaimedMessage, health: Mapping[str, AccountHealth], owner_of: OwnerOf
    ) -> Settlement:
        """Ask the provider what became of a message in doubt, and decide.

        `owner_of` says whose an id is that was found for some recipients: a message that looks the same may have it.
        What is uncertain because that one is under way does not count as asked.
        """
        delivery, certain = _delivery(entry), True
        try:
            certain = await self._ask(entry, delivery, owner_of)
        except asyncio.CancelledError:
            return self.put_back(entry)
        except PostroomError as error:
            _log.info("message %s: cannot be looked up now: %s", entry.id, error)
        asked = entry.progress.asked + 1 if certain else entry.progress.asked
        settlement = self._decide.next(entry, delivery, (), health, asked=asked)
        if not settlement.provider_ids:
            return settlement
        return replace(settlement, otherwise=self._decide.next(entry, _delivery(entry), (), health, asked=asked))

    def notify_settled(self, settlement: Settlement) -> None:
        """Pass on what is written now, unless it goes on at once: to observers, and to whoever waits for it."""
        goes_on_at_once = settlement.due_at <= self.clock()
        if not goes_on_at_once:
            self.report(settlement.receipt)

    def report(self, receipt: Receipt) -> None:
        """Pass on how a message stands."""
        if self._observers:
            self._observers.message_settled(receipt)
        waiting = self._watched.pop(receipt.id, None)
        if waiting and not waiting.done():
            waiting.set_result(receipt)

    def notify(self, event: Event, receipt: Receipt) -> None:
        """Pass on what a provider reported of a message."""
        if self._observers:
            self._observers.notify(event, receipt)

    def wait_for(self, message_id: str) -> asyncio.Future[Receipt]:
        """Return what resolves with the receipt after the next hand-over of a message by this process."""
        return self._watched.setdefault(message_id, asyncio.get_running_loop().create_future())

    def wait_no_longer(self, message_id: str) -> None:
        """Wait no longer."""
        self._watched.pop(message_id, None)

    def _interrupted(
        self, entry: ClaimedMessage, delivery: DeliveryProgress, health: Mapping[str, AccountHealth]
    ) -> Settlement:
        """The worker must end now: whom nothing was sent to go back to the queue, the others are as recorded."""
        before = entry.receipt.attempts if entry.receipt else ()
        attempts = delivery.receipt().attempts[len(before) :]
        if attempts:
            tried = tuple(recipient for attempt in attempts for recipient in attempt.recipients)
            return self._decided(entry, delivery, tried, health)
        return self.put_back(entry)

    def _decided(
        self,
        entry: ClaimedMessage,
        delivery: DeliveryProgress,
        recipients: tuple[str, ...],
        health: Mapping[str, AccountHealth],
    ) -> Settlement:
        """Decide after an attempt, with what it showed of recipients: both are written in one transaction."""
        settlement = self._decide.next(entry, delivery, recipients, health)
        shown = suppressions_of(delivery)
        return replace(settlement, suppressions=shown) if shown else settlement

    async def _ask(self, entry: ClaimedMessage, delivery: DeliveryProgress, owner_of: OwnerOf) -> bool:
        """Record what the provider knows; False when what it has may be a message's that is under way."""
        target, certain = self._decide.target(entry), True
        dispatcher = await self.accounts.dispatcher_for(target, entry.message)
        in_doubt = delivery.in_doubt
        begun = delivery.unknown_since(in_doubt) or _moment(entry.begun_at)
        prepared = prepare(entry.message.stamped(send_at=None), dispatcher, delivery)
        for part in split_for_transport(prepared.for_recipients(in_doubt), in_doubt, dispatcher):
            answer = await dispatcher.transport.reconcile(UnknownAttempt(part, begun))
            if isinstance(answer, Accepted):
                found = answer.provider_message_id
                owner = await owner_of(found, part.recipients) if found else Ownership.FREE
                certain = certain and owner is not Ownership.UNCERTAIN
                if owner is Ownership.FREE:
                    delivery.record_found(target, part.recipients, answer)
            elif isinstance(answer, NotTaken):
                delivery.record_not_taken(part.recipients)
        return certain


def _meant(entry: ClaimedMessage) -> tuple[str, ...]:
    """Whom this hand-over is for; nobody where all of them are known to be served meanwhile."""
    meant = entry.progress.recipients
    return entry.message.recipients if meant is None else meant


def _delivery(entry: ClaimedMessage) -> DeliveryProgress:
    if entry.receipt is None:
        delivery = DeliveryProgress(entry.message, entry.id)
    else:
        delivery = DeliveryProgress.resumed(entry.message, entry.receipt, entry.progress.pending)
    wanted = entry.message.send_at
    delivery.date = max(entry.created_at, wanted) if wanted else entry.created_at
    return delivery


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
