"""Whatever breaks, and wherever: one request, the true outcome, a next step, no secret."""

from __future__ import annotations

import asyncio
import logging
import ssl
import traceback
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import pytest
import trustme

from postroom import DeliveryError, Postroom, Sms
from postroom.errors import (
    AuthenticationFailed,
    MessageRejected,
    Outcome,
    OutcomeUnknown,
    ProviderUnavailable,
    ProviderUnreachable,
    QuotaExhausted,
    RateLimited,
    RecipientsRefused,
    Scope,
    UnexpectedResponse,
)
from postroom.testing.http import Answer, Drop, Hang, HttpRecorder
from postroom_twilio.transport import TwilioSms

from .conftest import SID, TOKEN

BASIC = b64encode(f"{SID}:{TOKEN}".encode()).decode()


async def failure(transport: TwilioSms, message: Sms, kind: type[Any]) -> DeliveryError:
    with pytest.raises(kind) as caught:
        await transport.send(message)
    return caught.value  # type: ignore[no-any-return]


def assert_tells_the_next_step_and_no_secret(error: DeliveryError, caplog: pytest.LogCaptureFixture) -> None:
    text = str(error)
    assert text.startswith("texts: ")
    assert any(
        step in text
        for step in ("try again", "check", "look for", "add credit", "set SSL_CERT_FILE", "change", "correct")
    )
    shown = "".join(traceback.format_exception(error)) + repr(vars(error)) + caplog.text
    assert TOKEN not in shown
    assert BASIC not in shown


@pytest.mark.parametrize(
    ("step", "kind", "outcome", "scope"),
    [
        (Answer(401, {"code": 20003, "message": "Authenticate"}), AuthenticationFailed, "permanent", "account"),
        (Answer(403, {"message": "no"}), AuthenticationFailed, "permanent", "account"),
        (Answer(404, "gone"), MessageRejected, "permanent", "account"),
        (Answer(400, {"code": 99999, "message": "new"}), MessageRejected, "permanent", "message"),
        (Answer(418), MessageRejected, "permanent", "message"),
        (Answer(429, {"code": 20429, "message": "Too many"}), RateLimited, "transient", "account"),
        (Answer(500), ProviderUnavailable, "transient", "account"),
        (Answer(500, {"code": 20500, "message": "Internal"}), OutcomeUnknown, "unknown", "message"),
        (Answer(502, "<html>Bad gateway</html>"), OutcomeUnknown, "unknown", "message"),
        (Answer(503, {"code": 20503, "message": "down"}), ProviderUnavailable, "transient", "account"),
        (Answer(504), OutcomeUnknown, "unknown", "message"),
        (Answer(200), UnexpectedResponse, "unknown", "message"),
        (Answer(201, "<html>yes</html>"), UnexpectedResponse, "unknown", "message"),
        (Answer(201, {"sid": None}), UnexpectedResponse, "unknown", "message"),
        (Answer(201, ["SM1"]), UnexpectedResponse, "unknown", "message"),
        (Answer(302, headers={"Location": "https://example.org/"}), UnexpectedResponse, "permanent", "account"),
    ],
    ids=str,
)
async def test_every_answer_has_its_outcome(
    server: HttpRecorder,
    settings: Callable[..., Any],
    opened: Callable[..., Any],
    sms: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
    step: Answer,
    kind: type[Any],
    outcome: str,
    scope: str,
) -> None:
    caplog.set_level(logging.DEBUG)
    server.answer(step)
    async with opened(settings(base_url=server.url)) as transport:
        error = await failure(transport, sms(), kind)
    assert (error.outcome, error.scope) == (Outcome(outcome), Scope(scope))
    assert (server.begun, len(server.requests)) == (1, 1)
    assert_tells_the_next_step_and_no_secret(error, caplog)


async def test_a_connection_closed_before_the_body_was_read_is_not_repeated(
    server: HttpRecorder, settings: Callable[..., Any], opened: Callable[..., Any], sms: Callable[..., Any]
) -> None:
    server.answer(Drop("headers"))
    async with opened(settings(base_url=server.url)) as transport:
        error = await failure(transport, sms(), OutcomeUnknown)
    assert error.outcome is Outcome.UNKNOWN
    assert (server.begun, server.requests) == (1, [])


