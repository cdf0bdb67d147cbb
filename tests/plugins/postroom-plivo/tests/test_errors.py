"""What only Plivo does: its error table, its limits, its account."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from postroom.client import Postroom
from postroom.errors import AuthenticationFailed, DeliveryError, MessageError, MessageRejected, QuotaExhausted, Scope
from postroom.messages import Sms
from postroom.testing.http import Answer, HttpRecorder

AUTH_ID = "MA" + "X0" * 9
SMS = Sms(to="+442079460958", from_="+442079460999", body="Hello")


def with_plivo(answer: Answer, use: Callable[[Postroom], Awaitable[Any]]) -> tuple[Any, HttpRecorder]:
    async def main() -> tuple[Any, HttpRecorder]:
        async with HttpRecorder() as server:
            server.answer(answer)
            account = {"provider": "plivo", "auth_id": AUTH_ID, "auth_token": "made-up", "base_url": server.url}
            async with Postroom(accounts={"texts": account}) as room:
                return await use(room), server

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("status", "words", "kind", "scope"),
    [
        (400, "Insufficient Credit", QuotaExhausted, Scope.ACCOUNT),
        (400, "src parameter not present", MessageRejected, Scope.MESSAGE),
        (401, "authentication failed", AuthenticationFailed, Scope.ACCOUNT),
        (404, "not found", MessageRejected, Scope.ACCOUNT),
    ],
)
def test_a_refusal_is_the_error_of_the_table(status: int, words: str, kind: type[DeliveryError], scope: Scope) -> None:
    async def refused(room: Postroom) -> DeliveryError:
        with pytest.raises(kind, match=words) as raised:
            await room.send(SMS)
        return raised.value

    error, _ = with_plivo(Answer(status, {"api_id": "a1", "error": words}), refused)
    assert (error.scope, error.request_id) == (scope, "a1")


def test_a_message_is_posted_to_the_accounts_own_address() -> None:
    async def send(room: Postroom) -> str | None:
        return (await room.send(SMS)).provider_message_id

    identifier, server = with_plivo(Answer(202, {"message_uuid": ["m1"], "api_id": "a1"}), send)
    assert identifier == "m1"
    (request,) = server.requests
    assert request.path == f"/v1/Account/{AUTH_ID}/Message/"
    assert request.json() == {"src": "+442079460999", "dst": "442079460958", "text": "Hello"}


@pytest.mark.parametrize(("letter", "longest"), [("a", 1600), ("ж", 737)])
def test_a_text_that_plivo_would_refuse_never_leaves(letter: str, longest: int) -> None:
    async def send(room: Postroom) -> None:
        await room.send(SMS.model_copy(update={"body": letter * longest}))
        with pytest.raises(MessageError, match=str(longest)):
            await room.send(SMS.model_copy(update={"body": letter * (longest + 1)}))

    _, server = with_plivo(Answer(202, {"message_uuid": ["m1"]}), send)
    assert len(server.requests) == 1


def test_check_reads_the_credit_that_is_left() -> None:
    async def check(room: Postroom) -> Any:
        return await room.check("texts")

    report, server = with_plivo(Answer(200, {"cash_credits": "25.00"}), check)
    assert "25.00" in str(report)
    assert server.requests[0].path == f"/v1/Account/{AUTH_ID}/"
