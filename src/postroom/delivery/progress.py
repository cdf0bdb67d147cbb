"""Delivery progress of one message: results per recipient, attempts, and who is still to be served."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from postroom.delivery.accounts import Target
from postroom.errors import DeliveryError, Outcome, OutcomeUnknown, PostroomError, RecipientsRefused, Scope, Suppressed
from postroom.messages import Email
from postroom.receipts import Accepted, Attempt, Receipt, RecipientResult, Status

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from postroom.delivery.dispatcher import AttemptResult
    from postroom.messages import Message


class DeliveryProgress:
    """Collects attempts and says where the message may still go.

    A recipient is settled by acceptance, by a refusal that holds everywhere, and by an unknown outcome: to
    send again after that might make a second copy. Only a recipient who surely was not served, for a
    reason another account may not have, is left for the next one. While it is `untouched` everybody is pending.

    A doubt stays until somebody resolves it: a recipient of unknown outcome may be tried again at the account that
    may have served them, by policy, and nowhere else; a refusal there does not take the earlier copy back.
    """

    def __init__(self, message: Message, message_id: str) -> None:
        self.message = message
        self.id = message_id
        self.message_id = message.message_id if isinstance(message, Email) else None
        self.date: datetime | None = None
        """What an e-mail's Date says, through every account and attempt; None before the first."""
        self.errors: list[PostroomError] = []
        self.untouched = True
        self._pending = dict.fromkeys(message.recipients)
        self._results: dict[str, RecipientResult] = {}
        self._attempts: list[Attempt] = []
        self._last: Target | None = None
        self._taken: tuple[Target, Accepted] | None = None
        self._assumed: set[str] = set()
        self.doubted_at: dict[str, str] = {}
        """Recipients who may have a copy already -> the account it went through."""
        self.to_suppress: list[tuple[datetime, RecipientResult]] = []
        """Recipients whom an attempt showed must not be written to (`RecipientResult.suppress`), and when it began."""

    @classmethod
    def resumed(cls, message: Message, receipt: Receipt, pending: tuple[str, ...] | None) -> DeliveryProgress:
        """Go on where a receipt ends; `pending` are the recipients who may still be tried (None: all)."""
        assert message.id
        progress = cls(message, message.id)
        progress.message_id = receipt.message_id or progress.message_id
        progress._results = {result.address: result for result in receipt.recipients}
        progress._attempts = list(receipt.attempts)
        if receipt.account and receipt.provider:
            progress._last = Target(receipt.account, receipt.provider)
            if receipt.accepted:
                progress._taken = progress._last, Accepted(provider_message_id=receipt.provider_message_id)
        progress.untouched = False
        progress.doubted_at = _doubts_of(receipt)
        if pending is not None:
            progress._pending = dict.fromkeys(pending)
        return progress

    @property
    def in_doubt(self) -> tuple[str, ...]:
        """Recipients of unknown outcome who are not pending, nor taken for served."""
        return tuple(r for r in self.doubted_at if r not in self._assumed and r not in self._pending)

    @property
    def last_attempt(self) -> Attempt | None:
        return self._attempts[-1] if self._attempts else None

    @property
    def results(self) -> tuple[RecipientResult, ...]:
        """What is known of each recipient, in the message's order."""
        return tuple(self._results[r] for r in self.message.recipients if r in self._results)

    @property
    def status(self) -> Status:
        """The status that a direct send ends with."""
        if self.doubted_at and self.doubted_at.keys() - self._assumed:
            return Status.IN_DOUBT
        if self._assumed or any(result.outcome is Outcome.ACCEPTED for result in self._results.values()):
            return Status.SENT
        suppressed = self._results and all(result.code == Suppressed.code for result in self._results.values())
        return Status.SUPPRESSED if suppressed else Status.FAILED

    def result(self, recipient: str) -> RecipientResult | None:
        """What is known of one recipient."""
        return self._results.get(recipient)

    def pending(self, recipients: tuple[str, ...]) -> tuple[str, ...]:
        """Those of `recipients` who may still be tried."""
        return tuple(recipient for recipient in recipients if recipient in self._pending)

    def unknown_attempts(self, recipient: str) -> int:
        """How many attempts may have given `recipient` a copy."""
        return sum(a.outcome is Outcome.UNKNOWN and recipient in a.recipients for a in self._attempts)

    def unknown_since(self, recipients: tuple[str, ...]) -> datetime | None:
        """When the last attempt of unknown outcome for any of `recipients` began."""
        wanted = set(recipients)
        tries = (a for a in reversed(self._attempts) if a.outcome is Outcome.UNKNOWN and wanted & {*a.recipients})
        return next((attempt.started_at for attempt in tries), None)

    def skip(self, recipients: tuple[str, ...], error: PostroomError) -> None:
        """Record that an account did not even try; another may."""
        self.errors.append(error)
        self.untouched = False
        for recipient in recipients:
            if recipient not in self._results:
                self._results[recipient] = RecipientResult.failed(recipient, error)

    def suppress(self, errors: Mapping[str, PostroomError]) -> None:
        """Record that some recipients must not be written to, by any account; it replaces what earlier tries said.

        Only a doubt stays: who may have a copy already is not known to have none.
        """
        for recipient, error in errors.items():
            if recipient in self._pending:
                if recipient not in self.doubted_at:
                    self._results.pop(recipient, None)
                self.skip((recipient,), error)
                del self._pending[recipient]

    def record(self, target: Target, result: AttemptResult, *, assume_sent: bool = False) -> None:
        """Record one attempt; with `assume_sent`, those in doubt after it are taken for served."""
        answer = result.answer
        if not isinstance(answer, (Accepted, DeliveryError)):
            self.skip(result.recipients, answer)
            return
        self._last = target
        if isinstance(answer, Accepted) and _none_accepted(answer):
            answer = _as_error(target, answer)
        if isinstance(answer, Accepted):
            self._record_accepted(target, result, answer)
            return
        self._record_failed(target, result, answer)
        if assume_sent:
            self.assume_sent(tuple(r for r in result.recipients if r in self.doubted_at))

    def record_found(self, target: Target, recipients: tuple[str, ...], answer: Accepted) -> None:
        """Record what a provider said later of recipients in doubt: it has the message."""
        self._taken = self._taken or (target, answer)
        for recipient in recipients:
            self._results[recipient] = _accepted(recipient, answer)
            self.doubted_at.pop(recipient, None)

    def record_not_taken(self, recipients: tuple[str, ...]) -> None:
        """Record that a provider surely has nothing for recipients in doubt: they may be tried anywhere."""
        for recipient in recipients:
            del self.doubted_at[recipient]
            known = {"outcome": Outcome.TRANSIENT, "detail": "the provider has nothing of it"}
            self._results[recipient] = self._results[recipient].model_copy(update=known)
        self._pending.update(dict.fromkeys(recipients))

    def release(self, recipients: tuple[str, ...]) -> None:
        """Let recipients in doubt be tried again where they may have been served: a policy risks a second copy."""
        self._pending.update(dict.fromkeys(recipients))

    def hold(self, recipients: tuple[str, ...]) -> None:
        """Leave recipients in doubt to a person: they may not be tried again by themselves."""
        for recipient in recipients:
            self._pending.pop(recipient, None)

    def assume_sent(self, recipients: tuple[str, ...]) -> None:
        """Take recipients in doubt for served."""
        self._assumed.update(recipients)

    def receipt(self, status: Status | None = None) -> Receipt:
        """Return the receipt; `status` replaces what a direct send would say."""
        target = self._taken[0] if self._taken else self._last
        return Receipt.of(
            id=self.id,
            channel=self.message.channel_name,
            status=status or self.status,
            provider=target.provider if target else None,
            account=target.name if target else None,
            provider_message_id=self._taken[1].provider_message_id if self._taken else None,
            message_id=self.message_id,
            recipients=self.results,
            attempts=tuple(self._attempts),
        )

    def _record_accepted(self, target: Target, result: AttemptResult, answer: Accepted) -> None:
        self._taken = self._taken or (target, answer)
        attempt = Attempt.of(
            **_tried(target, result), outcome=Outcome.ACCEPTED, request_id=answer.request_id, detail=answer.detail
        )
        self._attempts.append(attempt)
        given = {recipient.address: recipient for recipient in answer.recipients}
        for recipient in result.recipients:
            known = given.get(recipient) or _accepted(recipient, answer)
            self._settle(known, Scope.RECIPIENT, target, result.started_at)

    def _record_failed(self, target: Target, result: AttemptResult, error: DeliveryError) -> None:
        doubtful = any(recipient.outcome is Outcome.UNKNOWN for recipient in error.recipients)
        # One recipient in doubt: the message must not simply be sent again, whatever the others were answered.
        whole = error.with_outcome(Outcome.UNKNOWN) if doubtful and error.outcome is not Outcome.UNKNOWN else error
        self.errors.append(whole)
        attempt = Attempt(
            **_tried(target, result),
            outcome=whole.outcome,
            error=error.code,
            scope=error.scope,
            provider_code=error.provider_code,
            status=error.status,
            retry_after=error.retry_after,
            request_id=error.request_id,
            detail=error.detail,
        )
        self._attempts.append(attempt)
        given = {recipient.address: recipient for recipient in error.recipients}
        for recipient in result.recipients:
            known = given.get(recipient) or _without_result(recipient, result.recipients, error)
            self._settle(known, error.scope, target, result.started_at)

    def _settle(self, result: RecipientResult, scope: Scope, target: Target, started_at: datetime) -> None:
        self.untouched = False
        if result.suppress and result.outcome is Outcome.PERMANENT:
            self.to_suppress.append((started_at, result))
        if result.outcome is Outcome.ACCEPTED:
            self.doubted_at.pop(result.address, None)
        elif result.outcome is Outcome.UNKNOWN:
            self.doubted_at.setdefault(result.address, target.name)
        if result.address not in self.doubted_at or result.outcome is Outcome.UNKNOWN:
            self._results[result.address] = result
        elsewhere = result.outcome is Outcome.TRANSIENT or (
            result.outcome is Outcome.PERMANENT and scope is Scope.ACCOUNT
        )
        if not elsewhere:
            self._pending.pop(result.address, None)


