from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import FrameType
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom import Attachment, Email, Postroom
from postroom.errors import DeliveryError, Outcome, RecipientsRefused
from postroom.receipts import Accepted
from postroom.testing.http import Answer, Drop, Hang, HttpRecorder, RecordedRequest
from postroom_sendgrid.bulk import LARGEST_CALL, Call, calls_for
from postroom_sendgrid.transport import SendGridEmail

from .conftest import opened

if TYPE_CHECKING:
    from .conftest import Opener


YES = Answer(202, headers={"X-Message-Id": "call-1"})


def alike(count: int, **fields: Any) -> list[Email]:
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


def places(calls: list[Call]) -> list[int]:
    return sorted(member.place for call in calls for member in call.members)


def all_or_nothing(bad: Callable[[str], bool], *, most: int = 1, named: bool = True) -> Callable[..., Any]:
    """Refuse the whole call for single recipients, of which it names at most `most`, as SendGrid does."""

    def respond(request: RecordedRequest) -> Answer:
        faults = [
            {
                "message": f"Does not contain a valid address: {mailbox['email']}",
                "field": f"personalizations.{number}.to.{place}.email" if named else "personalizations",
            }
            for number, envelope in enumerate(request.json()["personalizations"])
            for place, mailbox in enumerate(envelope["to"])
            if bad(mailbox["email"])
        ]
        return Answer(400, {"errors": faults[:most]}) if faults else YES

    return respond


def recording(respond: Callable[..., Any]) -> tuple[Callable[..., Any], list[Any]]:
    """Return `respond` and a list of what it was asked and answered."""
    told = []

    def noted(request: RecordedRequest) -> Answer:
        told.append((request, respond(request)))
        return told[-1][1]  # type: ignore[no-any-return]

    return noted, told


def accepted_ids(told: list[tuple[RecordedRequest, Answer]]) -> list[str]:
    """The ids of the messages in calls that were not refused."""
    return [
        envelope["custom_args"]["postroom_id"]
        for request, answer in told
        if answer.status == 202
        for envelope in request.json()["personalizations"]
    ]


async def test_a_thousand_alike_messages_take_one_call_with_an_id_for_each(
    sendgrid: SendGridEmail, server: HttpRecorder
) -> None:
    server.answer(YES)
    answers = await sendgrid.send_many(alike(1000))

    (request,) = server.requests
    envelopes = request.json()["personalizations"]
    assert [envelope["custom_args"]["postroom_id"] for envelope in envelopes] == [f"{n:032x}" for n in range(1000)]
    assert answers == [Accepted(provider_message_id="call-1", request_id="call-1")] * 1000


async def test_different_contents_go_in_calls_of_their_own(sendgrid: SendGridEmail, server: HttpRecorder) -> None:
    server.answer(YES)
    one, two = alike(2)
    other = two.model_copy(update={"text": "Something else"})
    await sendgrid.send_many([one, other])
    assert len(server.requests) == 2


async def test_one_bad_address_fails_its_message_alone(sendgrid: SendGridEmail, server: HttpRecorder) -> None:
    respond, told = recording(all_or_nothing(lambda address: address == "a3@example.org"))
    server.answer_with(respond)
    answers = await sendgrid.send_many(alike(10))

    assert isinstance(answers[3], RecipientsRefused)
    assert all(isinstance(answer, Accepted) for number, answer in enumerate(answers) if number != 3)
    assert len(server.requests) == 2
    assert accepted_ids(told) == [f"{n:032x}" for n in range(10) if n != 3]


async def test_each_bad_message_is_told_its_own_fault_only(sendgrid: SendGridEmail, server: HttpRecorder) -> None:
    server.answer_with(all_or_nothing(lambda address: address[:2] in {"a3", "a5"}, most=9))
    answers = await sendgrid.send_many(alike(8))

    assert "a3@" in str(answers[3].detail)
    assert "a5@" not in str(answers[3].detail)
    assert "a5@" in str(answers[5].detail)
    assert len(server.requests) == 2


