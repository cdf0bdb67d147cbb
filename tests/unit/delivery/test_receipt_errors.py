"""The error that a receipt stands for: with the errors at hand, and from the receipt alone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from tests.unit.delivery.results import receipt_of
from tests.unit.delivery.sending import NUMBER

from postroom import (
    AuthenticationFailed,
    Channel,
    ConfigError,
    DeliveryError,
    MessageError,
    MessageRejected,
    Outcome,
    OutcomeUnknown,
    PostroomError,
    ProviderUnavailable,
    RateLimited,
    Receipt,
    RecipientResult,
    Scope,
    Status,
    Suppressed,
    UnsupportedFeature,
)
from postroom.delivery.receipt_errors import raise_for_receipt
from postroom.receipts import Attempt

FAILED = [Status.FAILED, Status.EXPIRED, Status.CANCELLED, Status.SUPPRESSED]
GOOD = [status for status in Status if status not in {*FAILED, Status.IN_DOUBT}]


def receipt(status: Status, *attempts: Attempt, results: tuple[RecipientResult, ...] = ()) -> Receipt:
    return Receipt(id="m-1", channel=Channel.SMS, status=status, attempts=attempts, recipients=results)


def attempt(**known: Any) -> Attempt:
    defaults = {"account": "a", "provider": "stage", "outcome": Outcome.PERMANENT, "duration": 0.1}
    return Attempt(**{**defaults, "started_at": datetime.now(UTC), **known})


def error_of(receipt: Receipt, *raised: PostroomError) -> PostroomError:
    with pytest.raises(PostroomError) as caught:
        raise_for_receipt(receipt, raised)
    return caught.value


@pytest.mark.parametrize("raised", [(), (ProviderUnavailable("later"),)])
@pytest.mark.parametrize("status", GOOD)
def test_a_message_on_its_way_or_sent_raises_nothing(status: Status, raised: tuple[PostroomError, ...]) -> None:
    given = receipt(status)
    assert raise_for_receipt(given, raised) is given


@pytest.mark.parametrize("status", Status)
def test_a_message_that_somebody_has_accepted_raises_nothing_whatever_became_of_the_others(status: Status) -> None:
    results = (
        RecipientResult.accepted(NUMBER),
        RecipientResult(address="+442079460959", outcome=Outcome.UNKNOWN),
    )
    given = receipt(status, attempt(), results=results)
    assert raise_for_receipt(given, [OutcomeUnknown("quiet")]) is given


@pytest.mark.parametrize("status", [*FAILED, Status.IN_DOUBT])
class TestWithErrorsAtHand:
    def test_a_doubt_goes_before_whatever_came_later(self, status: Status) -> None:
        doubts = OutcomeUnknown("first"), OutcomeUnknown("second")
        error = error_of(receipt(status), ConfigError("x"), *doubts, MessageRejected("no"))
        assert (type(error), str(error)) == (OutcomeUnknown, "first")

    def test_the_last_attempt_goes_before_earlier_ones_and_accounts_that_did_not_try(self, status: Status) -> None:
        error = error_of(receipt(status), MessageRejected("no"), RateLimited("slow down"), ConfigError("x"))
        assert type(error) is RateLimited

    def test_where_no_account_tried_the_first_says_why(self, status: Status) -> None:
        first = UnsupportedFeature("no html", feature="html", provider="stage")
        assert error_of(receipt(status), first, ConfigError("x")) is first

    def test_the_error_of_an_attempt_carries_the_receipt_and_stays_as_it_was(self, status: Status) -> None:
        raised, given = ProviderUnavailable("later", retry_after=3), receipt(status)
        error = error_of(given, raised)
        assert receipt_of(error) is given
        assert raised.receipt is None


class TestFromTheReceiptAlone:
    def test_a_doubt_says_where_to_look_and_how_to_settle_it(self) -> None:
        error = error_of(receipt(Status.IN_DOUBT, attempt(outcome=Outcome.UNKNOWN, detail="the line went dead")))
        assert type(error) is OutcomeUnknown
        assert str(error).startswith("message m-1: the line went dead; it may have been sent")
        assert "postroom outbox resolve" in str(error)

    @pytest.mark.parametrize("attempts", [(), (attempt(outcome=Outcome.UNKNOWN),)])
    def test_a_doubt_without_a_detail_says_that_no_answer_came(self, attempts: tuple[Attempt, ...]) -> None:
        error = error_of(receipt(Status.IN_DOUBT, *attempts))
        assert str(error).startswith("message m-1: handed over without an answer")

    @pytest.mark.parametrize("status", FAILED)
    def test_the_last_attempt_is_made_into_the_error_it_had(self, status: Status) -> None:
        known = {
            "outcome": Outcome.TRANSIENT,
            "scope": Scope.RECIPIENT,
            "provider_code": "77",
            "status": 503,
            "retry_after": 9.5,
            "request_id": "req-1",
            "detail": "closed today",
        }
        results = (RecipientResult(address=NUMBER, outcome=Outcome.TRANSIENT, code="provider_unavailable"),)
        last = attempt(account="b", error="provider_unavailable", **known)
        given = receipt(status, attempt(error="authentication_failed"), last, results=results)
        error = error_of(given)
        assert isinstance(error, ProviderUnavailable)
        assert {name: getattr(error, name) for name in known} == known
        assert (error.recipients, error.receipt) == (results, given)
        assert str(error) == "b: closed today; message m-1 was not sent"

    def test_an_attempt_without_words_is_named_by_its_code_and_one_without_a_code_by_its_outcome(self) -> None:
        by_code = error_of(receipt(Status.FAILED, attempt(error="authentication_failed")))
        assert (type(by_code), str(by_code)) == (
            AuthenticationFailed,
            "a: authentication_failed; message m-1 was not sent",
        )
        by_outcome = error_of(receipt(Status.FAILED, attempt(outcome=Outcome.TRANSIENT)))
        assert (type(by_outcome), str(by_outcome)) == (DeliveryError, "a: transient; message m-1 was not sent")
        assert isinstance(by_outcome, DeliveryError)
        assert by_outcome.outcome is Outcome.TRANSIENT

    def test_an_attempt_that_was_accepted_before_the_message_ended_otherwise_is_final(self) -> None:
        error = error_of(receipt(Status.CANCELLED, attempt(outcome=Outcome.ACCEPTED)))
        assert isinstance(error, DeliveryError)
        assert error.outcome is Outcome.PERMANENT

    @pytest.mark.parametrize("status", FAILED)
    def test_without_an_attempt_a_recipients_own_reason_is_raised(self, status: Status) -> None:
        results = (
            RecipientResult(address="+442079460959", outcome=Outcome.PERMANENT),
            RecipientResult(address=NUMBER, outcome=Outcome.PERMANENT, code="suppressed", detail="asked us to stop"),
        )
        error = error_of(receipt(status, results=results))
        assert (type(error), str(error)) == (Suppressed, "asked us to stop")

    def test_a_reason_without_words_is_its_code(self) -> None:
        results = (RecipientResult(address=NUMBER, outcome=Outcome.PERMANENT, code="suppressed"),)
        assert str(error_of(receipt(Status.FAILED, results=results))) == "suppressed"

    @pytest.mark.parametrize("code", ["unsupported_feature", "of_a_plugin"])
    def test_a_reason_whose_class_needs_more_than_a_text_is_a_message_error(self, code: str) -> None:
        results = (RecipientResult(address=NUMBER, outcome=Outcome.PERMANENT, code=code, detail="no html"),)
        error = error_of(receipt(Status.FAILED, results=results))
        assert (type(error), str(error)) == (MessageError, "no html")

    @pytest.mark.parametrize("status", FAILED)
    def test_without_any_reason_the_status_is_one(self, status: Status) -> None:
        error = error_of(receipt(status))
        assert (type(error), str(error)) == (MessageError, f"message m-1 was not sent: {status}")

    def test_a_plugins_error_that_has_no_code_of_its_own_does_not_stand_for_others(self) -> None:
        class OfAPluginError(DeliveryError):
            """Inherits the code of every delivery error."""

        error = error_of(receipt(Status.FAILED, attempt(error=OfAPluginError.code)))
        assert type(error) is DeliveryError
