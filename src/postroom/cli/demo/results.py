"""Results of the demonstration, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from postroom.errors import DeliveryError, PostroomError
from postroom.receipts import Receipt

if TYPE_CHECKING:
    from postroom.client import Postroom
    from postroom.delivery.bulk import Result
    from postroom.messages import Email, Sms


async def result_of(room: Postroom, message: Email | Sms) -> Result:
    """Send one message; return its receipt, or the error."""
    try:
        return await room.send(message)
    except PostroomError as error:
        return error


def is_sent(result: Result) -> bool:
    return isinstance(result, Receipt) and result.status == "sent"


def is_in_doubt(result: Result) -> bool:
    return isinstance(result, DeliveryError) and _status(result) == "in_doubt"


def described(result: Result) -> str:
    """Return status, attempts and the provider's id of a receipt, or status, code and text of an error."""
    if isinstance(result, Receipt):
        tried = ", ".join(f"{attempt.account} {attempt.outcome}" for attempt in result.attempts)
        return f"{result.status} ({tried}) as {result.provider_message_id}"
    status = f"{_status(result)}, " if isinstance(result, DeliveryError) else ""
    return f"{status}{result.code}: {result}"


def _status(error: DeliveryError) -> str | None:
    return str(error.receipt.status) if error.receipt else None
