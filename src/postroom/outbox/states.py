"""The states of a message in the outbox, and every transition between them.

waiting:   queued, scheduled, retrying, held   a worker may claim them once they are due
under way: sending                             in the hands of one worker
open:      in_doubt                            handed over, nobody knows whether it was taken
settled:   sent, failed, expired, cancelled, suppressed, and delivered, bounced by the provider's reports

A claim leads from waiting to sending; a result from there to sent, failed, in_doubt, or back to waiting.
"""

from __future__ import annotations

from enum import StrEnum

from postroom.errors import StateConflict
from postroom.receipts import Status

WAITING = frozenset({Status.QUEUED, Status.SCHEDULED, Status.RETRYING, Status.HELD})
"""A worker may claim these once they are due."""

SETTLED = frozenset(
    {Status.SENT, Status.DELIVERED, Status.BOUNCED, Status.FAILED, Status.CANCELLED, Status.EXPIRED, Status.SUPPRESSED}
)
"""Nothing changes these by itself any more, except what a provider reports later."""


class Transition(StrEnum):
    """What can happen to a message, by the name of what happens."""

    CLAIM = "claim"
    PUT_BACK = "put_back"
    RETRY_LATER = "retry_later"
    SUCCEED = "succeed"
    GIVE_UP = "give_up"
    DOUBT = "doubt"
    SUPPRESS = "suppress"
    EXPIRE = "expire"
    HOLD = "hold"
    CANCEL = "cancel"
    REQUEUE = "requeue"
    LEARN_SENT = "learn_sent"
    LEARN_FAILED = "learn_failed"
    LEARN_NOT_TAKEN = "learn_not_taken"
    CONFIRM = "confirm"
    DELIVER = "deliver"
    BOUNCE = "bounce"
    DISPROVE = "disprove"


_SENDING = frozenset({Status.SENDING})
_DOUBTED = frozenset({Status.IN_DOUBT})
_OPEN_TO_REPORTS = (
    _DOUBTED | {Status.QUEUED, Status.RETRYING, Status.HELD, Status.FAILED, Status.EXPIRED} | {Status.CANCELLED}
)
"""A report may prove that a message in one of these was taken when it was handed over."""

TRANSITIONS: dict[Transition, tuple[frozenset[Status], Status]] = {
    Transition.CLAIM: (WAITING, Status.SENDING),
    Transition.PUT_BACK: (_SENDING, Status.QUEUED),
    Transition.RETRY_LATER: (_SENDING, Status.RETRYING),
    Transition.SUCCEED: (_SENDING, Status.SENT),
    Transition.GIVE_UP: (_SENDING, Status.FAILED),
    Transition.DOUBT: (_SENDING, Status.IN_DOUBT),
    Transition.SUPPRESS: (_SENDING, Status.SUPPRESSED),
    Transition.EXPIRE: (WAITING | _SENDING, Status.EXPIRED),
    Transition.HOLD: (WAITING, Status.HELD),
    Transition.CANCEL: (WAITING, Status.CANCELLED),
    Transition.REQUEUE: (
        frozenset({Status.FAILED, Status.CANCELLED, Status.EXPIRED, Status.SUPPRESSED, Status.IN_DOUBT, Status.HELD})
        | {Status.RETRYING, Status.SCHEDULED},
        Status.QUEUED,
    ),
    Transition.LEARN_SENT: (_DOUBTED, Status.SENT),
    Transition.LEARN_FAILED: (_DOUBTED, Status.FAILED),
    Transition.LEARN_NOT_TAKEN: (_DOUBTED, Status.RETRYING),
    Transition.CONFIRM: (_OPEN_TO_REPORTS, Status.SENT),
    Transition.DELIVER: (_OPEN_TO_REPORTS | {Status.SENT}, Status.DELIVERED),
    Transition.BOUNCE: (_OPEN_TO_REPORTS | {Status.SENT, Status.DELIVERED}, Status.BOUNCED),
    Transition.DISPROVE: (frozenset({Status.SENT, Status.DELIVERED, Status.BOUNCED}), Status.IN_DOUBT),
}
"""Each transition: from which states, to which."""


def allowed_from(transition: Transition) -> frozenset[Status]:
    """The states `transition` may start from."""
    return TRANSITIONS[transition][0]


def apply(status: Status, transition: Transition) -> Status:
    """Return the state that `transition` leads to from `status`; raises StateConflict where it may not be made."""
    allowed, to = TRANSITIONS[transition]
    if status not in allowed:
        verb = _VERBS.get(transition, transition.replace("_", " "))
        raise StateConflict(
            f"cannot {verb} a message that is {_readable(status)}; it must be "
            f"{' or '.join(sorted(_readable(state) for state in allowed))}"
        )
    return to


_VERBS = {
    Transition.REQUEUE: "retry",
    Transition.LEARN_SENT: "resolve",
    Transition.LEARN_FAILED: "resolve",
    Transition.LEARN_NOT_TAKEN: "resolve",
}


def _readable(status: Status) -> str:
    return status.replace("_", " ")
