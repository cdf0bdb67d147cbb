"""The states of a message and the moves between them."""

from __future__ import annotations

import pytest

from postroom import OutboxError, Status
from postroom.outbox.states import MOVES, SETTLED, WAITING, Move, moved, sources

OF_EVENTS = {Move.DELIVER, Move.BOUNCE}


def test_every_state_can_be_reached_or_is_where_messages_begin():
    reached = {to for _, to in MOVES.values()} | {Status.QUEUED, Status.SCHEDULED}
    assert reached == set(Status)


def test_every_state_that_is_not_settled_can_be_left():
    left = set().union(*(allowed for allowed, _ in MOVES.values()))
    assert set(Status) - SETTLED <= left


@pytest.mark.parametrize("move", Move)
@pytest.mark.parametrize("status", Status)
def test_a_move_is_made_from_its_own_states_only(move, status):
    allowed, to = MOVES[move]
    if status in allowed:
        assert moved(status, move) is to
    else:
        with pytest.raises(OutboxError, match=f"cannot .* a message that is {status.replace('_', ' ')}; it must be"):
            moved(status, move)


@pytest.mark.parametrize("move", sorted(set(Move) - OF_EVENTS - {Move.REQUEUE}))
def test_what_is_settled_stays_so_unless_a_person_or_the_provider_says_otherwise(move):
    assert not sources(move) & SETTLED


def test_a_message_that_was_accepted_is_never_sent_again():
    assert not sources(Move.REQUEUE) & {Status.SENT, Status.DELIVERED, Status.BOUNCED, Status.SENDING}
    assert not sources(Move.CLAIM) & (SETTLED | {Status.IN_DOUBT})


def test_a_worker_claims_only_what_waits():
    assert sources(Move.CLAIM) == WAITING


def test_a_message_in_doubt_moves_only_by_news_or_a_person():
    from_doubt = {move for move in Move if Status.IN_DOUBT in sources(move)}
    assert from_doubt == {
        Move.LEARN_SENT,
        Move.LEARN_FAILED,
        Move.LEARN_NOT_TAKEN,
        Move.REQUEUE,
        Move.DELIVER,
        Move.BOUNCE,
    }
