"""Proxies and private certificate authorities of the environment are honoured."""

from __future__ import annotations

import ssl
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trustme

from postroom import Email
from postroom.errors import ProviderUnreachable
from postroom.testing.http import Answer, HttpRecorder

if TYPE_CHECKING:
    from .conftest import Opener


YES = Answer(202, headers={"X-Message-Id": "call-1"})


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


async def test_a_proxy_of_the_environment_carries_the_request(
    server: HttpRecorder, open_sendgrid: Opener, email: Callable[..., Email], monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answer(YES)
    monkeypatch.setenv("HTTP_PROXY", server.url)
    async with open_sendgrid("http://sendgrid.example/behind") as transport:
        await transport.send(email())
    [request] = server.requests
    assert request.target == "http://sendgrid.example/behind/v3/mail/send"


async def test_a_proxy_that_refuses_means_nothing_was_sent(
    server: HttpRecorder, open_sendgrid: Opener, email: Callable[..., Email], monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answer(Answer(502, "<html>no way</html>"))
    monkeypatch.setenv("HTTPS_PROXY", server.url.replace("http://", "http://user:pr0xy-pass@"))
    async with open_sendgrid(None) as transport:
        with pytest.raises(ProviderUnreachable) as caught:
            await transport.send(email())
    [request] = server.requests
    assert (request.method, request.target) == ("CONNECT", "api.sendgrid.com:443")
    assert "pr0xy-pass" not in "".join(traceback.format_exception(caught.value))


async def test_a_private_authority_is_trusted_through_ssl_cert_file(
    open_sendgrid: Opener, email: Callable[..., Email], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    bundle = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(bundle)
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    async with HttpRecorder(tls=context) as server:
        server.answer(YES)
        async with open_sendgrid(server.url) as transport:
            accepted = await transport.send(email())
    assert accepted.provider_message_id == "call-1"
