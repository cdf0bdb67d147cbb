"""One hand-over of a message to one account: made ready, cut to size, given to its lane."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from postroom.delivery.preparing import prepared, split_for_transport
from postroom.delivery.progress import AttemptResult
from postroom.errors import DeliveryError, PostroomError
from postroom.events import Event, EventType
from postroom.receipts import Receipt, Status

if TYPE_CHECKING:
    from postroom.delivery.accounts import Accounts, Target
    from postroom.delivery.dispatcher import AccountDispatcher
    from postroom.delivery.progress import DeliveryProgress
    from postroom.messages import Message
    from postroom.receipts import Accepted

_log = logging.getLogger("postroom")

_EVENTS = {
    Status.SENT: EventType.SENT,
    Status.IN_DOUBT: EventType.IN_DOUBT,
    Status.RETRYING: EventType.DEFERRED,
}


async def hand_over(
    accounts: Accounts, target: Target, part: Message, left: tuple[str, ...], journey: DeliveryProgress
) -> PostroomError | None:
    """Hand `part` over to `target` for the recipients in `left`, and note in `journey` what came of it.

    Returns the error that kept it from being tried at all.
    """
    try:
        lane = accounts.ready(target, part) or await accounts.lane(target, part)
        stamped = prepared(part, lane, journey)
        lane.refuse_unsupported(stamped)
        parts = split_for_transport(stamped, left, lane)
    except DeliveryError as unopened:
        journey.add(target, AttemptResult(left, datetime.now(UTC), 0.0, unopened))
        return None
    except PostroomError as refusal:
        journey.refuse(left, refusal)
        return refusal
    assume_sent = lane.settings.on_unknown == "assume_sent"
    if len(parts) == 1:
        journey.add(target, await _tried(lane, parts[0]), assume_sent=assume_sent)
        return None
    for tried in await _all_tried(lane, parts):
        journey.add(target, tried, assume_sent=assume_sent)
    return None


def event_of(receipt: Receipt) -> Event:
    """Return what observers are told of a receipt."""
    last = receipt.attempts[-1] if receipt.attempts else None
    return Event(
        type=_EVENTS.get(receipt.status, EventType.FAILED),
        channel=receipt.channel,
        provider=receipt.provider or "",
        occurred_at=datetime.now(UTC),
        account=receipt.account,
        message_id=receipt.id,
        provider_message_id=receipt.provider_message_id,
        code=last.error if last else None,
        detail=last.detail if last else None,
    )


async def _all_tried(lane: AccountDispatcher, split_for_transport: list[Message]) -> list[AttemptResult]:
    """Hand over every piece at once; a cancellation says of each that had been handed over that it was."""
    notes: list[str] = []

    async def one(piece: Message) -> AttemptResult:
        try:
            return await _tried(lane, piece)
        except asyncio.CancelledError as cancelled:
            notes.extend(getattr(cancelled, "__notes__", ()))
            raise

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(piece)) for piece in split_for_transport]
    except asyncio.CancelledError as cancelled:
        for note in notes:
            cancelled.add_note(note)
        raise
    return [task.result() for task in tasks]


async def _tried(lane: AccountDispatcher, message: Message) -> AttemptResult:
    started_at = datetime.now(UTC)
    clock = time.perf_counter()
    answer: Accepted | PostroomError
    try:
        answer = await lane.deliver(message)
    except PostroomError as error:
        answer = error
    except asyncio.CancelledError as cancelled:
        for note in getattr(cancelled, "__notes__", ()):
            _log.warning("message %s: %s", message.id, note)
        raise
    return AttemptResult(message.recipients, started_at, time.perf_counter() - clock, answer)
