"""What is next for a message after a hand-over: another account, another round, doubt, or an end."""

from __future__ import annotations

import logging
import random
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from postroom.errors import MessageError, OutboxError, Outcome, PluginError, PostroomError, Scope
from postroom.outbox.next_hop import Hop, next_hop
from postroom.outbox.records import NEVER, IdKind, Progress, ProviderId, Settlement, account_of
from postroom.outbox.retry_policy import QUESTIONS, backoff
from postroom.outbox.states import Transition, apply
from postroom.plugin.transport import Capabilities
from postroom.receipts import Receipt, RecipientResult, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from postroom.config.outbox import OutboxSettings
    from postroom.delivery.accounts import Accounts, Target
    from postroom.delivery.progress import DeliveryProgress
    from postroom.delivery.routing import Router
    from postroom.outbox.records import AccountHealth, ClaimedMessage, UnreadableMessage
    from postroom.plugin.settings import OnUnknown

_log = logging.getLogger("postroom.outbox")


class OutcomePolicy:
    """Decides by the configuration, the accounts' policies for unknown outcomes, and what their providers can do.

    `clock` gives seconds since 1970; `rng` spreads what is tried again.
    """

    def __init__(
        self,
        accounts: Accounts,
        router: Router,
        settings: OutboxSettings,
        *,
        clock: Callable[[], float] = time.time,
        rng: random.Random | None = None,
    ) -> None:
        self.accounts = accounts
        self.router = router
        self.settings = settings
        self.clock = clock
        self.rng = rng or random.Random()  # noqa: S311 - spreads load, guards nothing

    def next(
        self,
        entry: ClaimedMessage,
        delivery: DeliveryProgress,
        recipients: tuple[str, ...],
        health: Mapping[str, AccountHealth],
        *,
        asked: int = 0,
    ) -> Settlement:
        """Decide: another account, another round, in doubt, or done."""
        pending = delivery.pending(entry.message.recipients)
        if not pending and not delivery.doubted_at:
            return self.settled(entry, delivery, delivery.status)
        reconciles = self._capabilities(entry).reconciles
        again = self._release(entry, delivery, asked=asked, reconciles=reconciles)
        if delivery.pending(entry.message.recipients):
            return self._go_on(entry, delivery, recipients, health, again=again)
        if delivery.in_doubt:
            return self._doubt(entry, delivery, asked, reconciles=reconciles)
        return self.settled(entry, delivery, delivery.status)

    def _release(
        self, entry: ClaimedMessage, delivery: DeliveryProgress, *, asked: int, reconciles: bool
    ) -> tuple[str, ...]:
        """Follow the account's policy for recipients in doubt, once the provider was asked in vain.

        Returns those who are to be tried again at the same account.
        """
        doubted = delivery.in_doubt
        if not doubted or (reconciles and asked < len(QUESTIONS)):
            return ()
        if self.on_unknown(entry) == "assume_sent":
            delivery.assume_sent(doubted)
            return ()
        if not self.may_resend(entry):
            return ()
        if not self._capabilities(entry).deduplicates:
            doubted = tuple(r for r in doubted if delivery.unknown_attempts(r) <= self.settings.repeats)
        delivery.release(doubted)
        return doubted

    def _go_on(
        self,
        entry: ClaimedMessage,
        delivery: DeliveryProgress,
        recipients: tuple[str, ...],
        health: Mapping[str, AccountHealth],
        *,
        again: tuple[str, ...],
    ) -> Settlement:
        """Try the next account of this round, or begin another round later."""
        progress, account = entry.progress, account_of(entry.queue)
        left = delivery.pending(entry.message.recipients)
        tried = {**progress.tried, account: sorted({*progress.tried.get(account, ()), *recipients})}
        hop = None if again else self._next_hop(entry, delivery, left, tried, health)
        if hop:
            return self._retrying(entry, delivery, hop, Progress(tried=tried, rounds=progress.rounds), 0.0)
        rounds = progress.rounds + 1
        if entry.single_round or rounds >= self.settings.attempts or self._never_deliverable(entry, delivery, left):
            return self.settled(entry, delivery, delivery.status)
        wait = backoff(self.settings, rounds, self.rng, _asked_to_wait(delivery))
        if again and not self._capabilities(entry).deduplicates:
            wait += self.settings.repeat_after  # the provider may be working on the first copy still
        hop = self._same_hop(entry, again) if again else self._next_hop(entry, delivery, left, {}, health)
        if hop is None:  # no account of the route is left for them; whose doubt is another account's must not go here
            delivery.hold(tuple(r for r in left if delivery.doubted_at.get(r, account) != account))
            left = delivery.pending(left)
            if not left:
                return self._doubt(entry, delivery, 0, reconciles=False)
        return self._retrying(entry, delivery, hop or self._same_hop(entry, left), Progress(rounds=rounds), wait)

    def _retrying(
        self, entry: ClaimedMessage, delivery: DeliveryProgress, hop: Hop, progress: Progress, wait: float
    ) -> Settlement:
        left = delivery.pending(entry.message.recipients)
        everyone = len(left) == len(entry.message.recipients)
        move = Transition.LEARN_NOT_TAKEN if entry.status is Status.IN_DOUBT else Transition.RETRY_LATER
        status = apply(entry.status, move)
        return replace(
            self.settled(entry, delivery, status),
            queue=hop.queue,
            route=hop.route,
            due_at=min(self.clock() + wait, max(entry.expires_at, 1.0)),
            progress=replace(progress, pending=None if everyone else left, recipients=hop.recipients),
        )

    def _same_hop(self, entry: ClaimedMessage, recipients: tuple[str, ...]) -> Hop:
        everyone = len(recipients) == len(entry.message.recipients)
        return Hop(queue=entry.queue, route=entry.route, recipients=None if everyone else recipients)

    def _next_hop(
        self,
        entry: ClaimedMessage,
        delivery: DeliveryProgress,
        left: tuple[str, ...],
        tried: Mapping[str, list[str]],
        health: Mapping[str, AccountHealth],
    ) -> Hop | None:
        try:
            return next_hop(
                self.router,
                entry.message,
                health,
                self.clock(),
                left=left,
                tried=tried,
                doubted_at=delivery.doubted_at,
            )
        except PostroomError as error:
            _log.warning("message %s waits: %s", entry.id, error)
            return None

    def _doubt(self, entry: ClaimedMessage, delivery: DeliveryProgress, asked: int, *, reconciles: bool) -> Settlement:
        more = reconciles and asked < len(QUESTIONS)
        return replace(
            self.settled(entry, delivery, Status.IN_DOUBT),
            due_at=self.clock() + QUESTIONS[asked] if more else NEVER,
            progress=Progress(pending=(), asked=asked),
        )

    def put_back(self, entry: ClaimedMessage, delivery: DeliveryProgress) -> Settlement:
        """Give a message back that surely was not handed over; one in doubt stays so, to be asked about soon."""
        in_doubt = entry.status is Status.IN_DOUBT
        status = Status.IN_DOUBT if in_doubt else apply(entry.status, Transition.PUT_BACK)
        return replace(
            self.settled(entry, delivery, status),
            due_at=self.clock(),
            progress=entry.progress,
            crashes=entry.crashes,
        )

    def never_begun(self, entry: ClaimedMessage, delivery: DeliveryProgress) -> Settlement:
        """Give a message back whose worker died before it began to hand it over.

        It may be what the worker died of. So it waits before the third try, then longer and longer, which parts it from
        those that were only taken along with it; and it fails when it was there as often as `crashes` says.
        """
        if entry.crashes >= self.settings.crashes:
            _log.error("message %s: set aside, %s workers died with it in their hands", entry.id, entry.crashes)
            delivery.skip(delivery.pending(entry.message.recipients), _died(entry))
            return replace(self.settled(entry, delivery, Status.FAILED), crashes=entry.crashes)
        wait = backoff(self.settings, entry.crashes - 1, self.rng) if entry.crashes > 1 else 0.0
        put_back = self.put_back(entry, delivery)
        return replace(put_back, due_at=min(put_back.due_at + wait, max(entry.expires_at, 1.0)))

    def unreadable(self, entry: UnreadableMessage) -> Settlement:
        """Set a message aside for a person that nobody can read any more; in doubt when it may have been sent."""
        if entry.locked:
            return self._locked(entry)
        status, outcome = Status.FAILED, Outcome.PERMANENT
        if entry.in_doubt:
            status, outcome = Status.IN_DOUBT, Outcome.UNKNOWN
        note = RecipientResult(address="", outcome=outcome, code=entry.error.code, detail=str(entry.error))
        receipt = Receipt(
            id=entry.id,
            channel=entry.channel,
            status=status,
            account=account_of(entry.queue),
            recipients=(note,),
        )
        return Settlement(entry.seq, entry.attempts, status, receipt, entry.queue, entry.route, unread=True)

    def _locked(self, entry: UnreadableMessage) -> Settlement:
        """Hold a message whose credentials this worker has no key for: they stay, and so does all that is known of it.

        One in doubt stays so; a worker with the right key may ask about it later.
        """
        status, due_at, outcome = Status.HELD, NEVER, Outcome.TRANSIENT
        if entry.in_doubt:
            status, due_at, outcome = Status.IN_DOUBT, self.clock() + QUESTIONS[0], Outcome.UNKNOWN
        note = RecipientResult(address="", outcome=outcome, code=entry.error.code, detail=str(entry.error))
        before = entry.receipt or Receipt(
            id=entry.id, channel=entry.channel, status=status, account=account_of(entry.queue)
        )
        known = tuple(result for result in before.recipients if result.address)
        receipt = before.model_copy(update={"status": status, "recipients": (*known, note)})
        return Settlement(
            entry.seq, entry.attempts, status, receipt, entry.queue, entry.route, due_at=due_at, progress=entry.progress
        )

    def settled(self, entry: ClaimedMessage, delivery: DeliveryProgress, status: Status) -> Settlement:
        return Settlement(
            seq=entry.seq,
            attempts=entry.attempts,
            status=status,
            receipt=delivery.receipt(status),
            queue=entry.queue,
            route=entry.route,
            provider_ids=self._provider_ids(entry, delivery),
            recipients=entry.message.recipients,
        )

    def expired(self, entry: ClaimedMessage, delivery: DeliveryProgress) -> Settlement:
        if delivery.doubted_at:
            return self.settled(entry, delivery, Status.IN_DOUBT)
        served = delivery.receipt().accepted
        return self.settled(entry, delivery, Status.SENT if served else apply(entry.status, Transition.EXPIRE))

    def target(self, entry: ClaimedMessage) -> Target:
        return self.router.account(account_of(entry.queue))

    def on_unknown(self, entry: ClaimedMessage) -> OnUnknown:
        """The account's policy; without the account or its plugin, the message is held for a person."""
        try:
            return self.accounts.on_unknown(self.target(entry), entry.message.channel_name)
        except PluginError:
            return "hold"

    def may_resend(self, entry: ClaimedMessage) -> bool:
        """Whether a message in doubt may simply be sent again: by policy, or since the provider drops copies."""
        return self.on_unknown(entry) == "retry" or self._capabilities(entry).deduplicates

    def _capabilities(self, entry: ClaimedMessage) -> Capabilities:
        try:
            return self.accounts.capabilities(self.target(entry), entry.message.channel_name)
        except PluginError:
            return Capabilities()

    def _provider_ids(self, entry: ClaimedMessage, delivery: DeliveryProgress) -> tuple[ProviderId, ...]:
        """What the account's provider calls the message since now, if its reports or its answers can name it so."""
        account, capabilities = account_of(entry.queue), self._capabilities(entry)
        if not (capabilities.reconciles or self.accounts.reports(account, entry.message.channel_name)):
            return ()
        known = {result.provider_message_id for result in entry.receipt.recipients} if entry.receipt else ()
        kind = IdKind.SHARED if capabilities.max_batch > 1 else IdKind.OWN
        if kind is IdKind.OWN and entry.status is Status.IN_DOUBT:
            kind = IdKind.FOUND
        new = dict.fromkeys(r.provider_message_id for r in delivery.results if r.provider_message_id not in known)
        return tuple(ProviderId(account, value, kind) for value in new if value)

    def _never_deliverable(self, entry: ClaimedMessage, delivery: DeliveryProgress, left: tuple[str, ...]) -> bool:
        """Whether no account will ever take this message for those who are left.

        What an account refuses for the account's sake may go later, unless the credentials are the message's own.
        """
        results = [delivery.result(recipient) for recipient in left]
        if any(result is None or result.outcome is not Outcome.PERMANENT for result in results):
            return False
        return bool(entry.message.options) or all(result and result.code in _MESSAGE_ERRORS for result in results)


def _asked_to_wait(delivery: DeliveryProgress) -> float | None:
    """Seconds the provider asked for this message; what it asked of the account, the account keeps."""
    attempt = delivery.last_attempt
    return attempt.retry_after if attempt and attempt.scope is not Scope.ACCOUNT else None


def _died(entry: ClaimedMessage) -> OutboxError:
    return OutboxError(
        f"{entry.crashes} workers died with the message in their hands, before they began to send it; look into their "
        "logs, then `postroom outbox retry`"
    )


_MESSAGE_ERRORS = {MessageError.code} | {kind.code for kind in MessageError.__subclasses__()}
