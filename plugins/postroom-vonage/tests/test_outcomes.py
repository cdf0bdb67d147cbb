"""Whatever breaks, and wherever: one request, the true outcome, a next step, no secret. For both APIs."""

from __future__ import annotations

import logging
import ssl
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

from postroom import Postroom, Sms
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
    Scope,
    UnexpectedResponse,
)
from postroom.receipts import Status
from postroom.testing.http import Answer, Drop, Hang, HttpRecorder
from postroom_vonage.auth import basic
from postroom_vonage.transport import VonageSms

from .conftest import CANARY, YES

pytestmark = pytest.mark.parametrize("api", ["messages", "sms"])

STEPS = ("try again", "check", "look for", "add credit", "set SSL_CERT_FILE", "change", "correct base_url")
BASIC = basic("abcd1234", CANARY).removeprefix("Basic ")


async def refused(transport: VonageSms, message: Sms, caplog: pytest.LogCaptureFixture | None = None) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        await transport.send(message)
    error = caught.value
    text = str(error)
    assert text.startswith("texts: ")
    assert any(step in text for step in STEPS)
    shown = "".join(traceback.format_exception(error)) + repr(vars(error)) + (caplog.text if caplog else "")
    assert CANARY not in shown
    assert BASIC not in shown
    return error


@pytest.mark.parametrize(
    ("step", "kind", "outcome", "scope"),
    [
        (Answer(400, {"title": "Bad"}), MessageRejected, "permanent", "message"),
        (Answer(401, {"title": "Unauthorized"}), AuthenticationFailed, "permanent", "account"),
        (Answer(402, {"title": "Payment Required"}), QuotaExhausted, "permanent", "account"),
        (Answer(403), AuthenticationFailed, "permanent", "account"),
        (Answer(404, "nowhere"), MessageRejected, "permanent", "account"),
        (Answer(422, {"title": "Invalid"}), MessageRejected, "permanent", "message"),
        (Answer(429, "slow"), RateLimited, "transient", "account"),
        (Answer(500, {"title": "Internal"}), ProviderUnavailable, "transient", "account"),
        (Answer(502, "<html>Bad Gateway</html>"), OutcomeUnknown, "unknown", "message"),
        (Answer(503), ProviderUnavailable, "transient", "account"),
        (Answer(504), OutcomeUnknown, "unknown", "message"),
        (Answer(302, headers={"Location": "https://example.org/"}), UnexpectedResponse, "permanent", "account"),
        (Answer(200), UnexpectedResponse, "unknown", "message"),
        (Answer(200, "<html>ok</html>"), UnexpectedResponse, "unknown", "message"),
        (Answer(202, []), UnexpectedResponse, "unknown", "message"),
        (Answer(202, {"message_uuid": None, "messages": []}), UnexpectedResponse, "unknown", "message"),
    ],
    ids=str,
)
async def test_every_answer_has_its_outcome(
    api: str,
    open_vonage: Callable[..., Any],
    server: HttpRecorder,
    sms: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
    step: Answer,
    kind: type[Any],
    outcome: str,
    scope: str,
) -> None:
    caplog.set_level(logging.DEBUG)
    server.answer(step)
    async with open_vonage(server.url, api=api) as vonage:
        error = await refused(vonage, sms(), caplog)
    assert (type(error), error.outcome, error.scope) == (kind, Outcome(outcome), Scope(scope))
    assert (server.begun, len(server.requests)) == (1, 1)


async def test_an_untrusted_certificate_ends_before_anything_is_sent(
    api: str, open_vonage: Callable[..., Any], sms: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    async with HttpRecorder(tls=context) as server, open_vonage(server.url, api=api) as vonage:
        error = await refused(vonage, sms(), caplog)
    assert isinstance(error, ProviderUnreachable)
    assert error.outcome is Outcome.PERMANENT
    assert server.begun == 0


async def test_a_private_authority_is_trusted_through_ssl_cert_file(
    api: str, open_vonage: Callable[..., Any], sms: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    async with HttpRecorder(tls=context) as server, open_vonage(server.url, api=api) as vonage:
        server.answer(YES[api])
        await vonage.send(sms())
    assert len(server.requests) == 1


async def test_a_proxy_of_the_environment_carries_the_request(
    api: str,
    open_vonage: Callable[..., Any],
    server: HttpRecorder,
    sms: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, server.url)
    server.answer(YES[api])
    async with open_vonage("http://vonage.example", api=api) as vonage:
        await vonage.send(sms())
    assert server.requests[0].target.startswith("http://vonage.example/")


async def test_retry_after_and_the_trace_are_kept(
    api: str, open_vonage: Callable[..., Any], server: HttpRecorder, sms: Callable[..., Any]
) -> None:
    server.answer(Answer(429, {"title": "Rate Limit Hit", "instance": "trace-1"}, {"Retry-After": "17"}))
    async with open_vonage(server.url, api=api) as vonage:
        error = await refused(vonage, sms())
    assert (error.retry_after, error.request_id, error.status) == (17.0, "trace-1", 429)


@pytest.mark.parametrize("step", [Answer(502, "<html>"), Answer(200), Drop("request"), Hang("request")], ids=str)
async def test_a_failover_route_makes_no_second_copy_of_what_may_have_been_sent(
    api: str, server: HttpRecorder, step: Any
) -> None:
    server.answer(step)
    account: dict[str, Any] = {"provider": "vonage", "api": api, "api_key": "k", "api_secret": CANARY, "from": "Shop"}
    account["timeout"] = 1.5 if isinstance(step, Hang) else 50
    accounts: dict[str, dict[str, Any]] = {
        "first": {**account, "base_url": server.url},
        "second": {"provider": "memory", "from": "Shop"},
    }
    routes = {"careful": {"via": ["first", "second"]}}
    async with Postroom(accounts=accounts, routes=routes, defaults={"sms": "careful"}) as room:
        with pytest.raises(DeliveryError) as caught:
            await room.send(Sms(to="+447700900000", body="hi"))
        assert room.memory == []
    assert caught.value.receipt.status is Status.IN_DOUBT  # type: ignore[union-attr]
    assert len(server.requests) == 1


async def test_a_failover_route_goes_on_when_nothing_was_sent(api: str, server: HttpRecorder) -> None:
    server.answer(Answer(500))
    account = {"provider": "vonage", "api": api, "api_key": "k", "api_secret": CANARY, "from": "Shop"}
    accounts: dict[str, dict[str, Any]] = {
        "first": {**account, "base_url": server.url},
        "second": {"provider": "memory", "from": "Shop"},
    }
    routes = {"careful": {"via": ["first", "second"]}}
    async with Postroom(accounts=accounts, routes=routes, defaults={"sms": "careful"}) as room:
        receipt = await room.send(Sms(to="+447700900000", body="hi"))
        assert len(room.memory) == 1
    assert receipt.account == "second"


async def test_basic_credentials_that_vonage_echoes_are_not_shown(
    api: str,
    open_vonage: Callable[..., Any],
    server: HttpRecorder,
    sms: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    server.answer(Answer(401, {"title": "no", "detail": f"{'x ' * 130} Basic {BASIC} of {CANARY}"}))
    async with open_vonage(server.url, api=api) as vonage:
        error = await refused(vonage, sms(), caplog)
    assert "***" in str(error)
