"""What has become of one message so far: results per recipient, attempts, and who is still to be served."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from postroom.delivery.accounts import Target
from postroom.errors import DeliveryError, Outcome, OutcomeUnknown, PostroomError, RecipientsRefused, Scope, Suppressed
from postroom.messages import Email
from postroom.receipts import Accepted, Attempt, Receipt, RecipientResult, Status

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from postroom.messages import Message


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """One hand-over: who it was for, how long it took (seconds), and the answer."""

    recipients: tuple[str, ...]
    started_at: datetime
    duration: float
    answer: Accepted | PostroomError


class DeliveryProgress:
    """Collects attempts and says where the message may still go.

    A recipient is settled by acceptance, by a refusal that holds everywhere, and by an unknown outcome: to
    hand over again after that might make a second copy. Only a recipient who surely was not served, for a
    reason another account may not have, is left for the next one.
    """

    def __init__(self, message: Message, message_id: str) -> None:
        self.message = message
        self.id = message_id
        self.message_id = message.message_id if isinstance(message, Email) else None
        self.refusals: list[PostroomError] = []
        self._left = dict.fromkeys(message.recipients)
        self._results: dict[str, RecipientResult] = {}
        self._attempts: list[Attempt] = []
        self._errors: list[DeliveryError] = []
        self._last: Target | None = None
        self._taken: tuple[Target, Accepted] | None = None
        self._assumed: set[str] = set()

    @classmethod
    def resumed(cls, message: Message, receipt: Receipt, left: tuple[str, ...] | None) -> DeliveryProgress:
        """Go on where an earlier journey stopped; `left` are the recipients who may still be tried (None: all)."""
        assert message.id
        journey = cls(message, message.id)
        journey.message_id = receipt.message_id or journey.message_id
        journey._results = {result.address: result for result in receipt.recipients}
        journey._attempts = list(receipt.attempts)
        if receipt.account and receipt.provider:
            journey._last = Target(receipt.account, receipt.provider)
            if receipt.accepted:
                journey._taken = journey._last, Accepted(provider_message_id=receipt.provider_message_id)
        if left is not None:
            journey._left = dict.fromkeys(left)
        return journey

    @property
    def doubted(self) -> tuple[str, ...]:
        """Those of whom nobody knows whether they were served."""
        return tuple(r for r in self._results if r not in {*self._assumed, *self._left} and self._doubted(r))

    def begun(self, recipients: tuple[str, ...]) -> datetime | None:
        """When the last attempt of unknown outcome for any of `recipients` began."""
        wanted = set(recipients)
        tries = (a for a in reversed(self._attempts) if a.outcome is Outcome.UNKNOWN and wanted & {*a.recipients})
        return next((attempt.started_at for attempt in tries), None)

    def release(self, recipients: tuple[str, ...]) -> None:
        """Let recipients in doubt be tried again: somebody decided to risk a second copy, or knows there is none."""
        self._left.update(dict.fromkeys(recipients))

    def assume_sent(self, recipients: tuple[str, ...]) -> None:
        """Take recipients in doubt for served."""
        self._assumed.update(recipients)

    def learn(self, target: Target, recipients: tuple[str, ...], answer: Accepted) -> None:
        """Record what a provider said later of recipients in doubt: it has the message."""
        self._taken = self._taken or (target, answer)
        for recipient in recipients:
            self._results[recipient] = RecipientResult.accepted(recipient, answer.provider_message_id)

    def result(self, recipient: str) -> RecipientResult | None:
        """What is known of one recipient."""
        return self._results.get(recipient)

    @property
    def last_attempt(self) -> Attempt | None:
        return self._attempts[-1] if self._attempts else None

    def left(self, recipients: tuple[str, ...]) -> tuple[str, ...]:
        """Those of `recipients` who may still be tried."""
        return tuple(recipient for recipient in recipients if recipient in self._left)

    def refuse(self, recipients: tuple[str, ...], refusal: PostroomError) -> None:
        """Record that an account did not even try; another may."""
        self.refusals.append(refusal)
        for recipient in recipients:
            if recipient not in self._results:
                self._results[recipient] = RecipientResult.failed(recipient, refusal)

    def suppress(self, refusals: Mapping[str, PostroomError]) -> None:
        """Record that some recipients must not be written to, by any account."""
        for recipient, refusal in refusals.items():
            self.refuse((recipient,), refusal)
            self._left.pop(recipient, None)

    def add(self, target: Target, tried: AttemptResult, *, assume_sent: bool = False) -> None:
        """Record one hand-over."""
        answer = tried.answer
        if not isinstance(answer, (Accepted, DeliveryError)):
            self.refuse(tried.recipients, answer)
            return
        self._last = target
        if isinstance(answer, Accepted) and _none_accepted(answer):
            answer = _none_taken(target, answer)
        if isinstance(answer, Accepted):
            self._add_accepted(target, tried, answer)
        else:
            self._add_failed(target, tried, answer)
            if assume_sent:
                self.assume_sent(tuple(r for r in tried.recipients if self._doubted(r)))

    @property
    def results(self) -> tuple[RecipientResult, ...]:
        """What is known of each recipient, in the message's order."""
        return tuple(self._results[r] for r in self.message.recipients if r in self._results)

    def receipt(self, status: Status | None = None) -> Receipt:
        """Return the receipt; `status` replaces what a direct send would say."""
        message, taken = self.message, self._taken
        target = taken[0] if taken else self._last
        return Receipt(
            id=self.id,
            channel=message.channel_name,
            status=status or self.status,
            provider=target.provider if target else None,
            account=target.name if target else None,
            provider_message_id=taken[1].provider_message_id if taken else None,
            message_id=self.message_id,
            recipients=self.results,
            attempts=tuple(self._attempts),
        )

    def error(self) -> PostroomError | None:
        """The error to raise: none when a recipient was accepted, else the one that matters most."""
        if self._accepted or (self._assumed and not self._in_doubt):
            return None
        if not self._errors:
            return self.refusals[0] if self.refusals else None
        doubt = (error for error in self._errors if error.outcome is Outcome.UNKNOWN)
        return next(doubt, self._errors[-1])

    @property
    def status(self) -> Status:
        """What a direct send would say."""
        if self._in_doubt:
            return Status.IN_DOUBT
        if self._accepted or self._assumed:
            return Status.SENT
        suppressed = self._results and all(result.code == Suppressed.code for result in self._results.values())
        return Status.SUPPRESSED if suppressed else Status.FAILED

    @property
    def _in_doubt(self) -> bool:
        return any(self._doubted(recipient) for recipient in self._results if recipient not in self._assumed)

    def _doubted(self, recipient: str) -> bool:
        return self._results[recipient].outcome is Outcome.UNKNOWN

    @property
    def _accepted(self) -> bool:
        return any(result.outcome is Outcome.ACCEPTED for result in self._results.values())

    def _add_accepted(self, target: Target, tried: AttemptResult, answer: Accepted) -> None:
        self._taken = self._taken or (target, answer)
        self._note(target, tried, Outcome.ACCEPTED, request_id=answer.request_id, detail=answer.detail)
        told = {result.address: result for result in answer.recipients}
        for recipient in tried.recipients:
            result = told.get(recipient) or RecipientResult.accepted(recipient, answer.provider_message_id)
            self._settle(result, Scope.RECIPIENT)

    def _add_failed(self, target: Target, tried: AttemptResult, error: DeliveryError) -> None:
        told = {result.address: result for result in error.recipients}
        results = [told.get(recipient) or RecipientResult.failed(recipient, error) for recipient in tried.recipients]
        if any(result.outcome is Outcome.UNKNOWN for result in error.recipients):
            error = error.with_outcome(
                Outcome.UNKNOWN
            )  # one recipient in doubt: the message must not simply be sent again
        self._errors.append(error)
        self._note(
            target,
            tried,
            error.outcome,
            error=error.code,
            scope=error.scope,
            provider_code=error.provider_code,
            status=error.status,
            retry_after=error.retry_after,
            request_id=error.request_id,
            detail=error.detail,
        )
        for result in results:
            self._settle(result, error.scope)

    def _note(self, target: Target, tried: AttemptResult, outcome: Outcome, **said: Any) -> None:
        attempt = Attempt(
            account=target.name,
            provider=target.provider,
            outcome=outcome,
            started_at=tried.started_at,
            duration=tried.duration,
            recipients=tried.recipients,
            **said,
        )
        self._attempts.append(attempt)

    def _settle(self, result: RecipientResult, scope: Scope) -> None:
        self._results[result.address] = result
        elsewhere = result.outcome is Outcome.TRANSIENT or (
            result.outcome is Outcome.PERMANENT and scope is Scope.ACCOUNT
        )
        if not elsewhere:
            self._left.pop(result.address, None)


def _none_taken(target: Target, answer: Accepted) -> DeliveryError:
    """Turn a yes for no recipient into the error it is; one that is in doubt makes the whole attempt so."""
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


def _none_accepted(answer: Accepted) -> bool:
    return bool(answer.recipients) and not any(r.outcome is Outcome.ACCEPTED for r in answer.recipients)
