"""The states of a message and the moves between them."""

from __future__ import annotations

import pytest

from postroom import OutboxError, Status
from postroom.outbox.states import SETTLED, TRANSITIONS, WAITING, Transition, allowed_from, apply

WAIT = "held queued retrying scheduled"
TABLE = {
    "claim": (WAIT, "sending"),
    "put_back": ("sending", "queued"),
    "retry_later": ("sending", "retrying"),
    "succeed": ("sending", "sent"),
    "give_up": ("sending", "failed"),
    "doubt": ("sending", "in_doubt"),
    "suppress": ("sending", "suppressed"),
    "expire": (f"{WAIT} sending", "expired"),
    "hold": (WAIT, "held"),
    "cancel": (WAIT, "cancelled"),
    "requeue": ("cancelled expired failed held in_doubt retrying scheduled suppressed", "queued"),
    "learn_sent": ("in_doubt", "sent"),
    "learn_failed": ("in_doubt", "failed"),
    "learn_not_taken": ("in_doubt", "retrying"),
    "confirm": ("cancelled expired failed held in_doubt queued retrying", "sent"),
    "deliver": ("cancelled expired failed held in_doubt queued retrying sent", "delivered"),
    "bounce": ("cancelled delivered expired failed held in_doubt queued retrying sent", "bounced"),
    "disprove": ("bounced delivered sent", "in_doubt"),
}
"""The state machine as it is promised: what may happen, where, and what comes of it."""

OF_EVENTS = {Transition.CONFIRM, Transition.DELIVER, Transition.BOUNCE, Transition.DISPROVE}


def test_every_state_can_be_reached_or_is_where_messages_begin() -> None:
    reached = {to for _, to in TRANSITIONS.values()} | {Status.QUEUED, Status.SCHEDULED}
    assert reached == set(Status)


def test_every_state_that_is_not_settled_can_be_left() -> None:
    left = set().union(*(allowed for allowed, _ in TRANSITIONS.values()))
    assert set(Status) - SETTLED <= left


@pytest.mark.parametrize("move", Transition)
@pytest.mark.parametrize("status", Status)
def test_a_move_is_made_from_its_own_states_only(move: Transition, status: Status) -> None:
    allowed, to = TRANSITIONS[move]
    if status in allowed:
        assert apply(status, move) is to
    else:
        with pytest.raises(OutboxError, match=f"cannot .* a message that is {status.replace('_', ' ')}; it must be"):
            apply(status, move)


@pytest.mark.parametrize("move", sorted(set(Transition) - OF_EVENTS - {Transition.REQUEUE}))
def test_what_is_settled_stays_so_unless_a_person_or_the_provider_says_otherwise(move: Transition) -> None:
    assert not allowed_from(move) & SETTLED


def test_a_message_that_was_accepted_is_never_sent_again() -> None:
    assert not allowed_from(Transition.REQUEUE) & {Status.SENT, Status.DELIVERED, Status.BOUNCED, Status.SENDING}
    assert not allowed_from(Transition.CLAIM) & (SETTLED | {Status.IN_DOUBT})


def test_a_worker_claims_only_what_waits() -> None:
    assert allowed_from(Transition.CLAIM) == WAITING


def test_a_message_in_doubt_moves_only_by_news_or_a_person() -> None:
    from_doubt = {move for move in Transition if Status.IN_DOUBT in allowed_from(move)}
    assert from_doubt == {
        Transition.LEARN_SENT,
        Transition.LEARN_FAILED,
        Transition.LEARN_NOT_TAKEN,
        Transition.REQUEUE,
        Transition.CONFIRM,
        Transition.DELIVER,
        Transition.BOUNCE,
    }


def test_the_state_machine_is_the_one_that_was_promised() -> None:
    assert {str(name): (" ".join(sorted(allowed)), str(to)) for name, (allowed, to) in TRANSITIONS.items()} == {
        name: (" ".join(sorted(allowed.split())), to) for name, (allowed, to) in TABLE.items()
    }
    assert {str(status) for status in WAITING} == set(WAIT.split())
