from __future__ import annotations

import asyncio
import socket
import ssl

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
from postroom_vonage.errors import MESSAGES_CODE, SMS_STATUS

pytestmark = pytest.mark.parametrize("api", ["messages", "sms"])


async def refused(transport, message, canary) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        await transport.send(message)
    error = caught.value
    assert canary not in f"{error!r} {error} {error.__dict__} {error.__cause__!r}"
    return error


def parts(*statuses: str) -> dict[str, object]:
    return {
        "message-count": str(len(statuses)),
        "messages": [
            {"status": status, "message-id": f"id-{n}", "error-text": "because"} for n, status in enumerate(statuses)
        ],
    }


@pytest.mark.parametrize(
    ("answer", "kind", "outcome", "scope"),
    [
        (Answer(401, {"title": "Unauthorized"}), AuthenticationFailed, Outcome.PERMANENT, Scope.ACCOUNT),
        (Answer(402, {"title": "Payment Required"}), QuotaExhausted, Outcome.PERMANENT, Scope.ACCOUNT),
        (Answer(403, {"title": "Forbidden"}), AuthenticationFailed, Outcome.PERMANENT, Scope.ACCOUNT),
        (Answer(404, "nowhere"), MessageRejected, Outcome.PERMANENT, Scope.ACCOUNT),
        (Answer(422, {"title": "Invalid"}), MessageRejected, Outcome.PERMANENT, Scope.MESSAGE),
        (Answer(429, "slow", {"Retry-After": "3"}), RateLimited, Outcome.TRANSIENT, Scope.ACCOUNT),
        (Answer(500, {"title": "Internal"}), ProviderUnavailable, Outcome.TRANSIENT, Scope.ACCOUNT),
        (Answer(502, "<html>Bad Gateway</html>"), OutcomeUnknown, Outcome.UNKNOWN, Scope.MESSAGE),
        (Answer(200, ""), UnexpectedResponse, Outcome.UNKNOWN, Scope.MESSAGE),
        (Answer(200, "<html>ok</html>"), UnexpectedResponse, Outcome.UNKNOWN, Scope.MESSAGE),
        (Answer(200, {"messages": []}), UnexpectedResponse, Outcome.UNKNOWN, Scope.MESSAGE),
    ],
)
async def test_every_answer_that_is_not_a_yes_has_its_outcome_after_one_request(
    api, open_vonage, server, sms, canary, answer, kind, outcome, scope
):
    server.answer(answer)
    async with open_vonage(server.url, api=api) as vonage:
        error = await refused(vonage, sms(), canary)

    assert (type(error), error.outcome, error.scope) == (kind, outcome, scope)
    assert error.retry_after == (3 if answer.status == 429 else None)
    assert len(server.requests) == 1


@pytest.mark.parametrize("step", [Drop("request"), Drop("request", reset=True), Drop("answer"), Hang("request")])
async def test_a_request_without_a_whole_answer_is_unknown_and_never_repeated(
    api, open_vonage, server, sms, canary, step
):
    server.answer(step)
    async with open_vonage(server.url, api=api, timeout=0.3) as vonage:
        error = await refused(vonage, sms(), canary)

    assert isinstance(error, OutcomeUnknown)
    assert "before sending it again" in str(error)
    assert len(server.requests) == 1


async def test_nobody_listening_means_nothing_was_sent(api, open_vonage, sms, canary):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    async with open_vonage(url, api=api) as vonage:
        error = await refused(vonage, sms(), canary)

    assert isinstance(error, ProviderUnreachable)
    assert error.outcome is Outcome.TRANSIENT
    assert "nothing was sent" in str(error)


async def test_an_untrusted_certificate_stops_before_anything_is_sent(api, open_vonage, sms, canary):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    async with HttpRecorder(tls=context) as server, open_vonage(server.url, api=api) as vonage:
        error = await refused(vonage, sms(), canary)

    assert isinstance(error, ProviderUnreachable)
    assert error.outcome is Outcome.PERMANENT
    assert "SSL_CERT_FILE" in str(error)
    assert server.requests == []


async def test_a_certificate_of_the_operators_own_authority_is_trusted(
    api, open_vonage, sms, yes, tmp_path, monkeypatch
):
    authority = trustme.CA()
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    async with HttpRecorder(tls=context) as server, open_vonage(server.url, api=api) as vonage:
        server.answer(yes[api])
        await vonage.send(sms())

    assert len(server.requests) == 1


async def test_requests_go_through_the_proxy_of_the_environment(api, open_vonage, server, sms, yes, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", server.url)
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    server.answer(yes[api])
    async with open_vonage("http://vonage.invalid", api=api) as vonage:
        await vonage.send(sms())

    assert server.requests[0].headers["host"] == "vonage.invalid"


async def test_cancelling_after_the_request_says_that_it_was_handed_over(api, open_vonage, server, sms):
    server.answer(Hang("request"))
    async with open_vonage(server.url, api=api) as vonage:
        task = asyncio.create_task(vonage.send(sms()))
        await server.received(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task

    assert "handed over" in "".join(caught.value.__notes__)
    assert len(server.requests) == 1


async def test_every_code_of_the_table_becomes_its_error(api, open_vonage, server, sms, canary):
    table = SMS_STATUS if api == "sms" else MESSAGES_CODE
    async with open_vonage(server.url, api=api) as vonage:
        for code, kind in table.items():
            problem = {"type": f"https://developer.vonage.com/api-errors/messages#{code}", "title": "No"}
            server.answer(Answer(200, parts(code)) if api == "sms" else Answer(422, problem))
            error = await refused(vonage, sms(), canary)
            assert (type(error), error.provider_code) == (kind, code)


async def test_an_unknown_code_is_permanent_and_kept(api, open_vonage, server, sms, canary):
    problem = {"type": "https://example.org/#9999", "title": "New", "instance": "trace-1"}
    server.answer(Answer(200, parts("99")) if api == "sms" else Answer(422, problem))
    async with open_vonage(server.url, api=api) as vonage:
        error = await refused(vonage, sms(), canary)

    assert error.outcome is Outcome.PERMANENT
    assert error.provider_code in {"99", "9999"}
    assert error.request_id == (None if api == "sms" else "trace-1")
