"""What becomes of a message that a worker took out of the outbox: handed over, asked about, told about.

This is the same for every engine. The engine says which message is due; the answer is a `Settlement`.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from postroom.delivery.accounts import Target
from postroom.delivery.attempt import event_of, hand_over
from postroom.delivery.preparing import prepared, split_for_transport
from postroom.delivery.progress import AttemptResult, DeliveryProgress
from postroom.errors import OutcomeUnknown, PluginError, PostroomError
from postroom.outbox.health_samples import HealthSample, health_sample_of
from postroom.outbox.outcome_policy import OutcomePolicy
from postroom.outbox.records import Settlement, account_of
from postroom.outbox.states import Transition, apply
from postroom.plugin.transport import UnknownAttempt
from postroom.receipts import Accepted, Channel, NotTaken, Receipt, Status

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from postroom.config.outbox import OutboxSettings
    from postroom.delivery.accounts import Accounts
    from postroom.delivery.middleware import Observers
    from postroom.delivery.routing import Router
    from postroom.messages import Message
    from postroom.outbox.records import AccountHealth, ClaimedMessage

_log = logging.getLogger("postroom.outbox")

Refusals = Mapping[str, PostroomError]
"""Why a message may not go to some of its recipients."""

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
        screen: Callable[[Sequence[Message]], Sequence[Refusals]] | None = None,
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

    def limits(self, lane: str) -> tuple[int, float | None]:
        """Return how many messages the account of `lane` can have under way, and how many may start a second.

        Before its transport is open that is one, which opens it. Raises PluginError or ConfigError when the
        account cannot be used.
        """
        account, _, rest = lane.partition("/")
        name, _, own = rest.partition("/")
        channel = Channel(name)
        target = self.router.account(account)
        if own:
            return OWN_AT_ONCE, None
        settings = self.accounts.settings(target, channel)
        open_lane = self.accounts.opened(target, channel)
        return (open_lane.transport.at_once if open_lane else UNOPENED), settings.rate_per_second

    def suppressed(self, entries: Sequence[ClaimedMessage]) -> Sequence[Refusals]:
        """Return for each message who must not be written to; to be asked right before it is delivered."""
        if not self._screen:
            return [{}] * len(entries)
        return self._screen([entry.message for entry in entries])

    async def deliver(
        self, entry: ClaimedMessage, known: Mapping[str, AccountHealth], refusals: Refusals
    ) -> tuple[Settlement, HealthSample | None]:
        """Hand a claimed message over to the account of its lane, once; to nobody whom `refusals` name."""
        journey = _journey(entry)
        if entry.expires_at <= self.clock():
            return self._decide.expired(entry, journey), None
        aim = entry.progress.aim or journey.left(entry.message.recipients)
        if refusals:
            journey.suppress({address: refusals[address] for address in aim if address in refusals})
            aim = tuple(address for address in aim if address not in refusals)
        if not aim:
            return self._decide.next(entry, journey, aim, known), None
        before = journey.last_attempt
        try:
            target = self._decide.target(entry)
            message = entry.message.stamped(send_at=None) if entry.message.send_at else entry.message
            part = message if len(aim) == len(message.recipients) else message.for_recipients(aim)
            refusal = await hand_over(self.accounts, target, part, aim, journey)
        except PostroomError as lost_target:
            journey.refuse(aim, lost_target)
            return self._decide.next(entry, journey, aim, known), None
        except asyncio.CancelledError as cancelled:
            return self._interrupted(entry, journey, aim, cancelled), None
        verdict = health_sample_of(refusal, before, journey)
        return self._decide.next(entry, journey, aim, known), verdict

    def crashed(self, entry: ClaimedMessage, known: Mapping[str, AccountHealth]) -> Settlement:
        """Decide upon a message whose worker died: it may have been handed over."""
        journey = _journey(entry)
        aim = entry.progress.aim or journey.left(entry.message.recipients)
        died = OutcomeUnknown(
            f"{account_of(entry.lane)}: the worker died with the message in its hands; it may have been sent, so look "
            "for it at the provider before sending it again",
            detail="the worker died",
        )
        try:
            target = self._decide.target(entry)
        except PluginError as gone:
            _log.warning("message %s: %s", entry.id, gone)
            target = Target(account_of(entry.lane), "")
        assume_sent = self._decide.on_unknown(entry) == "assume_sent"
        journey.add(target, AttemptResult(aim, _moment(entry.begun_at), 0.0, died), assume_sent=assume_sent)
        if entry.crashes >= self.settings.crashes and self._decide.may_resend(entry):
            _log.error("message %s: set aside, %s workers died over it", entry.id, entry.crashes)
            return replace(self._decide.settled(entry, journey, Status.FAILED), crashes=entry.crashes)
        return replace(self._decide.next(entry, journey, aim, known), crashes=entry.crashes)

    async def ask(
        self, entry: ClaimedMessage, known: Mapping[str, AccountHealth], theirs: Callable[[str], Awaitable[bool]]
    ) -> Settlement:
        """Ask the provider what became of a message in doubt, and decide.

        `theirs` says whether an id of the provider is another message's, one that looks the same.
        """
        journey = _journey(entry)
        try:
            await self._reconcile(entry, journey, theirs)
        except PostroomError as error:
            _log.info("message %s: cannot be looked up now: %s", entry.id, error)
        return self._decide.next(entry, journey, (), known, asked=entry.progress.asked + 1)

    def tell(self, settlement: Settlement) -> None:
        """Pass on what is written now: to observers, and to whoever waits for this message."""
        goes_on_at_once = settlement.due_at <= self.clock()
        if not goes_on_at_once:
            self.report(settlement.receipt)

    def report(self, receipt: Receipt) -> None:
        """Pass on how a message stands."""
        if self._observers:
            self._observers.tell(event_of(receipt), receipt)
        waiting = self._watched.pop(receipt.id, None)
        if waiting and not waiting.done():
            waiting.set_result(receipt)

    def watch(self, message_id: str) -> asyncio.Future[Receipt]:
        """Return what resolves with the receipt after the next hand-over of a message by this process."""
        return self._watched.setdefault(message_id, asyncio.get_running_loop().create_future())

    def unwatch(self, message_id: str) -> None:
        """Wait no longer."""
        self._watched.pop(message_id, None)

    def _interrupted(
        self, entry: ClaimedMessage, journey: DeliveryProgress, aim: tuple[str, ...], cancelled: asyncio.CancelledError
    ) -> Settlement:
        """The worker must end now: what surely was not handed over goes back, the rest is in doubt."""
        notes = getattr(cancelled, "__notes__", [])
        if len(aim) == 1 and all(note.endswith("nothing was sent") for note in notes):
            return Settlement(
                seq=entry.seq,
                attempts=entry.attempts,
                status=apply(entry.status, Transition.PUT_BACK),
                receipt=journey.receipt(Status.QUEUED),
                lane=entry.lane,
                choice=entry.choice,
                due_at=self.clock(),
                progress=entry.progress,
            )
        return self.crashed(entry, {})

    async def _reconcile(
        self, entry: ClaimedMessage, journey: DeliveryProgress, theirs: Callable[[str], Awaitable[bool]]
    ) -> None:
        target = self._decide.target(entry)
        lane = await self.accounts.lane(target, entry.message)
        doubted = journey.doubted
        begun = journey.begun(doubted) or _moment(entry.begun_at)
        stamped = prepared(entry.message.stamped(send_at=None), lane, journey)
        for piece in split_for_transport(stamped.for_recipients(doubted), doubted, lane):
            answer = await lane.transport.reconcile(UnknownAttempt(piece, begun))
            if isinstance(answer, Accepted):
                if not (answer.provider_message_id and await theirs(answer.provider_message_id)):
                    journey.learn(target, piece.recipients, answer)
            elif isinstance(answer, NotTaken):
                journey.release(piece.recipients)


def _journey(entry: ClaimedMessage) -> DeliveryProgress:
    if entry.receipt is None:
        return DeliveryProgress(entry.message, entry.id)
    return DeliveryProgress.resumed(entry.message, entry.receipt, entry.progress.left)


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
