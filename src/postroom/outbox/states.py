"""The states of a message in the outbox, and every move between them.

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
"""Nothing moves these on by itself any more, except what a provider reports later."""


class Move(StrEnum):
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
    DELIVER = "deliver"
    BOUNCE = "bounce"


_SENDING = frozenset({Status.SENDING})
_DOUBTED = frozenset({Status.IN_DOUBT})

MOVES: dict[Move, tuple[frozenset[Status], Status]] = {
    Move.CLAIM: (WAITING, Status.SENDING),
    Move.PUT_BACK: (_SENDING, Status.QUEUED),
    Move.RETRY_LATER: (_SENDING, Status.RETRYING),
    Move.SUCCEED: (_SENDING, Status.SENT),
    Move.GIVE_UP: (_SENDING, Status.FAILED),
    Move.DOUBT: (_SENDING, Status.IN_DOUBT),
    Move.SUPPRESS: (_SENDING, Status.SUPPRESSED),
    Move.EXPIRE: (WAITING | _SENDING, Status.EXPIRED),
    Move.HOLD: (WAITING, Status.HELD),
    Move.CANCEL: (WAITING, Status.CANCELLED),
    Move.REQUEUE: (
        frozenset({Status.FAILED, Status.CANCELLED, Status.EXPIRED, Status.SUPPRESSED, Status.IN_DOUBT, Status.HELD})
        | {Status.RETRYING, Status.SCHEDULED},
        Status.QUEUED,
    ),
    Move.LEARN_SENT: (_DOUBTED, Status.SENT),
    Move.LEARN_FAILED: (_DOUBTED, Status.FAILED),
    Move.LEARN_NOT_TAKEN: (_DOUBTED, Status.RETRYING),
    Move.DELIVER: (_DOUBTED | {Status.SENT}, Status.DELIVERED),
    Move.BOUNCE: (_DOUBTED | {Status.SENT, Status.DELIVERED}, Status.BOUNCED),
}
"""Each move: from which states, to which."""


def sources(move: Move) -> frozenset[Status]:
    """The states `move` may start from."""
    return MOVES[move][0]


def moved(status: Status, move: Move) -> Status:
    """Return the state that `move` leads to from `status`; raises StateConflict where it may not be made."""
    allowed, to = MOVES[move]
    if status not in allowed:
        raise StateConflict(
            f"cannot {_WORDS.get(move, move.replace('_', ' '))} a message that is {_said(status)}; it must be "
            f"{' or '.join(sorted(_said(state) for state in allowed))}"
        )
    return to


_WORDS = {
    Move.REQUEUE: "retry",
    Move.LEARN_SENT: "resolve",
    Move.LEARN_FAILED: "resolve",
    Move.LEARN_NOT_TAKEN: "resolve",
}


def _said(status: Status) -> str:
    return status.replace("_", " ")
