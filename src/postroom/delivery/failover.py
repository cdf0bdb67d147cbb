"""Failover: the accounts a message may still be tried at, and a direct send that tries them in turn."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from postroom.delivery.attempt import attempt, check_sendable
from postroom.delivery.progress import DeliveryProgress
from postroom.delivery.receipt_errors import raise_for_receipt
from postroom.errors import MessageError, Outcome
from postroom.messages import Message, new_id
from postroom.plugin.cancellation import mark_cancelled, was_handed_over

if TYPE_CHECKING:
    from postroom.delivery.accounts import Accounts, Target
    from postroom.delivery.observers import Observers
    from postroom.delivery.routing import PlannedRoute, Router
    from postroom.errors import Suppressed
    from postroom.messages import Email, Sms
    from postroom.receipts import Receipt

_log = logging.getLogger("postroom.delivery")

Order = Callable[[Sequence["Target"], Message], Sequence["Target"]]
"""Puts a route's accounts into the order to try them for a message."""


class Candidate(NamedTuple):
    """An account that may be tried next: for which part of the message, by which route, for which recipients."""

    message: Message
    route: str
    target: Target
    recipients: tuple[str, ...]
    is_last: bool
    """Whether no other account of its route follows."""


def candidates(
    plan: Sequence[PlannedRoute],
    order: Order | None = None,
    tried: Mapping[str, Sequence[str]] | None = None,
    doubted_at: Mapping[str, str] | None = None,
) -> Iterator[Candidate]:
    """Yield every account of a plan, in the order to try them, with the recipients it may be tried for.

    `tried` are the recipients that each account has been tried for already, by its name. `doubted_at` are recipients
    who may have a copy already, and the only account that may be tried for them.
    """
    for message, route, planned in plan:
        targets = order(planned, message) if order else planned
        for target in targets:
            recipients = message.recipients
            if tried and target.name in tried:
                recipients = tuple(r for r in recipients if r not in tried[target.name])
            if doubted_at:
                recipients = tuple(r for r in recipients if doubted_at.get(r, target.name) == target.name)
            if recipients:
                yield Candidate(message, route, target, recipients, target is targets[-1])


class SharedState(Protocol):
    """What all processes know together, kept in the outbox: who is suppressed, and how accounts do."""

    async def suppressed(self, message: Message) -> Mapping[str, Suppressed]:
        """Return why a message may not go to some of its recipients."""

    async def order(self) -> Order:
        """Return the order of accounts by their health now."""

    async def suppress_refused(self, progress: DeliveryProgress) -> None:
        """Put on the suppression list whom an attempt showed must not be written to; never raises OutboxError."""


class Failover:
    """Sends one message directly, through the accounts of its route, until nobody is left to serve.

    `shared` returns what the outbox knows, or None where there is no outbox.
    """

    def __init__(
        self, router: Router, accounts: Accounts, observers: Observers, shared: Callable[[], SharedState | None]
    ) -> None:
        self._router = router
        self._accounts = accounts
        self._observers = observers
        self._shared = shared

    async def send(self, message: Email | Sms) -> Receipt:
        """Send `message` now; see `Postroom.send`."""
        sendable: Message = message
        if not isinstance(message, Message) or message.send_at or message.expires_at:
            sendable = check_sendable(message)
        progress = DeliveryProgress(sendable, sendable.id or new_id())
        shared, order = self._shared(), None
        if shared:
            progress.suppress(await shared.suppressed(sendable))
            order = await shared.order()
        try:
            for part, _, target, recipients, is_last in candidates(self._router.plan(sendable), order):
                alone = is_last and progress.untouched  # then what keeps it from being tried is raised
                pending = recipients if progress.untouched else progress.pending(recipients)
                error = await attempt(self._accounts, target, part, pending, progress) if pending else None
                if shared and progress.to_suppress:
                    await shared.suppress_refused(progress)
                if error and not alone:
                    level = logging.INFO if isinstance(error, MessageError) else logging.WARNING
                    _log.log(level, "message %s: passing over account %r: %s", progress.id, target.name, error)
        except asyncio.CancelledError as cancelled:
            if not was_handed_over(cancelled):
                _mark_by_progress(cancelled, progress)
            raise
        receipt = progress.receipt()
        if receipt.attempts:
            self._observers.message_settled(receipt)
        return raise_for_receipt(receipt, progress.errors)


def _mark_by_progress(cancelled: asyncio.CancelledError, progress: DeliveryProgress) -> None:
    """Say on a cancellation that came from outside what the attempts so far have recorded."""
    for ended in progress.receipt().attempts:
        if ended.outcome in {Outcome.ACCEPTED, Outcome.UNKNOWN}:
            note = ended.detail or f"{ended.account}: some recipients were served already"
            mark_cancelled(cancelled, note, handed_over=True)
