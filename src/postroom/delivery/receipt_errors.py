"""The error that a receipt stands for: what `raise_for_status` is to an HTTP response."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from postroom.errors import DeliveryError, MessageError, Outcome, OutcomeUnknown, PostroomError
from postroom.receipts import Receipt, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

_FAILED = frozenset({Status.FAILED, Status.EXPIRED, Status.CANCELLED, Status.SUPPRESSED})

ErrorT = TypeVar("ErrorT", bound=PostroomError)


def raise_for_receipt(receipt: Receipt, raised: Sequence[PostroomError] = ()) -> Receipt:
    """Return a receipt that is good, or not final; raise the error that another stands for.

    `raised` are the errors of its attempts and of the accounts that did not try, where they are still at hand: one
    of them is raised. Otherwise the error is made from the receipt. Raises OutcomeUnknown for a message in doubt,
    DeliveryError (both with `.receipt`) or MessageError for one that failed.
    """
    if receipt.accepted or receipt.status not in {*_FAILED, Status.IN_DOUBT}:
        return receipt
    error = _most_important(raised) or _made_from(receipt)
    raise error.with_receipt(receipt) if isinstance(error, DeliveryError) else error


def _most_important(raised: Sequence[PostroomError]) -> PostroomError | None:
    """Return an error that leaves a doubt, else the last that came of an attempt, else why the first did not try."""
    attempts = [error for error in raised if isinstance(error, DeliveryError)]
    doubts = (error for error in attempts if error.outcome is Outcome.UNKNOWN)
    return next(doubts, None) or next(reversed(attempts), None) or next(iter(raised), None)


def _made_from(receipt: Receipt) -> PostroomError:
    last = receipt.attempts[-1] if receipt.attempts else None
    if receipt.status is Status.IN_DOUBT:
        detail = (last.detail if last else None) or "handed over without an answer"
        return OutcomeUnknown(
            f"message {receipt.id}: {detail}; it may have been sent, so look for it at the provider, then settle it "
            "with `postroom outbox resolve`"
        )
    if last is None:
        failed = next((result for result in receipt.recipients if result.code), None)
        if failed and failed.code:
            return _class_with_code(failed.code, MessageError)(failed.detail or failed.code)
        return MessageError(f"message {receipt.id} was not sent: {receipt.status}")
    return _class_with_code(last.error or "", DeliveryError)(
        f"{last.account}: {last.detail or last.error or last.outcome}; message {receipt.id} was not sent",
        outcome=Outcome.PERMANENT if last.outcome is Outcome.ACCEPTED else last.outcome,
        scope=last.scope,
        provider_code=last.provider_code,
        status=last.status,
        retry_after=last.retry_after,
        request_id=last.request_id,
        detail=last.detail,
        recipients=receipt.recipients,
    )


def _class_with_code(code: str, base: type[ErrorT]) -> type[ErrorT]:
    """Return the class of `base` with that code whose constructor takes what `base` takes.

    `base` goes before a plugin's class that has inherited its code.
    """
    classes = {kind.code: kind for kind in (*base.__subclasses__(), base) if kind.__init__ is base.__init__}
    return classes.get(code, base)
