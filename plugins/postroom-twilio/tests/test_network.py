"""Proxies and private certificate authorities of the environment are honoured."""

from __future__ import annotations

import ssl

import pytest
import trustme

from postroom.testing.http import HttpRecorder

from .conftest import CREATED


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


async def test_a_proxy_of_the_environment_carries_the_request(server, settings, opened, sms, monkeypatch):
    server.answer(CREATED)
    monkeypatch.setenv("HTTP_PROXY", server.url)
    async with opened(settings(base_url="http://twilio.example")) as transport:
        await transport.send(sms())
    [request] = server.requests
    assert request.target.startswith("http://twilio.example/2010-04-01/Accounts/")
    assert request.headers["host"] == "twilio.example"


async def test_no_proxy_goes_past_the_proxy(server, settings, opened, sms, monkeypatch):
    server.answer(CREATED)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    async with opened(settings(base_url=server.url)) as transport:
        await transport.send(sms())
    assert server.requests[0].target.startswith("/2010-04-01/")


async def test_a_private_authority_is_trusted_through_ssl_cert_file(settings, opened, sms, monkeypatch, tmp_path):
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
