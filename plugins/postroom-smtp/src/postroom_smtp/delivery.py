"""Delivery of one message over SMTP: its transactions, and the result of each recipient so far."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from postroom.errors import DeliveryError, Outcome, PostroomError, Scope
from postroom.receipts import Accepted, RecipientResult
from postroom_smtp.errors import meaning

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable

    from postroom_smtp.envelope import Extensions, PreparedMessage
    from postroom_smtp.errors import SmtpErrors
    from postroom_smtp.replies import SmtpReply

MOST_RECIPIENTS = 1000
"""Recipients of one transaction; Postfix takes 1,000, and RFC 5321 section 4.5.3.1.8 asks for 100."""


class Carrier(Protocol):
    """The session that carries a delivery, as far as its caller needs it."""

    def withdraw(self, delivery: Delivery) -> None: ...


class Delivery:
    """A message and the caller who waits for it.

    It may take several transactions, when the server limits their recipients, and may `moved` once to a
    fresh session when the one it was waiting on ends. `waits_since` is when it came, by the loop's clock.
    """

    __slots__ = (
        "_error",
        "_results",
        "confirm",
        "errors",
        "future",
        "left",
        "message",
        "most",
        "moved",
        "session",
        "under_way",
        "waits_since",
    )

    def __init__(
        self,
        message: PreparedMessage,
        future: asyncio.Future[Accepted],
        errors: SmtpErrors,
        confirm: Callable[[], Awaitable[None]] | None = None,
        waits_since: float = 0.0,
    ) -> None:
        self.message = message
        self.confirm = confirm
        self.future = future
        self.errors = errors
        self.left = list(message.recipients)
        self.most = MOST_RECIPIENTS
        self.moved = False
        self.waits_since = waits_since
        self.session: Carrier | None = None
        self.under_way: Transaction | None = None
        self._results: dict[str, RecipientResult] = {}
        self._error: DeliveryError | None = None

    @property
    def over(self) -> bool:
        """Whether nobody waits for it any more: it is settled, or was cancelled."""
        return self.future.done()

    @property
    def handed_over(self) -> bool:
        """Whether a final dot was written to which no answer has come."""
        return self.under_way is not None and self.under_way.handed_over

    def fail(self, error: PostroomError) -> None:
        """Settle those who have no result yet with an error about the message or the account."""
        if isinstance(error, DeliveryError):
            self._error = error
            for address in self.left:
                self._results.setdefault(address, RecipientResult.failed(address, error))
            self.left = []
            self.conclude()
        elif any(result.outcome is Outcome.ACCEPTED for result in self._results.values()):
            self.fail(DeliveryError(str(error)))
        elif not self.over:
            self.future.set_exception(error)

    def withdraw(self, error: Exception) -> None:
        """Tell the caller that the message may not go out any more; those who have it already keep their results."""
        if not (self.over or self._results):
            self.future.set_exception(error)

    def record(self, result: RecipientResult) -> None:
        self._results[result.address] = result

    def record_error(self, asked: list[str], error: DeliveryError) -> None:
        """Settle those of one transaction; what the rest add_reply decides whether it is raised."""
        self._error = error
        for address in asked:
            self.record(RecipientResult.failed(address, error))

    def accepted(self, taken: list[str], reply: SmtpReply) -> None:
        """Record the server's yes for `taken`; a yes for everyone needs no result for each."""
        detail = self.errors.redact(reply.words)
        message_id = self.message.message_id
        if len(taken) == len(self.message.recipients) and not self.over:
            self.future.set_result(Accepted(provider_message_id=message_id, detail=detail))
            return
        for address in taken:
            self._results[address] = RecipientResult(
                address=address,
                outcome=Outcome.ACCEPTED,
                provider_message_id=message_id,
                provider_code=reply.enhanced,
                status=reply.code,
                detail=detail,
            )

    def conclude(self) -> None:
        """Answer the caller, now that every recipient has a result."""
        if self.over:
            return
        results = tuple(self._results[address] for address in self.message.recipients)
        if any(result.outcome is Outcome.ACCEPTED for result in results):
            detail = next(r.detail for r in results if r.outcome is Outcome.ACCEPTED)
            self.future.set_result(
                Accepted(provider_message_id=self.message.message_id, recipients=results, detail=detail)
            )
        else:
            self.future.set_exception(self._failure(results))

    def _failure(self, results: tuple[RecipientResult, ...]) -> DeliveryError:
        error = self._error
        if error is None:
            return self.errors.all_refused(results)
        if any(result.code != error.code or result.outcome is not error.outcome for result in results):
            return error.with_recipients(results)
        return error


