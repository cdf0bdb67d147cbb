"""What providers' reports prove, and what a message becomes by them.

A report is the best evidence there is of a hand-over: it settles doubt, and whoever it proves to be served is never
handed over again. Reports are stored as they come and count, all of them and in whatever order they came, whenever
the message is in nobody's hands: engines ask `after_reports` in each transaction that stores a report or a result, or
makes a transition. So what came too early is not lost, and what comes twice does nothing.

A report of an unknown message waits as an orphan; the transaction that learns a provider's id adopts it.
"""

from __future__ import annotations

from dataclasses import replace
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from postroom.errors import Outcome, RecipientsRefused, StateConflict
from postroom.events import EventType
from postroom.outbox.records import NEVER, NOW, IdKind, StoredMessage
from postroom.outbox.states import SETTLED, WAITING, Transition, allowed_from, apply
from postroom.outbox.transitions import Transitioned, believed, everyone, recipient_of, transitioned
from postroom.receipts import RecipientResult, Status

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from postroom.events import Event
    from postroom.outbox.records import Progress, ProviderId, Settlement
    from postroom.receipts import Receipt


class Proof(IntEnum):
    """What a report proves of a recipient, the last word last: a bounce is final, whatever came before or after it."""

    TAKEN = 1
    DELIVERED = 2
    BOUNCED = 3


PROOFS: dict[EventType, Proof] = {
    EventType.SENT: Proof.TAKEN,
    EventType.DEFERRED: Proof.TAKEN,
    EventType.DELIVERED: Proof.DELIVERED,
    EventType.BOUNCED: Proof.BOUNCED,
    EventType.REJECTED: Proof.BOUNCED,
    EventType.COMPLAINED: Proof.TAKEN,
    EventType.UNSUBSCRIBED: Proof.TAKEN,
    EventType.OPENED: Proof.TAKEN,
    EventType.CLICKED: Proof.TAKEN,
    EventType.READ: Proof.TAKEN,
}
"""A provider can only report so of a message that it has; one that it rejects later was taken first."""

_TRANSITIONS = {
    Proof.TAKEN: Transition.CONFIRM,
    Proof.DELIVERED: Transition.DELIVER,
    Proof.BOUNCED: Transition.BOUNCE,
}


class _Evidence(NamedTuple):
    """The strongest report of each recipient, and the strongest of the message that names none of them."""

    of: Mapping[str, tuple[Proof, Event]]
    at_large: Proof | None


def after_reports(message: StoredMessage, events: Sequence[Event]) -> Transitioned | None:
    """Return `message` as the reports stored of it make it; None when they change nothing, or a worker has it in hand.

    Each recipient is settled by what is said of them alone. Only what was handed over can be proven: a report about
    somebody who was never tried, or whom a provider has refused in its answer, says nothing.
    """
    status, receipt = message.receipt.status, message.receipt
    if not events or status in {Status.SENDING, Status.SUPPRESSED}:
        return None
    found = _evidence(message, events)
    results = tuple(_proven(result, *found.of.get(result.address, (None, None))) for result in receipt.recipients)
    progress = _left_out(message, found.of) if status in WAITING else message.progress
    after = _status(message, results, progress, found)
    if (after, results, progress) == (status, receipt.recipients, message.progress):
        return None
    due_at = message.due_at if after is status else NEVER
    if status is after and status in WAITING - {Status.HELD} and progress.pending == ():
        due_at = NOW  # nobody is left to be tried: a worker decides what becomes of those in doubt
    receipt = receipt.model_copy(
        update={"status": after, "recipients": results, "provider_message_id": _provider_message_id(receipt, results)}
    )
    return Transitioned(after, receipt, progress, due_at)


def settled(done: Settlement, events: Sequence[Event]) -> Settlement:
    """Return what is to be written of a result, given the reports that are stored of its message."""
    after = after_reports(message_after(done), events) if events else None
    if after is None:
        return done
    return replace(done, status=after.status, receipt=after.receipt, progress=after.progress, due_at=after.due_at)


def message_after(done: Settlement) -> StoredMessage:
    """Return the message as a result leaves it."""
    return StoredMessage(
        seq=done.seq,
        id=done.receipt.id,
        queue=done.queue,
        receipt=done.receipt.model_copy(update={"status": done.status}),
        progress=done.progress,
        due_at=done.due_at,
        recipients=done.recipients,
    )


def decided(
    message: StoredMessage,
    transition: Transition,
    note: str,
    events: Sequence[Event],
    *,
    now: float = NOW,
    by_tenant: bool = False,
    held_until: float = NOW,
) -> Transitioned:
    """Return `message` after a person's transition, as `transitions.transitioned` does, and after what was reported.

    Raises StateConflict too when it would be sent again and the provider has reported that it has it for everybody.
    """
    after = transitioned(message, transition, note, now=now, by_tenant=by_tenant, held_until=held_until)
    moved = replace(message, receipt=after.receipt, progress=after.progress, due_at=after.due_at)
    proven = after_reports(moved, events)
    if proven is None:
        return after
    if after.status in WAITING and proven.status in SETTLED:
        raise StateConflict(
            f"the provider has reported that it has message {message.id}, so it is not sent again; to send it all the "
            "same, send it as a new message"
        )
    return proven


def subject(event: Event, named: int | None, holders: Sequence[tuple[int, IdKind]]) -> int | None:
    """Return which message a report is about: `named` by our id, or one of those that hold the provider's id.

    An id of one message alone says most. One that several may share says nothing when the report names a message,
    which then is the one here, or none of ours: sent directly, say, in the same call.
    """
    sole = next((seq for seq, kind in holders if kind is not IdKind.SHARED), None)
    if sole is not None or named is not None:
        return named if sole is None else sole
    return holders[0][0] if len(holders) == 1 and event.message_id is None else None


