"""What a transition does to a message, and which news still counts when it comes late.

These are the rules for whatever is not a worker's own result: a message accepted, a person's word, the clock, and a
worker that was taken for dead and answers after all; `reports` has those for a provider's report. Engines call them
inside their transactions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from postroom.addresses import Address
from postroom.errors import IdempotencyConflict, MessageNotFound, OutboxError, Outcome, StateConflict
from postroom.events import EventType
from postroom.messages import Email
from postroom.outbox.records import NEVER, NOW, EnqueueResult, Progress, account_of, brings_credentials
from postroom.outbox.states import SETTLED, Transition, allowed_from, apply
from postroom.receipts import Receipt, Status

if TYPE_CHECKING:
    from postroom.events import Event
    from postroom.outbox.records import NewMessage, Settlement, StoredMessage
    from postroom.receipts import RecipientResult

_SENDS_AGAIN = frozenset({Transition.REQUEUE, Transition.LEARN_NOT_TAKEN})

_OUTCOMES = {
    Transition.LEARN_SENT: Outcome.ACCEPTED,
    Transition.LEARN_FAILED: Outcome.PERMANENT,
    Transition.LEARN_NOT_TAKEN: Outcome.TRANSIENT,
}
"""What is known of recipients in doubt after a transition."""

OPEN_TO_NEWS = allowed_from(Transition.LEARN_SENT) | {Status.RETRYING}
"""In these states a message may still be that a worker was taken for dead with, as long as nobody has it in hand."""


REPLANNED = frozenset({Status.QUEUED, Status.RETRYING, Status.IN_DOUBT})
"""In these states a message is due at a time that a worker has planned, if it was claimed before."""

SET_BACK = 1.0
"""Seconds by which a claim may lie in the future: clocks of two processes differ, and are corrected, by less."""


@dataclass(frozen=True, slots=True)
class Transitioned:
    """A message after a transition: what is to be written down."""

    status: Status
    receipt: Receipt
    progress: Progress
    due_at: float

    @property
    def settled(self) -> bool:
        """Whether that ends it, so that its credentials must go."""
        return self.status in SETTLED


def transitioned(
    message: StoredMessage,
    transition: Transition,
    note: str = "",
    *,
    now: float = NOW,
    by_tenant: bool = False,
    held_until: float = NOW,
) -> Transitioned:
    """Return `message` after `transition`; `note` is a person's, for the recipients it settles.

    `by_tenant`: it is the tenant's wish, who lifts no hold. What is sent again waits until `held_until`. Raises
    StateConflict when it is in a state that the transition does not start from, or cannot be sent again.
    """
    status = apply(message.receipt.status, transition)
    due_at = NEVER if status in SETTLED or transition is Transition.HOLD else NOW
    progress = _with_hold(message)
    if transition in _SENDS_AGAIN:
        _check_complete(message)
        if message.expires_at <= now:
            raise StateConflict(
                f"message {message.id} would expire at once, since its time is over; send it as a new message"
            )
        held_until = max(progress.held_until if by_tenant else NOW, held_until)
        if held_until > now:
            if message.receipt.status is Status.HELD:
                raise StateConflict("a held message flows when its quota allows, or its operator lets it go")
            status, due_at = Status.HELD, held_until
    receipt = message.receipt.model_copy(update={"status": status, "recipients": _results(message, transition, note)})
    if transition in _SENDS_AGAIN:
        progress = _whoever_was_not_accepted(receipt, everyone(message))
    return Transitioned(status, receipt, progress, due_at)


def expired(message: StoredMessage) -> Transitioned:
    """Return a waiting message after its time was over: one that was served in part is sent, or in doubt."""
    receipt = message.receipt
    status = apply(receipt.status, Transition.EXPIRE)
    if any(result.outcome is Outcome.UNKNOWN for result in receipt.recipients):
        status = Status.IN_DOUBT
    elif receipt.accepted:
        status = Status.SENT
    return Transitioned(status, receipt.model_copy(update={"status": status}), _with_hold(message), NEVER)


def _with_hold(message: StoredMessage) -> Progress:
    """Keep until when a message is held: its tenant could cancel it, and have it sent again, free of its quota."""
    held = message.receipt.status is Status.HELD and message.due_at > message.progress.held_until
    return replace(message.progress, held_until=message.due_at) if held else message.progress


def teaches(event: Event, message: StoredMessage | None) -> bool:
    """Whether a report may change the suppression list; `message` is the one of ours that it is about, if any.

    Anybody can write a bounce of something that was never sent; what people say of themselves needs no message, if it
    is signed.
    """
    if message is None:
        return event.verified and event.type not in {EventType.BOUNCED, EventType.REJECTED}
    return believed(event, message)


def believed(event: Event, message: StoredMessage) -> bool:
    """Whether a report is signed, or about a recipient of the message that it names.

    Whoever got a message could otherwise report, in its name, that somebody else's address is dead.
    """
    return event.verified or recipient_of(event, message) is not None


def recipient_of(event: Event, message: StoredMessage) -> str | None:
    """Return the recipient of a message whom a report names: whatever the case, a domain in either form (RFC 5891)."""
    if event.recipient is None:
        return None
    said = event.recipient.strip().lower().removeprefix("+")
    return next((address for address in everyone(message) if said in _forms(address)), None)


def everyone(message: StoredMessage) -> tuple[str, ...]:
    """All that a message is for, as far as that is known."""
    return message.recipients or tuple(result.address for result in message.receipt.recipients)


def _forms(address: str) -> set[str]:
    """How a provider may write an address, in small letters; a number with or without its plus."""
    forms = {address.lower().removeprefix("+")}
    if not address.isascii():
        forms.add((Address(address).ascii_email or address).lower())
    return forms


def was_planned_ahead(status: Status, due_at: float, begun_at: float, now: float) -> bool:
    """Whether a message waits for a time that was planned by a clock which has been set back since.

    Its last claim lies in the future then. When a person wants it sent (`send_at`) is not planned by the clock.
    """
    return status in REPLANNED and now + SET_BACK < begun_at < due_at < NEVER


def replanned(due_at: float, begun_at: float, now: float, longest: float) -> float:
    """When such a message is due by the clock as it is: as long after now as it was after its claim, or `longest`."""
    return now + min(due_at - begun_at, longest)


def is_late_news(settlement: Settlement) -> bool:
    """Whether a settlement counts though another worker has taken the message over: it was sent after all.

    Only where nobody has the message in hand, nor has handed it over since, and its state is OPEN_TO_NEWS.
    """
    return settlement.status is Status.SENT


def accepted(new: NewMessage) -> EnqueueResult:
    """Return the answer for a message that is stored now."""
    message = new.message
    assert message.id
    receipt = Receipt.of(
        id=message.id,
        channel=message.channel_name,
        status=new.status,
        account=account_of(new.queue),
        message_id=message.message_id if isinstance(message, Email) else None,
    )
    return EnqueueResult(receipt, new.status)


def key_conflict(new: NewMessage, first_id: str) -> IdempotencyConflict:
    """The error for an idempotency key that stands for another message already."""
    return IdempotencyConflict(
        f"the idempotency key {new.message.idempotency_key!r} was used for another message ({first_id}); "
        "nothing was accepted, use a new key for a new message"
    )


def id_taken(id_: str) -> OutboxError:
    """The error for a message with an id that another one here has."""
    return OutboxError(f"there is a message {id_} already; leave the id out, and it gets one of its own")


def unknown_message(id_: str) -> MessageNotFound:
    """The error for an id that no message here has."""
    return MessageNotFound(f"no message {id_} in this outbox; `postroom outbox list` shows what there is")


def _results(message: StoredMessage, transition: Transition, note: str) -> tuple[RecipientResult, ...]:
    """Let the results of recipients in doubt say what the transition has settled."""
    results, outcome = message.receipt.recipients, _OUTCOMES.get(transition)
    if outcome is None:
        return results
    said = {"outcome": outcome, **({"detail": note} if note else {})}
    return tuple(r.model_copy(update=said) if r.outcome is Outcome.UNKNOWN else r for r in results)


def _whoever_was_not_accepted(receipt: Receipt, recipients: tuple[str, ...]) -> Progress:
    """A fresh start for all; for those who were not accepted, or not even tried, when somebody was."""
    accepted = {result.address for result in receipt.recipients if result.outcome is Outcome.ACCEPTED}
    if not accepted:
        return Progress()
    return Progress(pending=tuple(address for address in recipients if address not in accepted))


def _check_complete(message: StoredMessage) -> None:
    if not message.has_body:
        raise StateConflict(f"message {message.id} was settled long ago and its text removed; send it as a new message")
    if brings_credentials(message.queue) and not message.has_credentials:
        raise StateConflict(
            f"message {message.id} came with credentials of its own, which were removed when it was settled; send it "
            "as a new message"
        )
