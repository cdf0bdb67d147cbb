"""Receipts, results and events: facts that do not change and are exact in JSON."""

from __future__ import annotations

import copy
import pickle
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from postroom.errors import Outcome, Scope
from postroom.events import Event, EventType
from postroom.receipts import Accepted, Attempt, Channel, NotTaken, Receipt, RecipientResult, Status

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
maybe = st.none() | text
moments = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
finite = st.floats(0, 1e6)
results = st.builds(
    RecipientResult,
    address=text,
    outcome=st.sampled_from(Outcome),
    provider_message_id=maybe,
    code=maybe,
    provider_code=maybe,
    status=st.none() | st.integers(100, 599),
    detail=maybe,
    segments=st.none() | st.integers(1, 20),
)
attempts = st.builds(
    Attempt,
    account=text,
    provider=text,
    outcome=st.sampled_from(Outcome),
    started_at=moments,
    duration=finite,
    recipients=st.lists(text, max_size=2).map(tuple),
    error=maybe,
    scope=st.none() | st.sampled_from(Scope),
    retry_after=st.none() | finite,
)
receipts = st.builds(
    Receipt,
    id=text,
    channel=st.sampled_from(Channel),
    status=st.sampled_from(Status),
    provider=maybe,
    account=maybe,
    message_id=maybe,
    recipients=st.lists(results, max_size=3).map(tuple),
    attempts=st.lists(attempts, max_size=3).map(tuple),
)
accepted = st.builds(
    Accepted, provider_message_id=maybe, recipients=st.lists(results, max_size=2).map(tuple), detail=maybe
)
raw = st.dictionaries(text, st.none() | st.booleans() | st.integers() | text | st.lists(text, max_size=2), max_size=3)
events = st.builds(
    Event,
    type=st.sampled_from(EventType),
    channel=st.sampled_from(Channel),
    provider=text,
    occurred_at=moments,
    recipient=maybe,
    code=maybe,
    raw=raw,
)


@given(results | attempts | receipts | accepted | events)
def test_json_reads_back_as_the_same_fact(fact: Any) -> None:
    assert type(fact).model_validate_json(fact.model_dump_json()) == fact


@given(results | attempts | receipts | accepted)
def test_a_fact_made_of_valid_values_is_the_one_that_the_constructor_makes(fact: Any) -> None:
    given_values = {name: getattr(fact, name) for name in fact.model_fields_set}
    made = type(fact).of(**given_values)
    assert made == fact
    assert made.model_fields_set == fact.model_fields_set
    assert made.model_dump_json() == fact.model_dump_json()
    assert pickle.loads(pickle.dumps(made)) == fact


@given(receipts | events)
def test_copies_are_equal(fact: Event | Receipt) -> None:
    assert pickle.loads(pickle.dumps(fact)) == fact
    assert copy.deepcopy(fact) == fact


def receipt(*outcomes: Outcome) -> Receipt:
    return Receipt(
        id="1",
        channel=Channel.SMS,
        status=Status.SENT,
        recipients=tuple(RecipientResult(address="a", outcome=outcome) for outcome in outcomes),
    )


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ([], False),
        ([Outcome.ACCEPTED], True),
        ([Outcome.PERMANENT, Outcome.ACCEPTED], True),
        ([Outcome.PERMANENT, Outcome.TRANSIENT, Outcome.UNKNOWN], False),
    ],
)
def test_a_receipt_is_accepted_when_one_recipient_is(outcomes: list[Outcome], expected: bool) -> None:
    assert receipt(*outcomes).accepted is expected


def test_a_fact_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        receipt().status = Status.FAILED  # type: ignore[misc]


@pytest.mark.parametrize("cls", [Receipt, Attempt, RecipientResult, Accepted, NotTaken, Event])
def test_a_fact_has_no_room_for_unknown_fields(cls: type[Any]) -> None:
    assert cls.model_config["extra"] == "forbid"
    with pytest.raises(ValidationError):
        cls.model_validate({"unknown": 1})


def test_words_are_text_that_reads_well() -> None:
    assert (
        f"{Status.IN_DOUBT} {Outcome.UNKNOWN} {Channel.SMS} {EventType.DELIVERED}" == "in_doubt unknown sms delivered"
    )
