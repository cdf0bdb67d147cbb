from __future__ import annotations

import itertools
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import trustme

from postroom import Email
from postroom.plugin import Resources
from postroom.testing.smtp import SmtpRecorder
from postroom_smtp.settings import SmtpSettings
from postroom_smtp.transport import SmtpEmail

OpenAccount = Callable[..., Awaitable[SmtpEmail]]
_numbers = itertools.count(1)


@pytest.fixture
async def server() -> AsyncIterator[SmtpRecorder]:
    async with SmtpRecorder() as server:
        yield server


@pytest.fixture
async def start_server() -> AsyncIterator[Callable[..., Awaitable[SmtpRecorder]]]:
    async with AsyncExitStack() as stack:

        async def start(**options: Any) -> SmtpRecorder:
            return await stack.enter_async_context(SmtpRecorder(**options))

        yield start


@pytest.fixture
async def open_account() -> AsyncIterator[OpenAccount]:
    """Opens accounts against a recorder; in clear unless told otherwise, since most tests are about MAIL to QUIT."""
    opened: list[SmtpEmail] = []

    async def open_account(server: SmtpRecorder, **settings: Any) -> SmtpEmail:
        given = {"host": "127.0.0.1", "port": server.port, "tls": "none", "timeout": 20, **settings}
        account = SmtpEmail("post", SmtpSettings(**given), Resources())
        await account.open()
        opened.append(account)
        return account

    yield open_account
    for account in opened:
        await account.close()


@pytest.fixture
def make_email() -> Callable[..., Email]:
    def make(**fields: Any) -> Email:
        number = next(_numbers)
        given = {
            "to": "ann@example.org",
            "from": "post@example.org",
            "subject": f"Number {number}",
            "text": f"Body {number}",
            "id": f"{number:032x}",
            "message_id": f"<{number}@example.org>",
            **fields,
        }
        return Email(**given)

    return make


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The private authority is trusted, the way an operator would do it."""
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    monkeypatch.setenv("SSL_CERT_FILE", str(path))


@pytest.fixture
def server_tls(authority: trustme.CA) -> Callable[..., ssl.SSLContext]:
    def context(*names: str, **options: Any) -> ssl.SSLContext:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(*(names or ("127.0.0.1", "localhost")), **options).configure_cert(made)
        return made

    return context