def key_of(event: Event) -> str | None:
    """The provider's id that a report names a message of ours by; what came in has an id of its own."""
    return None if event.type is EventType.INBOUND else event.provider_message_id


def disproven(message: StoredMessage, provider_id: str) -> Transitioned | None:
    """Return a message that was found by an id which turns out to be another's: the recipients are in doubt again.

    None when nothing rests on that id.
    """
    status, receipt = message.receipt.status, message.receipt
    if status not in allowed_from(Transition.DISPROVE) | {Status.IN_DOUBT}:
        return None
    doubt = {
        "outcome": Outcome.UNKNOWN,
        "provider_message_id": None,
        "detail": "what was found at the provider was another message",
    }
    results = tuple(
        result.model_copy(update=doubt) if result.provider_message_id == provider_id else result
        for result in receipt.recipients
    )
    if results == receipt.recipients:
        return None
    taken = receipt.provider_message_id if receipt.provider_message_id != provider_id else None
    after = receipt.model_copy(update={"status": Status.IN_DOUBT, "recipients": results, "provider_message_id": taken})
    return Transitioned(Status.IN_DOUBT, after, replace(message.progress, pending=(), asked=0), NOW)


def kind_beside(new: ProviderId, holders: Sequence[IdKind]) -> IdKind | None:
    """Return of which kind an id becomes that other messages have already; None when it cannot be the message's.

    What is only found is not taken from anybody. A provider that answers two messages with one id shares it.
    """
    if not holders or new.kind is IdKind.SHARED:
        return new.kind
    if new.kind is IdKind.FOUND:
        return None
    return new.kind if set(holders) == {IdKind.FOUND} else IdKind.SHARED


def _evidence(message: StoredMessage, events: Sequence[Event]) -> _Evidence:
    closed = _closed(message)
    tried = {result.address for result in message.receipt.recipients}
    of: dict[str, tuple[Proof, Event]] = {}
    at_large: list[Proof] = []
    for event in events:
        proof = PROOFS.get(event.type)
        if proof is None or not believed(event, message):
            continue
        address = _recipient(message, event)
        if address is None or not tried:
            at_large.append(proof)
        elif address in tried - closed and (address not in of or of[address][0] < proof):
            of[address] = proof, event
    return _Evidence(of, max(at_large, default=None))


def _recipient(message: StoredMessage, event: Event) -> str | None:
    """Whom of the message a report is about; None when it says nothing of one in particular."""
    of_all, results = everyone(message), message.receipt.recipients
    if len(of_all) == 1:
        return of_all[0]
    if event.recipient is not None:
        return recipient_of(event, message)
    by_id = [r.address for r in results if r.provider_message_id and r.provider_message_id == event.provider_message_id]
    return by_id[0] if len(by_id) == 1 else None


def _closed(message: StoredMessage) -> set[str]:
    """Those whom a provider has refused in its answer, and nobody else is to be tried for: no report changes that."""
    doubted = {
        address
        for attempt in message.receipt.attempts
        if attempt.outcome in {Outcome.UNKNOWN, Outcome.ACCEPTED}
        for address in attempt.recipients
    }
    refused = {result.address for result in message.receipt.recipients if result.outcome is Outcome.PERMANENT}
    pending = set(_pending(message)) if message.receipt.status in WAITING else set()
    return refused - doubted - pending


def _pending(message: StoredMessage) -> tuple[str, ...]:
    return everyone(message) if message.progress.pending is None else message.progress.pending


def _left_out(message: StoredMessage, proven: Mapping[str, object]) -> Progress:
    """Whoever is proven to be served is tried no more."""
    pending, progress = _pending(message), message.progress
    left = tuple(address for address in pending if address not in proven)
    if left == pending:
        return progress
    recipients = progress.recipients and tuple(address for address in progress.recipients if address not in proven)
    return replace(progress, pending=left, recipients=recipients)


def _proven(result: RecipientResult, proof: Proof | None, event: Event | None) -> RecipientResult:
    if proof is None or event is None:
        return result
    provider_id = result.provider_message_id or event.provider_message_id
    if proof is Proof.BOUNCED:
        said = {"provider_code": event.code, "detail": event.detail or "the provider reported that it bounced"}
        known = {"outcome": Outcome.PERMANENT, "code": RecipientsRefused.code, "provider_message_id": provider_id}
        return result.model_copy(update={**known, **said})
    if result.outcome is Outcome.ACCEPTED:
        return result
    return RecipientResult.accepted(result.address, provider_id, segments=result.segments)


def _status(
    message: StoredMessage, results: tuple[RecipientResult, ...], progress: Progress, found: _Evidence
) -> Status:
    before = message.receipt
    taken = before.status in allowed_from(Transition.DISPROVE)
    proofs = [proof for proof, _ in found.of.values()]
    if found.at_large and (taken or not results):
        proofs.append(found.at_large)
    if not proofs or (before.status in WAITING and progress.pending != ()):
        return before.status
    if not taken and any(result.outcome is Outcome.UNKNOWN for result in results):
        return before.status
    if before.status is Status.CANCELLED and not found.of.keys() >= {*everyone(message)}:
        return before.status  # whoever was not served is not sent to, and that was a person's word
    transition = _TRANSITIONS[max(proofs)]
    return apply(before.status, transition) if before.status in allowed_from(transition) else before.status


def _provider_message_id(receipt: Receipt, results: tuple[RecipientResult, ...]) -> str | None:
    return receipt.provider_message_id or next((r.provider_message_id for r in results if r.provider_message_id), None)