async def test_an_untrusted_certificate_ends_before_anything_is_sent(
    settings: Callable[..., Any], opened: Callable[..., Any], sms: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    async with HttpRecorder(tls=context) as server, opened(settings(base_url=server.url)) as transport:
        error = await failure(transport, sms(), ProviderUnreachable)
    assert server.begun == 0
    assert "SSL_CERT_FILE" in str(error)
    assert_tells_the_next_step_and_no_secret(error, caplog)


async def test_retry_after_and_request_id_are_kept(
    server: HttpRecorder, settings: Callable[..., Any], opened: Callable[..., Any], sms: Callable[..., Any]
) -> None:
    headers = {"Retry-After": "17", "Twilio-Request-Id": "RQ9"}
    server.answer(Answer(429, {"code": 20429, "message": "Too Many Requests", "status": 429}, headers))
    async with opened(settings(base_url=server.url)) as transport:
        error = await failure(transport, sms(), RateLimited)
    assert (error.retry_after, error.request_id, error.status, error.provider_code) == (17.0, "RQ9", 429, "20429")


async def test_a_refused_recipient_has_a_result_of_its_own(
    server: HttpRecorder, settings: Callable[..., Any], opened: Callable[..., Any], sms: Callable[..., Any]
) -> None:
    server.answer(Answer(400, {"code": 21610, "message": "Attempt to send to unsubscribed recipient", "status": 400}))
    async with opened(settings(base_url=server.url)) as transport:
        error = await failure(transport, sms(), RecipientsRefused)
    [result] = error.recipients
    assert (result.address, result.outcome, result.provider_code) == ("+15005550010", Outcome.PERMANENT, "21610")
    assert error.scope is Scope.RECIPIENT
    assert "START" in str(error)


async def test_a_problem_of_rfc_9457_is_read(
    server: HttpRecorder, settings: Callable[..., Any], opened: Callable[..., Any], sms: Callable[..., Any]
) -> None:
    problem = {"type": "https://www.twilio.com/docs/api/errors/21211", "title": "Invalid", "status": 400}
    body = problem | {"code": 21211, "detail": "The 'To' number is not valid", "instance": "/x"}
    server.answer(Answer(400, body, {"Content-Type": "application/problem+json"}))
    async with opened(settings(base_url=server.url)) as transport:
        error = await failure(transport, sms(), RecipientsRefused)
    assert (error.provider_code, error.detail) == ("21211", "The 'To' number is not valid")


@pytest.mark.parametrize(
    ("given", "scope"),
    [
        ({}, Scope.ACCOUNT),
        ({"from": "+15005550001"}, Scope.MESSAGE),
        ({"provider_options": {"messaging_service_sid": "MG1"}}, Scope.MESSAGE),
    ],
)
async def test_a_bad_sender_is_the_accounts_fault_unless_the_message_chose_it(
    server: HttpRecorder,
    settings: Callable[..., Any],
    opened: Callable[..., Any],
    sms: Callable[..., Any],
    given: dict[str, Any],
    scope: Scope,
) -> None:
    server.answer(Answer(400, {"code": 21606, "message": "The 'From' phone number provided is not valid"}))
    async with opened(settings(base_url=server.url)) as transport:
        error = await failure(transport, sms(**given), MessageRejected)
    assert error.scope is scope


async def test_a_daily_limit_passes(
    server: HttpRecorder, settings: Callable[..., Any], opened: Callable[..., Any], sms: Callable[..., Any]
) -> None:
    server.answer(Answer(429, {"code": 63038, "message": "Account exceeded the daily messages limit"}))
    async with opened(settings(base_url=server.url)) as transport:
        error = await failure(transport, sms(), QuotaExhausted)
    assert error.outcome is Outcome.TRANSIENT


async def test_check_with_refused_credentials_raises(
    server: HttpRecorder, settings: Callable[..., Any], opened: Callable[..., Any]
) -> None:
    server.answer(Answer(401, {"code": 20003, "message": "Authenticate", "status": 401}))
    async with opened(settings(base_url=server.url)) as transport:
        with pytest.raises(AuthenticationFailed, match="auth_token"):
            await transport.check()


async def test_cancelling_a_send_to_several_says_of_each_that_it_was_handed_over(server: HttpRecorder) -> None:
    server.answer(Hang("request"))
    account = {"provider": "twilio", "account_sid": "AC1", "auth_token": "x", "base_url": server.url}
    async with Postroom(accounts={"texts": account}) as room:
        message = Sms(to=["+15005550010", "+15005550011"], from_="+15005550006", body="x")
        task = asyncio.create_task(room.send(message))
        await server.received(2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
    assert len([note for note in caught.value.__notes__ if "handed over" in note]) == 2
    assert len(server.requests) == 2