class Transaction:
    """One pass of MAIL, RCPT, DATA and the content; collects the replies in the order of the commands."""

    __slots__ = ("asked", "commands", "confirmed", "delivery", "handed_over", "replies", "taken")

    def __init__(self, delivery: Delivery, server: Extensions) -> None:
        delivery.message.refuse_unsuited(server, delivery.errors.account)
        self.delivery = delivery
        self.asked = delivery.left[: delivery.most]
        self.taken: list[str] = []
        self.commands = delivery.message.envelope(self.asked, server)
        self.replies: list[SmtpReply] = []
        self.confirmed = delivery.confirm is None
        self.handed_over = False
        delivery.under_way = self

    @property
    def opened(self) -> bool:
        """Whether the server said yes to MAIL, so that the session needs RSET if no content follows."""
        return bool(self.replies) and self.replies[0].positive

    @property
    def answered(self) -> bool:
        return len(self.replies) == len(self.commands)

    def add_reply(self, reply: SmtpReply) -> str | None:
        """Take the next reply. Returns what is wrong when it cannot be the answer to its command."""
        position = len(self.replies)
        self.replies.append(reply)
        if position == len(self.commands) - 1:
            return None if reply.code == 354 or reply.negative else f"answered {reply.code} to DATA"
        if not (reply.positive or reply.negative):
            return f"answered {reply.code} to {'RCPT' if position else 'MAIL'}"
        if position and reply.positive:
            self.taken.append(self.asked[position - 1])
        return None

    @property
    def pointless(self) -> bool:
        """Whether what was replies so far already rules the message out."""
        if not self.opened:
            return bool(self.replies)
        return len(self.replies) > len(self.asked) and not self.taken

    def may_continue(self) -> bool:
        """Whether the server asks for the content and there is someone to deliver it to."""
        return self.answered and self.opened and bool(self.taken) and self.replies[-1].code == 354

    def settle_envelope(self) -> None:
        """Record who was refused by RCPT, and send the others on to the content or a later transaction."""
        overflow = self._overflow()
        for address, reply in zip(self.asked, self.replies[1:], strict=False):
            if reply.negative and address not in overflow:
                self.delivery.record(self.delivery.errors.recipient(address, reply))
        if overflow:
            self.delivery.most = len(self.taken)
        self.delivery.left = [*overflow, *self.delivery.left[len(self.asked) :]]

    def settle_refused(self) -> None:
        """End a transaction that led to no content: by MAIL, by every RCPT, or by DATA."""
        delivery, mail, last = self.delivery, self.replies[0], self.replies[-1]
        if not mail.positive:
            delivery.fail(delivery.errors.refused(mail, "MAIL"))
            return
        if not self.taken and meaning(self.replies[1])[1] is Scope.ACCOUNT:
            delivery.fail(delivery.errors.refused(self.replies[1], "RCPT"))
            return
        self.settle_envelope()
        if self.taken:
            delivery.record_error(self.taken, delivery.errors.refused(last, "DATA"))
        self.end()

    def settle_content(self, reply: SmtpReply) -> None:
        """End the transaction with the answer to its content."""
        if reply.positive:
            self.delivery.accepted(self.taken, reply)
        else:
            self.delivery.record_error(self.taken, self.delivery.errors.refused(reply, "the message"))
        self.end()

    def break_off(self, error: DeliveryError, rest: DeliveryError) -> None:
        """The session ended: `error` for those whose content was on its way, `rest` for those not asked yet."""
        self.delivery.record_error(self.taken, error)
        for address in self.delivery.left:
            self.delivery.record(RecipientResult.failed(address, rest))
        self.delivery.left = []
        self.end()

    def end(self) -> None:
        self.delivery.under_way = None
        if not self.delivery.left:
            self.delivery.conclude()

    def _overflow(self) -> list[str]:
        """Those refused only because the transaction has its fill (RFC 5321 section 4.5.3.1.10)."""
        if not self.taken:
            return []
        return [a for a, reply in zip(self.asked, self.replies[1:], strict=False) if _too_many_recipients(reply)]


def _too_many_recipients(reply: SmtpReply) -> bool:
    """452, or the 552 of RFC 821; with an enhanced code only X.5.3, since 452 also means a full disk."""
    if reply.code not in (452, 552):
        return False
    return reply.enhanced is None or reply.enhanced.endswith(".5.3")
