"""Proxies and private certificate authorities of the environment are honoured."""

from __future__ import annotations

import ssl
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

from postroom.errors import ProviderUnreachable
from postroom.testing.http import Answer, HttpRecorder

from .conftest import CREATED


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


async def test_a_proxy_of_the_environment_carries_the_request(
    server: HttpRecorder,
    settings: Callable[..., Any],
    opened: Callable[..., Any],
    sms: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server.answer(CREATED)
    monkeypatch.setenv("HTTP_PROXY", server.url)
    async with opened(settings(base_url="http://twilio.example")) as transport:
        await transport.send(sms())
    [request] = server.requests
    assert request.target.startswith("http://twilio.example/2010-04-01/Accounts/")
    assert request.headers["host"] == "twilio.example"


async def test_no_proxy_goes_past_the_proxy(
    server: HttpRecorder,
    settings: Callable[..., Any],
    opened: Callable[..., Any],
    sms: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server.answer(CREATED)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    async with opened(settings(base_url=server.url)) as transport:
        await transport.send(sms())
    assert server.requests[0].target.startswith("/2010-04-01/")


async def test_a_private_authority_is_trusted_through_ssl_cert_file(
    settings: Callable[..., Any],
    opened: Callable[..., Any],
    sms: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    bundle = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(bundle)
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    async with HttpRecorder(tls=context) as server:
        server.answer(CREATED)
        async with opened(settings(base_url=server.url)) as transport:
            accepted = await transport.send(sms())
    assert accepted.provider_message_id == "SM1"


async def test_a_proxy_that_is_down_is_unreachable_and_its_password_is_not_told(
    settings: Callable[..., Any], opened: Callable[..., Any], sms: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://user:pr0xy-pass@127.0.0.1:9")
    async with opened(settings()) as transport:
        with pytest.raises(ProviderUnreachable) as caught:
            await transport.send(sms())
    assert "pr0xy-pass" not in "".join(traceback.format_exception(caught.value))


async def test_a_proxy_that_refuses_means_nothing_was_sent(
    server: HttpRecorder,
    settings: Callable[..., Any],
    opened: Callable[..., Any],
    sms: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server.answer(Answer(502, "<html>no way</html>"))
    monkeypatch.setenv("HTTPS_PROXY", server.url.replace("http://", "http://user:pr0xy-pass@"))
    async with opened(settings(base_url="https://twilio.example")) as transport:
        with pytest.raises(ProviderUnreachable) as caught:
            await transport.send(sms())
    [request] = server.requests
    assert (request.method, request.target) == ("CONNECT", "twilio.example:443")
    assert "s3cr3t-t0k3n" not in str(request)
    assert "pr0xy-pass" not in "".join(traceback.format_exception(caught.value))
