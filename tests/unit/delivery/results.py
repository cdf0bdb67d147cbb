"""What tests take out of a send: receipts, or errors and the receipts that they carry."""

from __future__ import annotations

from collections.abc import Sequence

from postroom import DeliveryError, PostroomError, Receipt


def receipt_of(error: object) -> Receipt:
    """Return the receipt that a DeliveryError carries."""
    assert isinstance(error, DeliveryError)
    assert error.receipt
    return error.receipt


def receipts_of(results: Sequence[Receipt | PostroomError]) -> list[Receipt]:
    """Return the results of a send of many, which are all receipts."""
    receipts = [result for result in results if isinstance(result, Receipt)]
    assert len(receipts) == len(results), results
    return receipts


def errors_of(results: Sequence[Receipt | PostroomError]) -> list[DeliveryError]:
    """Return the results of a send of many, which are all errors of an attempt."""
    errors = [result for result in results if isinstance(result, DeliveryError)]
    assert len(errors) == len(results), results
    return errors
