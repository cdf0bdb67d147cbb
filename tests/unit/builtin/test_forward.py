"""The built-in provider `postroom`: the conformance kit over the gateway's API, and what it says beyond that."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from postroom.builtin.forward import PostroomEmail, PostroomSms, idempotency_key
from postroom.client import Postroom
from postroom.errors import AuthenticationFailed, MessageRejected, Outcome, Scope, UnexpectedResponse
from postroom.messages import Attachment, Email, Sms
from postroom.testing.conformance import EmailConformance, FakeHttpProvider, SmsConformance
from postroom.testing.http import Answer, Drop, HttpRecorder, RecordedRequest

KEY = "xx--canary-key-never-to-be-shown"


def error(status: int, code: str, text: str = "said the gateway", **headers: Any) -> Answer:
    return Answer(status, {"error": code, "message": text, "details": []}, headers)


TAKEN = Answer(202, {"id": "g1", "status": "queued", "recipients": []})


class GatewayWire(FakeHttpProvider):
    def accepted(self, request: RecordedRequest, identifier: str) -> Answer:
        return Answer(202, {"id": identifier, "status": "queued", "recipients": []})

    def rejected(self, request: RecordedRequest) -> Answer:
        return error(400, "invalid_message")

    def unauthorised(self, request: RecordedRequest) -> Answer:
        return error(401, "not_authorised")

    def forbidden(self, request: RecordedRequest) -> Answer:
        return error(403, "suspended")

    def too_large(self, request: RecordedRequest) -> Answer:
        return error(413, "too_large")

    def rate_limited(self, request: RecordedRequest, seconds: int) -> Answer:
        return error(429, "rate_limited", **{"Retry-After": str(seconds)})


class TestEmailKit(EmailConformance):
    provider = "postroom"
    transport = PostroomEmail
    fake_provider = GatewayWire

    def settings(self, wire: GatewayWire) -> dict[str, str]:
        return {"key": KEY, "base_url": wire.url, "via": "careful"}


@pytest.mark.slow
class TestSmsKit(SmsConformance):
    provider = "postroom"
    transport = PostroomSms
    fake_provider = GatewayWire

    def settings(self, wire: GatewayWire) -> dict[str, str]:
        return {"key": KEY, "base_url": wire.url}


@pytest.fixture
async def gateway() -> AsyncIterator[Any]:
    async with HttpRecorder() as recorder:
        yield recorder


def room_of(gateway: HttpRecorder, **more: Any) -> Postroom:
    account = {"provider": "postroom", "base_url": gateway.url, "key": KEY, "from": "device@example.org", **more}
    return Postroom(accounts={"hub": account})


def email(**more: Any) -> Email:
    return Email(**{"to": "Ann <ann@example.org>", "subject": "Reading", "text": "21 °C", **more})


async def test_an_email_is_posted_in_the_words_of_the_api(gateway: HttpRecorder) -> None:
    gateway.answer(TAKEN)
    async with room_of(gateway, via="careful") as room:
        receipt = await room.send(
            email(
                cc="ben@example.org",
                bcc="eve@example.org",
                reply_to=["desk@example.org", "Jo <jo@example.org>"],
                html="<p>21 °C</p>",
                attachments=[
                    Attachment(filename="log.txt", content=b"\x00\xff"),
                    Attachment(filename="p.png", content=b"png", inline=True, content_id="plot"),
                ],
                tags=["weather"],
                metadata={"sensor": "7"},
                headers={"X-Site": "roof"},
                priority="high",
                category="marketing",
            )
        )
    [request] = gateway.requests
    assert (request.method, request.path) == ("POST", "/v1/communicate/email")
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.json() == {
        "from": "device@example.org",
        "to": [
            {"email": "ann@example.org", "name": "Ann", "type": "to"},
            {"email": "ben@example.org", "name": "", "type": "cc"},
            {"email": "eve@example.org", "name": "", "type": "bcc"},
        ],
        "subject": "Reading",
        "text": "21 °C",
        "html": "<p>21 °C</p>",
        "headers": {
            "X-Site": "roof",
            "Message-ID": receipt.message_id,
            "Reply-To": "desk@example.org, Jo <jo@example.org>",
        },
        "attachments": [{"name": "log.txt", "type": "text/plain", "encoding": "base64", "content": "AP8="}],
        "images": [{"name": "plot", "filename": "p.png", "type": "image/png", "encoding": "base64", "content": "cG5n"}],
        "tags": ["weather"],
        "metadata": {"sensor": "7"},
        "required": False,
        "category": "marketing",
        "priority": "high",
        "provider": "careful",
    }
    assert receipt.provider_message_id == "g1"


async def test_an_sms_to_several_numbers_is_one_request(gateway: HttpRecorder) -> None:
    gateway.answer(TAKEN)
    later = datetime(2040, 1, 1, 12, tzinfo=UTC)
    async with room_of(gateway, **{"from": "Roof"}) as room:
        await room.send(
            Sms(to=["+447700900123", "+447700900124"], body="hot", media="https://example.org/a.png", send_at=later)
        )
    [request] = gateway.requests
    assert request.path == "/v1/communicate/sms"
    assert request.json() == {
        "data": {
            "from": "Roof",
            "to": ["+447700900123", "+447700900124"],
            "body": "hot",
            "mediaUrl": ["https://example.org/a.png"],
        },
        "required": False,
        "category": "transactional",
        "priority": "normal",
        "send_at": "2040-01-01T12:00:00+00:00",
    }


async def test_a_message_that_may_have_been_taken_is_sent_again_under_the_same_key(
    gateway: HttpRecorder, tmp_path: Path
) -> None:
    gateway.answer(Drop("request"), TAKEN)
    accounts = {"hub": {"provider": "postroom", "base_url": gateway.url, "key": KEY, "from": "device@example.org"}}
    outbox = {"url": f"sqlite:///{tmp_path}/outbox.db", "retry_first": 0.01}
    async with Postroom(accounts=accounts, outbox=outbox) as room:
        queued = await room.enqueue(email())
        await room.work(until_empty=True)
        while (await room.outbox.get(queued.id)).receipt.status != "sent":
            await room.work(until_empty=True)
    first, second = gateway.requests
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    assert first.headers["idempotency-key"].startswith(queued.id)
    assert json.loads(first.body) == json.loads(second.body)


def test_those_who_were_left_out_make_another_key() -> None:
    whole = email(to=["a@example.org", "b@example.org"], id="1" * 32)
    part = whole.for_recipients(["a@example.org"])
    assert idempotency_key(whole) != idempotency_key(part)
    assert idempotency_key(part) == idempotency_key(whole.for_recipients(["a@example.org"]))


@pytest.mark.parametrize(
    ("answer", "kind", "outcome", "scope"),
    [
        (error(403, "forbidden"), MessageRejected, Outcome.PERMANENT, Scope.MESSAGE),
        (error(403, "suspended"), AuthenticationFailed, Outcome.PERMANENT, Scope.ACCOUNT),
        (error(422, "idempotency_conflict"), MessageRejected, Outcome.PERMANENT, Scope.MESSAGE),
        (Answer(404, "<html>nginx</html>"), UnexpectedResponse, Outcome.PERMANENT, Scope.ACCOUNT),
        (Answer(200, "hello"), UnexpectedResponse, Outcome.UNKNOWN, Scope.MESSAGE),
    ],
)
async def test_a_refusal_is_put_down_to_the_message_or_to_the_account(
    gateway: HttpRecorder, answer: Answer, kind: type[Any], outcome: Outcome, scope: Scope
) -> None:
    gateway.answer(answer)
    async with room_of(gateway) as room:
        with pytest.raises(kind) as refused:
            await room.send(email())
    assert (refused.value.outcome, refused.value.scope) == (outcome, scope)


async def test_checking_an_account_lists_one_message(gateway: HttpRecorder) -> None:
    gateway.answer(Answer(200, {"messages": [], "next": None}))
    async with room_of(gateway) as room:
        found = await room.check()
    assert [(name, report.ok) for name, report in found.items()] == [("hub (email)", True), ("hub (sms)", True)]  # type: ignore[union-attr]
    assert {(r.method, r.path, r.query) for r in gateway.requests} == {("GET", "/v1/messages", "limit=1")}


@pytest.mark.parametrize("key", ["", "xx--ünicode", "two\nlines"])
def test_a_key_that_no_header_can_carry_is_refused_by_the_configuration(gateway: HttpRecorder, key: str) -> None:
    with pytest.raises(Exception, match="key"):
        room_of(gateway, key=key).validate()
