"""The SMS API says 200 to everything; only a zero for every part is a yes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from postroom import Postroom, Sms
from postroom.errors import DeliveryError, MessageRejected, Outcome, RecipientsRefused, Scope, UnexpectedResponse
from postroom.plugin import Resources
from postroom.plugin.http import HttpReply
from postroom.receipts import Accepted, Status
from postroom.testing.http import Answer, HttpRecorder
from postroom_vonage.settings import VonageSettings
from postroom_vonage.sms_api import SmsApi
from postroom_vonage.transport import VonageSms

from .conftest import CANARY, parts

LONG = "x" * 400


async def test_the_ids_of_all_parts_are_kept(
    open_vonage: Callable[..., Any], server: HttpRecorder, sms: Callable[..., Any]
) -> None:
    server.answer(Answer(200, parts("0", "0")))
    async with open_vonage(server.url, api="sms") as vonage:
        accepted = await vonage.send(sms(body="x" * 300))
    [result] = accepted.recipients
    assert (accepted.provider_message_id, accepted.detail) == ("id-0", "parts id-0, id-1")
    assert (result.address, result.provider_message_id, result.segments) == ("+447700900000", "id-0", 2)


async def test_one_part_needs_no_list_of_parts(
    open_vonage: Callable[..., Any], server: HttpRecorder, sms: Callable[..., Any]
) -> None:
    server.answer(Answer(200, parts("0")))
    async with open_vonage(server.url, api="sms") as vonage:
        accepted = await vonage.send(sms())
    assert (accepted.provider_message_id, accepted.detail) == ("id-0", None)


@pytest.mark.parametrize(
    ("statuses", "code", "first"),
    [(("0", "1", "0"), "1", "id-0"), (("9", "0", "0"), "9", "id-1"), (("0", "0", "5"), "5", "id-0")],
)
async def test_a_text_of_which_only_some_parts_were_taken_is_over(
    open_vonage: Callable[..., Any],
    server: HttpRecorder,
    sms: Callable[..., Any],
    statuses: tuple[str, ...],
    code: str,
    first: str,
) -> None:
    server.answer(Answer(200, parts(*statuses)))
    async with open_vonage(server.url, api="sms") as vonage:
        with pytest.raises(MessageRejected, match="only 2 of 3 parts were accepted .*sent and billed") as caught:
            await vonage.send(sms(body=LONG))
    error = caught.value
    assert (error.outcome, error.scope, error.provider_code) == (Outcome.PERMANENT, Scope.MESSAGE, code)
    assert error.recipients[0].provider_message_id == first
    assert "nothing was sent" not in str(error)


@pytest.mark.parametrize("on_unknown", ["hold", "retry", "assume_sent"])
async def test_a_partly_sent_text_is_never_sent_again(server: HttpRecorder, on_unknown: str) -> None:
    server.answer(Answer(200, parts("0", "1")))
    account = {"provider": "vonage", "api": "sms", "api_key": "k", "api_secret": CANARY, "base_url": server.url}
    accounts = {"first": {**account, "from": "Shop", "on_unknown": on_unknown}, "second": {"provider": "memory"}}
    routes = {"careful": {"via": ["first", "second"]}}
    async with Postroom(accounts=accounts, routes=routes, defaults={"sms": "careful"}) as room:
        with pytest.raises(MessageRejected) as caught:
            await room.send(Sms(to="+447700900000", body="x" * 200))
        assert room.memory == []
    assert caught.value.receipt.status is Status.FAILED  # type: ignore[union-attr]
    assert caught.value.receipt.recipients[0].provider_message_id == "id-0"  # type: ignore[union-attr]
    assert len(server.requests) == 1


async def test_all_parts_refused_is_the_first_parts_refusal(
    open_vonage: Callable[..., Any], server: HttpRecorder, sms: Callable[..., Any]
) -> None:
    server.answer(Answer(200, parts("7", "1")))
    async with open_vonage(server.url, api="sms") as vonage:
        with pytest.raises(RecipientsRefused):
            await vonage.send(sms(body="x" * 300))


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"messages": []},
        {"messages": {}},
        {"messages": ["0"]},
        {"messages": [{}]},
        {"messages": [{"status": None}]},
        {"messages": [{"status": True}]},
        {"messages": [{"status": "ok"}]},
        {"messages": [{"status": "0\n"}]},
        {"messages": [{"status": "0"}, {"message-id": "x"}]},
        {"message-count": "2", "messages": [{"status": "0"}]},
        {"message-count": None, "messages": [{"status": "0"}]},
        [],
        "",
        "null",
        "<html>Welcome</html>",
        b'{"messages": [{"status": "0"}',
        b"\xff\xfe",
    ],
    ids=str,
)
async def test_an_answer_that_does_not_list_every_part_proves_nothing(
    open_vonage: Callable[..., Any], server: HttpRecorder, sms: Callable[..., Any], body: Any
) -> None:
    server.answer(Answer(200, body))
    async with open_vonage(server.url, api="sms") as vonage:
        with pytest.raises(UnexpectedResponse, match="look for the message") as caught:
            await vonage.send(sms())
    assert caught.value.outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("status", [0, "0"], ids=repr)
async def test_a_status_may_be_a_number_or_text(
    open_vonage: Callable[..., Any], server: HttpRecorder, sms: Callable[..., Any], status: int | str
) -> None:
    server.answer(Answer(200, {"message-count": 1, "messages": [{"status": status}]}))
    async with open_vonage(server.url, api="sms") as vonage:
        accepted = await vonage.send(sms())
    assert accepted.provider_message_id is None


SCALARS = st.none() | st.booleans() | st.integers(-2, 40) | st.text(max_size=5)
PART = st.dictionaries(st.sampled_from(["status", "message-id", "error-text"]), SCALARS | st.just("0"))
ANSWER = st.fixed_dictionaries(
    {"messages": st.lists(PART | SCALARS, max_size=4) | SCALARS}, optional={"message-count": SCALARS}
)


@given(answer=ANSWER | SCALARS | st.lists(SCALARS))
def test_any_json_is_an_acceptance_of_every_part_or_a_delivery_error(answer: Any) -> None:
    settings = VonageSettings(api="sms", api_key="k", api_secret="s")
    transport = VonageSms("texts", settings, Resources())
    reply = HttpReply(200, CIMultiDictProxy(CIMultiDict()), json.dumps(answer).encode())
    message = Sms(to="+447700900000", from_="Shop", body="hi")
    try:
        taken = SmsApi(settings).read(transport, message, reply)
    except DeliveryError as error:
        zero = [part for part in _listed(answer) if str(part.get("status")) == "0"]
        assert error.outcome is not Outcome.TRANSIENT or not zero
    else:
        assert isinstance(taken, Accepted)
        assert all(str(part["status"]) == "0" for part in answer["messages"])
        assert answer["messages"]


def _listed(answer: Any) -> list[Any]:
    found = answer.get("messages") if isinstance(answer, dict) else None
    return [part for part in found if isinstance(part, dict)] if isinstance(found, list) else []
