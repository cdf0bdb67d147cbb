from __future__ import annotations

import asyncio
import socket
import ssl
import time

import pytest
import trustme

from postroom.errors import (
    AuthenticationFailed,
    DeliveryError,
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

CANARY = "SG.canary-key-never-to-be-shown"


def errors(*pairs: tuple[str, str | None]) -> dict[str, object]:
    return {"errors": [{"message": message, "field": field, "help": None} for message, field in pairs]}


async def refused(transport, message) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        await transport.send(message)
    seen = f"{caught.value!r} {caught.value} {caught.value.detail} {caught.value.__dict__} {caught.value.__cause__!r}"
    assert CANARY not in seen
    return caught.value


ANSWERS = [
    (Answer(400, errors(("bad", "subject"))), MessageRejected, Outcome.PERMANENT, Scope.MESSAGE),
    (
        Answer(400, errors(("bad", "personalizations.0.to.0.email"))),
        RecipientsRefused,
        Outcome.PERMANENT,
        Scope.RECIPIENT,
    ),
    (
        Answer(401, errors(("The provided authorization grant is invalid, expired, or revoked", None))),
        AuthenticationFailed,
        Outcome.PERMANENT,
        Scope.ACCOUNT,
    ),
    (
        Answer(401, errors(("Authenticated user is not authorized to send mail", None))),
        AuthenticationFailed,
        Outcome.PERMANENT,
        Scope.ACCOUNT,
    ),
    (Answer(401, errors(("Maximum credits exceeded", None))), QuotaExhausted, Outcome.PERMANENT, Scope.ACCOUNT),
    (
        Answer(403, errors(("The from address does not match a verified Sender Identity", "from"))),
        AuthenticationFailed,
        Outcome.PERMANENT,
        Scope.ACCOUNT,
    ),
    (Answer(404, "not found"), MessageRejected, Outcome.PERMANENT, Scope.ACCOUNT),
    (Answer(413, errors(("Payload too large", None))), MessageRejected, Outcome.PERMANENT, Scope.MESSAGE),
    (Answer(429, errors(("too many requests", None))), RateLimited, Outcome.TRANSIENT, Scope.ACCOUNT),
    (Answer(500, errors(("boom", None))), ProviderUnavailable, Outcome.TRANSIENT, Scope.ACCOUNT),
    (Answer(503, ""), ProviderUnavailable, Outcome.TRANSIENT, Scope.ACCOUNT),
    (Answer(502, f"<html>Bad Gateway {CANARY}</html>"), OutcomeUnknown, Outcome.UNKNOWN, Scope.MESSAGE),
    (Answer(504, ""), OutcomeUnknown, Outcome.UNKNOWN, Scope.MESSAGE),
    (Answer(200, ""), UnexpectedResponse, Outcome.UNKNOWN, Scope.MESSAGE),
    (
        Answer(302, "", headers={"Location": "http://127.0.0.1:1/"}),
        UnexpectedResponse,
        Outcome.PERMANENT,
        Scope.ACCOUNT,
    ),
]


@pytest.mark.parametrize(("answer", "kind", "outcome", "scope"), ANSWERS, ids=lambda v: getattr(v, "__name__", None))
async def test_every_answer_that_is_not_a_yes_has_its_outcome_after_one_request(
    sendgrid, server, email, answer, kind, outcome, scope
):
    server.answer(answer)

    error = await refused(sendgrid, email())

    assert (type(error), error.outcome, error.scope, error.status) == (kind, outcome, scope, answer.status)
    assert len(server.requests) == 1


async def test_a_rate_limit_says_when_to_go_on(sendgrid, server, email):
    server.answer(Answer(429, errors(("slow", None)), headers={"X-RateLimit-Reset": str(int(time.time()) + 30)}))
    assert (await refused(sendgrid, email())).retry_after == pytest.approx(30, abs=2)

    server.answer(Answer(429, errors(("slow", None)), headers={"Retry-After": "7"}))
    assert (await refused(sendgrid, email())).retry_after == 7


async def test_nobody_listening_means_nothing_was_sent(open_sendgrid, email):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    async with open_sendgrid(url) as transport:
        error = await refused(transport, email())

    assert isinstance(error, ProviderUnreachable)
    assert error.outcome is Outcome.TRANSIENT
    assert "nothing was sent" in str(error)


async def test_an_untrusted_certificate_stops_before_anything_is_sent(open_sendgrid, email):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    async with HttpRecorder(tls=context) as server, open_sendgrid(server.url) as transport:
        error = await refused(transport, email())

    assert isinstance(error, ProviderUnreachable)
    assert error.outcome is Outcome.PERMANENT
    assert "SSL_CERT_FILE" in str(error)
    assert server.requests == []


@pytest.mark.parametrize("step", [Drop("request"), Drop("request", reset=True), Drop("answer"), Hang("request")])
async def test_a_request_without_a_whole_answer_is_unknown_and_never_repeated(open_sendgrid, server, email, step):
    server.answer(step)
    async with open_sendgrid(server.url, timeout=0.3) as transport:
        error = await refused(transport, email())

    assert isinstance(error, OutcomeUnknown)
    assert "before sending it again" in str(error)
    assert len(server.requests) == 1


async def test_a_connection_closed_on_accept_is_not_a_success(sendgrid, server, email):
    server.answer(Drop("accept"))

    error = await refused(sendgrid, email())

    assert error.outcome in {Outcome.TRANSIENT, Outcome.UNKNOWN}
    assert server.requests == []


async def test_cancelling_after_the_request_says_that_it_was_handed_over(sendgrid, server, email):
    server.answer(Hang("request"))
    task = asyncio.create_task(sendgrid.send(email()))
    await server.received(1)
    task.cancel()

    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert "handed over" in "".join(caught.value.__notes__)
    assert len(server.requests) == 1


async def test_the_sandbox_answers_200(open_sendgrid, server, email):
    server.answer(Answer(200, ""))
    async with open_sendgrid(server.url, sandbox=True) as transport:
        await transport.send(email())

    assert server.requests[0].json()["mail_settings"] == {"sandbox_mode": {"enable": True}}


async def test_check_tells_whether_the_key_may_send(sendgrid, server):
    server.answer(Answer(200, {"scopes": ["mail.send"]}), Answer(200, {"scopes": ["stats.read"]}), Answer(401, {}))

    assert (await sendgrid.check()).ok
    lacking = await sendgrid.check()
    assert not lacking.ok
    assert "mail.send" in lacking.summary
    with pytest.raises(AuthenticationFailed):
        await sendgrid.check()
    assert [request.path for request in server.requests] == ["/v3/scopes"] * 3


def test_the_key_is_in_no_repr(open_sendgrid):
    from postroom.plugin import Environment
    from postroom_sendgrid.settings import SendGridSettings
    from postroom_sendgrid.transport import SendGridEmail

    settings = SendGridSettings(api_key=CANARY)
    assert CANARY not in f"{settings!r} {settings} {SendGridEmail('sg', settings, Environment())!r}"
