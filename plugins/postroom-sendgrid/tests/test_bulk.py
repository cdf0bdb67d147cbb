from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom import Attachment, Email
from postroom.errors import DeliveryError, Outcome, RecipientsRefused
from postroom.receipts import Accepted
from postroom.testing.http import Answer, Drop
from postroom_sendgrid.bulk import calls_for

YES = Answer(202, headers={"X-Message-Id": "call-1"})


def alike(count: int, **fields) -> list[Email]:
    return [
        Email(
            to=f"a{number}@example.org",
            from_="post@example.org",
            subject="Hi",
            text="Hi",
            id=f"{number:032x}",
            **fields,
        )
        for number in range(count)
    ]


def all_or_nothing(bad: str):
    """Refuse the whole call for one recipient, as SendGrid does."""

    def respond(request):
        for number, envelope in enumerate(request.json()["personalizations"]):
            if bad in envelope["to"][0]["email"]:
                field = f"personalizations.{number}.to.0.email"
                return Answer(400, {"errors": [{"message": "Does not contain a valid address.", "field": field}]})
        return YES

    return respond


async def test_a_thousand_alike_messages_take_one_call_with_an_id_for_each(sendgrid, server):
    server.answer(YES)
    answers = await sendgrid.send_many(alike(1000))

    (request,) = server.requests
    envelopes = request.json()["personalizations"]
    assert [envelope["custom_args"]["postroom_id"] for envelope in envelopes] == [f"{n:032x}" for n in range(1000)]
    assert answers == [Accepted(provider_message_id="call-1", request_id="call-1")] * 1000


async def test_different_contents_go_in_calls_of_their_own(sendgrid, server):
    server.answer(YES)
    one, two = alike(2)
    other = two.model_copy(update={"text": "Something else"})
    await sendgrid.send_many([one, other])
    assert len(server.requests) == 2


async def test_one_bad_address_fails_its_message_alone(sendgrid, server):
    server.answer_with(all_or_nothing("a3@"))
    answers = await sendgrid.send_many(alike(10))

    assert isinstance(answers[3], RecipientsRefused)
    assert all(isinstance(answer, Accepted) for number, answer in enumerate(answers) if number != 3)
    assert len(server.requests) == 2


async def test_after_an_unknown_outcome_no_message_of_the_call_goes_again(sendgrid, server):
    server.answer(Drop("request"), YES)
    answers = await sendgrid.send_many(alike(10))

    assert all(isinstance(answer, DeliveryError) and answer.outcome is Outcome.UNKNOWN for answer in answers)
    assert len(server.requests) == 1


async def test_a_refusal_that_names_nobody_fails_all_without_another_call(sendgrid, server):
    server.answer(Answer(400, {"errors": [{"message": "bad template", "field": "template_id"}]}))
    answers = await sendgrid.send_many(alike(3))

    assert all(isinstance(answer, DeliveryError) for answer in answers)
    assert len(server.requests) == 1


@pytest.mark.parametrize("recipients", [1, 3])
def test_no_call_has_more_than_a_thousand_recipients(recipients):
    to = [f"r{n}@example.org" for n in range(recipients)]
    batch = [Email(to=to, from_="post@example.org", text="x", id=str(n)) for n in range(700)]
    calls = calls_for(batch, sandbox=False)
    assert all(call.recipients <= 1000 for call in calls)
    assert sorted(index for call in calls for index, _ in call.members) == list(range(700))


def test_no_call_is_larger_than_the_api_takes():
    files = (Attachment(filename="a", content=b"x" * 14_000_000),)
    batch = [
        Email(to="a@example.org", from_="post@example.org", text=str(n), attachments=files, id=str(n)) for n in range(3)
    ]
    calls = calls_for(batch, sandbox=False)
    assert [len(call.members) for call in calls] == [1, 1, 1]


@given(contents=st.lists(st.sampled_from(["a", "b", "c"]), max_size=30))
def test_every_message_is_in_exactly_one_call_with_its_likes(contents):
    batch = [Email(to="a@example.org", from_="p@example.org", text=text, id=str(n)) for n, text in enumerate(contents)]
    calls = calls_for(batch, sandbox=False)
    assert sorted(index for call in calls for index, _ in call.members) == list(range(len(batch)))
    assert len(calls) == len(set(contents))