def _doubts_of(receipt: Receipt) -> dict[str, str]:
    """Return the recipients of unknown outcome, and the account of the last attempt that may have left them so.

    That is an attempt of unknown outcome, or one that others were accepted by.
    """
    unknown = {result.address for result in receipt.recipients if result.outcome is Outcome.UNKNOWN}
    return {
        recipient: attempt.account
        for attempt in receipt.attempts
        if attempt.outcome in {Outcome.UNKNOWN, Outcome.ACCEPTED}
        for recipient in attempt.recipients
        if recipient in unknown
    }


def _as_error(target: Target, answer: Accepted) -> DeliveryError:
    """Make a yes for no recipient the error it is; one that is in doubt makes the whole attempt so."""
    outcomes = {result.outcome for result in answer.recipients}
    if Outcome.UNKNOWN in outcomes:
        return OutcomeUnknown(
            f"{target.name}: some recipients may have it, so look for it at the provider before sending it again",
            recipients=answer.recipients,
        )
    return RecipientsRefused(
        f"{target.name}: no recipient was accepted; see the result of each",
        outcome=Outcome.TRANSIENT if Outcome.TRANSIENT in outcomes else Outcome.PERMANENT,
        recipients=answer.recipients,
    )


def _without_result(recipient: str, tried: tuple[str, ...], error: DeliveryError) -> RecipientResult:
    """Make the result of a recipient of whom the provider said nothing; among several nobody knows whom it meant."""
    result = RecipientResult.failed(recipient, error)
    return result if len(tried) == 1 or not result.suppress else result.model_copy(update={"suppress": None})


def _tried(target: Target, result: AttemptResult) -> dict[str, Any]:
    return {
        "account": target.name,
        "provider": target.provider,
        "started_at": result.started_at,
        "duration": result.duration,
        "recipients": result.recipients,
    }


def _accepted(recipient: str, answer: Accepted) -> RecipientResult:
    return RecipientResult.of(
        address=recipient, outcome=Outcome.ACCEPTED, provider_message_id=answer.provider_message_id
    )


def _none_accepted(answer: Accepted) -> bool:
    return bool(answer.recipients) and not any(r.outcome is Outcome.ACCEPTED for r in answer.recipients)
