"""Observers: extensions that hear of events after the fact, and never stand in a message's way."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from postroom.events import Event, EventType
from postroom.receipts import Receipt, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

_log = logging.getLogger("postroom.plugins")

_EVENT_TYPES = {
    Status.SENT: EventType.SENT,
    Status.DELIVERED: EventType.SENT,
    Status.BOUNCED: EventType.SENT,
    Status.IN_DOUBT: EventType.IN_DOUBT,
    Status.RETRYING: EventType.DEFERRED,
}
"""What was delivered or bounced before its answer came was sent; observers hear of the provider's report beside it."""


class Observers:
    """The `postroom_on_event` of every extension: the one place that calls them.

    `functions` are pairs of an extension's name and its hook. One that raises is logged; the next is called all
    the same.
    """

    def __init__(self, functions: Sequence[tuple[str, Callable[..., Any]]] = ()) -> None:
        self._functions = functions

    def message_settled(self, receipt: Receipt) -> None:
        """Notify of how a message stands now."""
        if self._functions:
            self.notify(event_of(receipt), receipt)

    def notify(self, event: Event, receipt: Receipt) -> None:
        """Notify of one event."""
        for name, function in self._functions:
            try:
                function(event=event, receipt=receipt)
            except Exception:  # noqa: BLE001 - an extension may raise anything
                _log.exception("extension %r failed to observe %s", name, event.type)


def event_of(receipt: Receipt) -> Event:
    """Return the event that a receipt amounts to."""
    last = receipt.attempts[-1] if receipt.attempts else None
    return Event(
        type=_EVENT_TYPES.get(receipt.status, EventType.FAILED),
        channel=receipt.channel,
        provider=receipt.provider or "",
        occurred_at=datetime.now(UTC),
        account=receipt.account,
        message_id=receipt.id,
        provider_message_id=receipt.provider_message_id,
        code=last.error if last else None,
        detail=last.detail if last else None,
    )
