"""The session of HTTP transports trusts the system's authorities, and reads them only when they are others."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest
import trustme

from postroom.plugin.http_session import open_session
from postroom.testing.http import Answer, HttpRecorder

TRIES = 5
"""Of these the cheapest counts: what else a machine does makes work dearer, never cheaper."""


def cost(work: Callable[[], object]) -> float:
    begun = time.thread_time()
    work()
    return time.thread_time() - begun


async def test_a_further_session_does_not_read_the_authorities_again() -> None:
    sessions = [open_session()]
    further = min(cost(lambda: sessions.append(open_session())) for _ in range(TRIES))
    for session in sessions:
        await session.close()
    assert further < min(cost(ssl.create_default_context) for _ in range(TRIES)) / 4


async def test_an_authority_that_was_exchanged_is_trusted_by_the_next_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "authorities.pem"
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    for _ in range(2):
        authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        async with HttpRecorder(tls=context) as server:
            server.answer(Answer(202))
            async with open_session() as session:
                with pytest.raises(aiohttp.ClientConnectorCertificateError):
                    await session.get(server.url)
            authority.cert_pem.write_to_path(bundle)
            async with open_session() as session, session.get(server.url) as answer:
                assert answer.status == 202


async def test_a_certificate_that_names_its_host_as_common_name_only_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 9525 section 6.3: the name must be one of those the certificate lists."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(common_name="localhost").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "authorities.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authorities.pem"))
    async with HttpRecorder(tls=context) as server, open_session() as session:
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await session.get(f"https://localhost:{server.port}")
        assert server.requests == []
