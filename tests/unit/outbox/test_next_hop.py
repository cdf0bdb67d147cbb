"""Where a message goes next: which account, for whom of those who are still to be served."""

from __future__ import annotations

from collections.abc import Mapping

from postroom import Email, Sms
from postroom.config.model import parse_config
from postroom.delivery.routing import Router
from postroom.outbox.next_hop import Hop, next_hop
from postroom.outbox.records import AccountHealth
from postroom.registry.registry import Registry

NOW = 1_800_000_000.0
ANN, BOB, CID = "ann@example.org", "bob@example.org", "cid@example.org"
HEALTH: Mapping[str, AccountHealth] = {}


def router() -> Router:
    account = {"provider": "memory", "from": "post@example.org"}
    config = parse_config(
        {
            "accounts": {"a": account, "b": account},
            "routes": {"r": {"via": ["a", "b"]}},
            "defaults": {"email": "r", "sms": "r"},
        }
    )
    return Router(config, Registry())


def email(*to: str) -> Email:
    return Email(to=list(to), text="x", id="m")


def test_a_whole_message_names_nobody() -> None:
    assert next_hop(router(), email(ANN, BOB), HEALTH, NOW) == Hop("a/email", "r", None)
    assert next_hop(router(), email(ANN, BOB), HEALTH, NOW, left=(ANN, BOB)) == Hop("a/email", "r", None)


def test_only_those_who_are_left_are_served() -> None:
    assert next_hop(router(), email(ANN, BOB, CID), HEALTH, NOW, left=(CID,)) == Hop("a/email", "r", (CID,))
    left = (ANN, CID)
    assert next_hop(router(), email(ANN, BOB, CID), HEALTH, NOW, left=left) == Hop("a/email", "r", left)


def test_an_account_is_not_tried_again_in_a_round_for_those_it_had() -> None:
    message = email(ANN, BOB)
    assert next_hop(router(), message, HEALTH, NOW, tried={"a": [ANN]}) == Hop("a/email", "r", (BOB,))
    assert next_hop(router(), message, HEALTH, NOW, tried={"a": [ANN, BOB]}) == Hop("b/email", "r", None)
    assert next_hop(router(), message, HEALTH, NOW, tried={"a": [ANN, BOB], "b": [ANN, BOB]}) is None


def test_a_text_message_goes_to_fifty_at_once_and_an_email_to_all() -> None:
    numbers = [f"+4420794609{number:02}" for number in range(60)]
    hop = next_hop(router(), Sms(to=numbers, body="x", id="m"), HEALTH, NOW)
    assert hop is not None
    assert hop.recipients == tuple(numbers[:50])
    many = [f"n{number}@example.org" for number in range(60)]
    assert next_hop(router(), email(*many), HEALTH, NOW) == Hop("a/email", "r", None)
    some = tuple(many[:55])
    assert next_hop(router(), email(*many), HEALTH, NOW, left=some) == Hop("a/email", "r", some)


def test_messages_with_credentials_of_their_own_have_a_queue_of_their_own() -> None:
    message = Sms(to="+447700900000", body="x", id="m", options={"twilio_sid": "AC1"})
    assert next_hop(router(), message, HEALTH, NOW) == Hop("a/sms/own", "r", None)
