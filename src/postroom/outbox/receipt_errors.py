"""The error a receipt stands for, for callers who wait for a result."""

from __future__ import annotations

from typing import TypeVar

from postroom.errors import DeliveryError, MessageError, Outcome, OutcomeUnknown, PostroomError
from postroom.receipts import Receipt, Status

_FAILED = frozenset({Status.FAILED, Status.EXPIRED, Status.CANCELLED, Status.SUPPRESSED})

ErrorT = TypeVar("ErrorT", bound=PostroomError)


def raise_for_receipt(receipt: Receipt) -> Receipt:
    """Return a receipt that is good, or not final; raise what a direct send would have raised for another.

    Raises OutcomeUnknown for one in doubt, and DeliveryError (with `.receipt`) or MessageError for a failed one.
    """
    if receipt.accepted:
        return receipt
    if receipt.status is Status.IN_DOUBT:
        doubt = OutcomeUnknown(
            f"message {receipt.id}: {_detail(receipt) or 'handed over without an answer'}; it may have been sent, so "
            "look for it at the provider, then settle it with `postroom outbox resolve`"
        )
        raise doubt.with_receipt(receipt)
    if receipt.status in _FAILED:
        raise _failure(receipt)
    return receipt


def _failure(receipt: Receipt) -> PostroomError:
    last = receipt.attempts[-1] if receipt.attempts else None
    if last is None:
        refused = next((result for result in receipt.recipients if result.code), None)
        if refused and refused.code:
            return _kind(refused.code, MessageError)(refused.detail or refused.code)
        return MessageError(f"message {receipt.id} was not sent: {receipt.status}")
    error = _kind(last.error or "", DeliveryError)(
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
    return error.with_receipt(receipt)


def _detail(receipt: Receipt) -> str | None:
    return receipt.attempts[-1].detail if receipt.attempts else None


def _kind(code: str, base: type[ErrorT]) -> type[ErrorT]:
    """The class of `base` with that code whose constructor takes what `base` takes."""
    kinds = {kind.code: kind for kind in (base, *base.__subclasses__()) if kind.__init__ is base.__init__}
    return kinds.get(code, base)
