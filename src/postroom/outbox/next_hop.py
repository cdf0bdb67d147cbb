"""Where a message goes next: which account, for which of its recipients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from postroom.delivery.failover import candidates
from postroom.messages import Sms
from postroom.outbox.account_health import order_by_health
from postroom.outbox.records import queue_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from postroom.delivery.routing import Router
    from postroom.messages import Message
    from postroom.outbox.records import AccountHealth

MOST_TOGETHER = 50
"""Recipients of an SMS in one hand-over; a crash puts no more of them in doubt."""


@dataclass(frozen=True, slots=True)
class Hop:
    """The next hand-over: in which queue, by which route, for whom. `recipients` None stands for all of the message."""

    queue: str
    route: str
    recipients: tuple[str, ...] | None


def next_hop(
    router: Router,
    message: Message,
    health: Mapping[str, AccountHealth],
    now: float,
    *,
    left: tuple[str, ...] | None = None,
    tried: Mapping[str, list[str]] | None = None,
    doubted_at: Mapping[str, str] | None = None,
) -> Hop | None:
    """Return the next account of a recipient's route that has not had them in this round; None when all had.

    `left` are the recipients still to be served (None: all), `tried` whom each account had in this round,
    `doubted_at` who may have a copy already, through which account.
    Raises ProviderNotFound when the configuration has no account for the message.
    """
    everyone = left is None or len(left) == len(message.recipients)
    pending = message if left is None or everyone else message.for_recipients(left)
    found = next(candidates(router.plan(pending), order_by_health(health, now), tried, doubted_at), None)
    if found is None:
        return None
    recipients = found.recipients[:MOST_TOGETHER] if isinstance(message, Sms) else found.recipients
    queue = queue_of(found.target.name, message.channel_name, own_credentials=bool(message.options))
    whole = len(recipients) == len(message.recipients)
    return Hop(queue, found.route, None if whole else recipients)