@pytest.mark.parametrize("named", [True, False])
@given(bad=st.sets(st.integers(0, 19)), most=st.integers(1, 3))
@settings(max_examples=15, deadline=None)
async def test_whoever_is_bad_the_good_are_sent_once_and_the_bad_never(named: bool, bad: set[int], most: int) -> None:
    respond, told = recording(
        all_or_nothing(lambda address: int(address[1 : address.index("@")]) in bad, most=most, named=named)
    )
    async with HttpRecorder() as server, opened(server.url) as transport:
        server.answer_with(respond)
        answers = await transport.send_many(alike(20))
        calls = len(server.requests)

    assert [isinstance(answer, Accepted) for answer in answers] == [n not in bad for n in range(20)]
    assert sorted(accepted_ids(told)) == [f"{n:032x}" for n in range(20) if n not in bad]
    assert calls <= 39


async def test_after_a_few_refusals_the_rest_go_in_halves(sendgrid: SendGridEmail, server: HttpRecorder) -> None:
    """Else a thousand bad addresses would make the good ones wait for a thousand answers, one after the other."""
    server.answer_with(all_or_nothing(lambda address: int(address[1 : address.index("@")]) < 8))
    answers = await sendgrid.send_many(alike(24))

    assert [isinstance(answer, Accepted) for answer in answers] == [n >= 8 for n in range(24)]
    assert [len(request.json()["personalizations"]) for request in server.requests[:6]] == [24, 23, 22, 21, 10, 10]


@pytest.mark.parametrize("status", [401, 403, 404, 422, 429, 500, 502])
async def test_only_a_400_that_names_a_message_lets_the_others_go_again(
    sendgrid: SendGridEmail, server: HttpRecorder, status: int
) -> None:
    fault = {"message": "bad", "field": "personalizations.0.to.0.email"}
    server.answer(Answer(status, {"errors": [fault]}), YES)
    answers = await sendgrid.send_many(alike(3))

    assert all(isinstance(answer, DeliveryError) and answer.status == status for answer in answers)
    assert len(server.requests) == 1


async def test_a_call_that_is_too_large_for_the_server_goes_in_halves(
    sendgrid: SendGridEmail, server: HttpRecorder
) -> None:
    server.answer_with(lambda request: YES if len(request.json()["personalizations"]) <= 3 else Answer(413))
    answers = await sendgrid.send_many(alike(10))

    assert all(isinstance(answer, Accepted) for answer in answers)
    assert max(len(r.json()["personalizations"]) for r in server.requests[-4:]) <= 3


async def test_what_goes_again_after_a_refusal_is_unknown_when_its_answer_is_lost(
    sendgrid: SendGridEmail, server: HttpRecorder
) -> None:
    bad = {"errors": [{"message": "bad", "field": "personalizations.0.to.0.email"}]}
    server.answer(Answer(400, bad), Drop("request"), YES)
    answers = await sendgrid.send_many(alike(3))

    assert [answer.outcome for answer in answers] == [Outcome.PERMANENT, Outcome.UNKNOWN, Outcome.UNKNOWN]  # type: ignore[union-attr]
    assert len(server.requests) == 2


async def test_a_fault_of_a_personalization_that_is_not_there_fails_the_whole_call(
    sendgrid: SendGridEmail, server: HttpRecorder
) -> None:
    server.answer(Answer(400, {"errors": [{"message": "bad", "field": "personalizations.77.to.0.email"}]}))
    answers = await sendgrid.send_many(alike(3))

    assert all(isinstance(answer, DeliveryError) for answer in answers)
    assert len(server.requests) == 1


async def test_a_refusal_of_merged_recipients_finds_the_message_and_the_address(
    sendgrid: SendGridEmail, server: HttpRecorder, email: Callable[..., Email]
) -> None:
    """The first message takes two personalizations, so the fault's number is not the message's."""
    merged = [
        email(to=["a@example.org", "b@example.org"], template="d-1", merge_data={"a@example.org": {}}, id="first"),
        email(to=["c@example.org", "d@example.org"], template="d-1", merge_data={"c@example.org": {}}, id="second"),
    ]
    server.answer(Answer(400, {"errors": [{"message": "bad", "field": "personalizations.3.to.0.email"}]}), YES)
    first, second = await sendgrid.send_many(merged)

    assert isinstance(first, Accepted)
    assert isinstance(second, RecipientsRefused)
    assert {result.address: result.code for result in second.recipients} == {
        "c@example.org": "message_rejected",
        "d@example.org": "recipients_refused",
    }


async def test_no_more_calls_are_under_way_than_the_account_allows(open_sendgrid: Opener, server: HttpRecorder) -> None:
    server.answer(Answer(202, delay=0.02))
    batch = [message.model_copy(update={"text": str(n)}) for n, message in enumerate(alike(12))]
    async with open_sendgrid(server.url, concurrency=3) as transport:
        answers = await transport.send_many(batch)

    assert all(isinstance(answer, Accepted) for answer in answers)
    assert server.connections <= 3


async def test_cancelling_a_bulk_sends_nothing_more(open_sendgrid: Opener, server: HttpRecorder) -> None:
    server.answer(Hang("request"))
    batch = [message.model_copy(update={"text": str(n)}) for n, message in enumerate(alike(6))]
    async with open_sendgrid(server.url, concurrency=2, timeout=30) as transport:
        task = asyncio.create_task(transport.send_many(batch))
        await server.received(2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert len(server.requests) == 2


async def test_an_empty_batch_makes_no_call(sendgrid: SendGridEmail, server: HttpRecorder) -> None:
    assert await sendgrid.send_many([]) == []
    assert server.connections == 0


async def test_a_thousand_messages_through_the_room_are_one_call_and_a_receipt_each(server: HttpRecorder) -> None:
    server.answer(YES)
    account = {"provider": "sendgrid", "api_key": "SG.key", "base_url": server.url, "from": "post@example.org"}
    news = [Email(to=f"a{n}@example.org", subject="Hi", text="Hi") for n in range(1000)]
    async with Postroom(accounts={"sg": account}) as room:
        receipts = await room.send_many(news)

    (request,) = server.requests
    ids = [envelope["custom_args"]["postroom_id"] for envelope in request.json()["personalizations"]]
    assert ids == [receipt.id for receipt in receipts]  # type: ignore[union-attr]
    assert all(receipt.accepted and receipt.provider_message_id == "call-1" for receipt in receipts)  # type: ignore[union-attr]


async def test_after_an_unknown_outcome_no_message_of_the_call_goes_again(
    sendgrid: SendGridEmail, server: HttpRecorder
) -> None:
    server.answer(Drop("request"), YES)
    answers = await sendgrid.send_many(alike(10))

    assert all(isinstance(answer, DeliveryError) and answer.outcome is Outcome.UNKNOWN for answer in answers)
    assert len(server.requests) == 1


async def test_a_refusal_that_names_nobody_fails_all_without_another_call(
    sendgrid: SendGridEmail, server: HttpRecorder
) -> None:
    server.answer(Answer(400, {"errors": [{"message": "bad template", "field": "template_id"}]}))
    answers = await sendgrid.send_many(alike(3))

    assert all(isinstance(answer, DeliveryError) for answer in answers)
    assert len(server.requests) == 1


@pytest.mark.parametrize(("recipients", "calls"), [(1, 1), (2, 2), (3, 3), (1000, 700)])
def test_no_call_has_more_than_a_thousand_recipients(recipients: int, calls: int) -> None:
    batch = [
        Email(
            to=[f"r{number}x{n}@example.org" for n in range(recipients)],
            from_="post@example.org",
            text="x",
            id=str(number),
        )
        for number in range(700 if recipients < 1000 else 3)
    ]
    made = calls_for(batch, sandbox=False)
    assert len(made) == (calls if recipients < 1000 else 3)
    assert all(call.recipients <= 1000 for call in made)
    assert places(made) == list(range(len(batch)))


def test_no_call_is_larger_than_the_api_takes() -> None:
    files = (Attachment(filename="a", content=b"x" * 14_000_000),)
    batch = [
        Email(to="a@example.org", from_="post@example.org", text=str(n), attachments=files, id=str(n)) for n in range(3)
    ]
    calls = calls_for(batch, sandbox=False)
    assert [len(call.members) for call in calls] == [1, 1, 1]


def test_alike_messages_with_much_data_go_in_several_calls() -> None:
    batch = [
        Email(
            to=f"a{n}@example.org",
            from_="post@example.org",
            template="d-1",
            merge_data={f"a{n}@example.org": {"x": "x" * 12_000_000}},
            id=str(n),
        )
        for n in range(3)
    ]
    calls = calls_for(batch, sandbox=False)
    assert [len(call.members) for call in calls] == [2, 1]
    assert all(len(call.body()) < LARGEST_CALL for call in calls)


def test_a_call_is_never_larger_than_it_reckons() -> None:
    batch = [*alike(3), *alike(2, cc="é <c@example.org>", headers={"X-A": "ü" * 50}, metadata={"k": "\x7f" * 99})]
    for call in calls_for(batch, sandbox=True):
        assert call.size - 64 <= len(call.body()) <= call.size


@given(contents=st.lists(st.sampled_from(["a", "b", "c"]), max_size=30))
def test_every_message_is_in_exactly_one_call_with_its_likes(contents: list[str]) -> None:
    batch = [
        Email(to=f"a{n}@example.org", from_="p@example.org", text=text, id=str(n)) for n, text in enumerate(contents)
    ]
    calls = calls_for(batch, sandbox=False)
    assert places(calls) == list(range(len(batch)))
    assert len(calls) == len(set(contents))


@given(addresses=st.lists(st.lists(st.sampled_from(["a", "A", "b", "c"]), min_size=1, max_size=3), max_size=12))
def test_no_call_names_an_address_twice(addresses: list[list[str]]) -> None:
    batch = [
        Email(to=[f"{name}@example.org" for name in names], from_="p@example.org", text="x", id=str(n))
        for n, names in enumerate(addresses)
    ]
    calls = calls_for(batch, sandbox=False)
    assert places(calls) == list(range(len(batch)))
    for call in calls:
        named = [
            mailbox["email"].lower()
            for envelope in json.loads(b'{"x":[' + b",".join(m.envelopes for m in call.members) + b"]}")["x"]
            for mailbox in envelope["to"]
        ]
        assert len(named) == len(set(named))


@pytest.mark.parametrize(
    "other",
    [
        {"from_": "else@example.org"},
        {"reply_to": "r@example.org"},
        {"text": "else"},
        {"html": "h"},
        {"amp": "a"},
        {"calendar": "c"},
        {"template": "d-1"},
        {"attachments": [Attachment(filename="a", content=b"x")]},
        {"tags": ["t"]},
        {"provider_options": {"ip_pool_name": "pool"}},
    ],
    ids="+".join,
)
def test_what_a_call_shares_keeps_messages_apart_that_differ_in_it(
    email: Callable[..., Email], other: dict[str, Any]
) -> None:
    batch = [email(to="a@example.org"), email(to="b@example.org", **other)]
    assert len(calls_for(batch, sandbox=False)) == 2


def test_a_message_that_leaves_its_subject_to_the_template_takes_no_others(email: Callable[..., Email]) -> None:
    batch = [email(to="a@example.org", template="d-1"), email(to="b@example.org", template="d-1", subject="")]
    named, unnamed = [json.loads(call.body()) for call in calls_for(batch, sandbox=False)]
    assert named["subject"] == "Hello"
    assert "subject" not in unnamed


def test_subject_headers_metadata_data_and_time_may_differ_in_one_call(email: Callable[..., Email]) -> None:
    times = [datetime.now(UTC) + timedelta(hours=hours) for hours in (1, 2)]
    batch = [
        email(
            to=f"a{n}@example.org",
            subject=f"Subject {n}",
            headers={"X-N": str(n)},
            metadata={"n": str(n)},
            template="d-1",
            merge_data={f"a{n}@example.org": {"n": n}},
            send_at=time,
            id=f"id-{n}",
            message_id=f"<{n}@example.org>",
        )
        for n, time in enumerate(times)
    ]
    (call,) = calls_for(batch, sandbox=False)
    envelopes = json.loads(call.body())["personalizations"]
    for n, envelope in enumerate(envelopes):
        assert envelope == {
            "to": [{"email": f"a{n}@example.org"}],
            "custom_args": {"n": str(n), "postroom_id": f"id-{n}"},
            "subject": f"Subject {n}",
            "headers": {"Message-ID": f"<{n}@example.org>", "X-N": str(n)},
            "send_at": int(times[n].timestamp()),
            "dynamic_template_data": {"n": n},
        }


def test_building_four_times_as_many_takes_about_four_times_the_work() -> None:
    """Counted in Python calls, which no other process can disturb."""

    def work(count: int) -> int:
        batch, calls = alike(count), 0

        def count_calls(frame: FrameType, event: str, argument: object) -> None:
            nonlocal calls
            calls += event in {"call", "c_call"}

        sys.setprofile(count_calls)
        try:
            [call.body() for call in calls_for(batch, sandbox=False)]
        finally:
            sys.setprofile(None)
        return calls

    work(10)
    assert work(1000) < 4.5 * work(250)
