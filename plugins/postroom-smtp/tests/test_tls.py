"""TLS in its four ways; nothing is ever sent in clear that should not be."""

from __future__ import annotations

import asyncio
import contextlib
import datetime  # noqa: ICN001
import socket
import ssl
import warnings
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from postroom import Email
from postroom.errors import AuthenticationFailed, Outcome, ProviderUnreachable
from postroom.testing.smtp import SmtpRecorder

if TYPE_CHECKING:
    from .conftest import OpenAccount


pytestmark = pytest.mark.usefixtures("trusted")


async def test_starttls_encrypts_before_the_message(
    start_server: Callable[..., Awaitable[SmtpRecorder]],
    open_account: OpenAccount,
    make_email: Callable[..., Email],
    server_tls: Callable[..., ssl.SSLContext],
) -> None:
    server = await start_server(tls=server_tls())
    account = await open_account(server, tls="starttls")
    await account.send(make_email())
    assert server.messages[0].tls
    assert [command.split()[0] for command in server.commands][:4] == ["EHLO", "STARTTLS", "EHLO", "MAIL"]


async def test_implicit_tls_encrypts_from_the_first_byte(
    start_server: Callable[..., Awaitable[SmtpRecorder]],
    open_account: OpenAccount,
    make_email: Callable[..., Email],
    server_tls: Callable[..., ssl.SSLContext],
) -> None:
    server = await start_server(tls=server_tls(), implicit=True)
    account = await open_account(server, tls="implicit")
    for _ in range(3):
        await account.send(make_email())
    assert all(message.tls for message in server.messages)
    assert server.connections == 1


async def test_a_large_message_goes_through_tls_whole(
    start_server: Callable[..., Awaitable[SmtpRecorder]],
    open_account: OpenAccount,
    make_email: Callable[..., Email],
    server_tls: Callable[..., ssl.SSLContext],
) -> None:
    server = await start_server(tls=server_tls())
    account = await open_account(server, tls="starttls", timeout=20)
    text = ("y" * 70 + "\n") * 100_000
    await account.send(make_email(text=text))
    assert server.messages[0].data.endswith(text.replace("\n", "\r\n").encode())


async def test_opportunistic_upgrades_when_offered_and_goes_on_when_not(
    start_server: Callable[..., Awaitable[SmtpRecorder]],
    open_account: OpenAccount,
    make_email: Callable[..., Email],
    server_tls: Callable[..., ssl.SSLContext],
) -> None:
    for context in (server_tls(), None):
        server = await start_server(tls=context)
        account = await open_account(server, tls="opportunistic")
        await account.send(make_email())
        assert server.messages[0].tls is (context is not None)


async def test_none_never_upgrades(
    start_server: Callable[..., Awaitable[SmtpRecorder]],
    open_account: OpenAccount,
    make_email: Callable[..., Email],
    server_tls: Callable[..., ssl.SSLContext],
) -> None:
    server = await start_server(tls=server_tls())
    account = await open_account(server, tls="none")
    await account.send(make_email())
    assert not server.messages[0].tls


async def test_without_an_offer_of_starttls_nothing_is_sent(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    account = await open_account(server, tls="starttls", username="ann", password="secret")
    with pytest.raises(ProviderUnreachable, match="does not offer STARTTLS") as caught:
        await account.send(make_email())
    assert (caught.value.outcome, caught.value.scope) == (Outcome.PERMANENT, "account")
    assert [command.split()[0] for command in server.commands] == ["EHLO"]


def _expired() -> dict[str, Any]:
    return {"not_after": datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)}


@pytest.mark.parametrize("tls", ["starttls", "implicit", "opportunistic"])
@pytest.mark.parametrize("fault", ["name", "expired", "authority"])
async def test_a_certificate_that_is_not_trusted_is_an_error_of_the_account(
    start_server: Callable[..., Awaitable[SmtpRecorder]],
    open_account: OpenAccount,
    make_email: Callable[..., Email],
    server_tls: Callable[..., ssl.SSLContext],
    tls: str,
    fault: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    context = server_tls("other.example.org") if fault == "name" else server_tls()
    if fault == "expired":
        context = server_tls("127.0.0.1", **_expired())
    if fault == "authority":
        monkeypatch.delenv("SSL_CERT_FILE")
    server = await start_server(tls=context, implicit=tls == "implicit")
    account = await open_account(server, tls=tls)
    with pytest.raises(ProviderUnreachable, match="SSL_CERT_FILE") as caught:
        await account.send(make_email())
    assert (caught.value.outcome, caught.value.scope) == (Outcome.PERMANENT, "account")
    assert server.messages == []
    assert not any(command.startswith("MAIL") for command in server.commands)


def _old_server(listener: socket.socket, context: ssl.SSLContext) -> None:
    """A blocking server, since asyncio closes without the alert that tells the client why."""
    connection, _ = listener.accept()
    with connection:
        connection.sendall(b"220 old\r\n")
        connection.recv(1000)
        connection.sendall(b"250-old\r\n250 STARTTLS\r\n")
        connection.recv(1000)
        connection.sendall(b"220 Go ahead\r\n")
        with contextlib.suppress(OSError):
            context.wrap_socket(connection, server_side=True)


async def test_old_tls_is_refused_for_good(
    server: SmtpRecorder,
    open_account: OpenAccount,
    make_email: Callable[..., Email],
    server_tls: Callable[..., ssl.SSLContext],
) -> None:
    context = server_tls()
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(asyncio.to_thread(_old_server, listener, context))
        account = await open_account(server, tls="starttls", port=listener.getsockname()[1])
        with pytest.raises(ProviderUnreachable, match="trusted TLS") as caught:
            await account.send(make_email())
        await serving
    assert caught.value.outcome is Outcome.PERMANENT


async def test_implicit_tls_to_a_port_that_speaks_plain_smtp_says_so(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    account = await open_account(server, tls="implicit")
    with pytest.raises(ProviderUnreachable, match="check host, port and tls") as caught:
        await account.send(make_email())
    assert caught.value.outcome is Outcome.PERMANENT


async def test_what_is_slipped_in_behind_the_starttls_answer_is_discarded(
    start_server: Callable[..., Awaitable[SmtpRecorder]],
    open_account: OpenAccount,
    make_email: Callable[..., Email],
    server_tls: Callable[..., ssl.SSLContext],
) -> None:
    """CVE-2011-0411: clear text that follows 220 must not be taken for the server's encrypted words."""
    server = await start_server(tls=server_tls())
    server.reply("starttls", b"220 Ready\r\n250-evil\r\n250 PIPELINING\r\n")
    account = await open_account(server, tls="starttls")
    try:
        await account.send(make_email())
    except ProviderUnreachable:
        assert server.messages == []
    else:
        assert server.messages[0].tls
    assert "MAIL" not in " ".join(server.commands[:2])


@pytest.mark.parametrize("stage", ["starttls", "auth"])
async def test_a_drop_while_getting_ready_is_transient(
    start_server: Callable[..., Awaitable[SmtpRecorder]],
    open_account: OpenAccount,
    make_email: Callable[..., Email],
    server_tls: Callable[..., ssl.SSLContext],
    stage: str,
) -> None:
    server = await start_server(tls=server_tls(), auth={"ann": "secret"})
    server.drop(stage)
    account = await open_account(server, tls="starttls", username="ann", password="secret")
    with pytest.raises(ProviderUnreachable) as caught:
        await account.send(make_email())
    assert caught.value.outcome is Outcome.TRANSIENT


@pytest.mark.parametrize("stage", ["mail", "data", "dot"])
async def test_a_drop_inside_tls_has_the_outcome_it_has_outside(
    start_server: Callable[..., Awaitable[SmtpRecorder]],
    open_account: OpenAccount,
    make_email: Callable[..., Email],
    server_tls: Callable[..., ssl.SSLContext],
    stage: str,
) -> None:
    server = await start_server(tls=server_tls())
    server.drop(stage)
    account = await open_account(server, tls="starttls")
    with pytest.raises(Exception) as caught:
        await account.send(make_email())
    assert caught.value.outcome is (Outcome.UNKNOWN if stage == "dot" else Outcome.TRANSIENT)  # type: ignore[attr-defined]


async def test_opportunistic_without_tls_keeps_the_password_to_itself(
    start_server: Callable[..., Awaitable[SmtpRecorder]], open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    """127.1 is this machine in a spelling that is not taken for it."""
    server = await start_server(auth={"ann": "secret"})
    account = await open_account(server, tls="opportunistic", username="ann", password="secret", host="127.1")
    with pytest.raises(AuthenticationFailed, match="TLS"):
        await account.send(make_email())
    assert not any(command.startswith("AUTH") for command in server.commands)


async def test_check_tells_the_tls_version(
    start_server: Callable[..., Awaitable[SmtpRecorder]],
    open_account: OpenAccount,
    server_tls: Callable[..., ssl.SSLContext],
) -> None:
    server = await start_server(tls=server_tls())
    account = await open_account(server, tls="starttls")
    report = await account.check()
    assert report.details["tls"].startswith("TLSv1.")


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
async def test_a_certificate_that_names_its_host_as_common_name_only_is_refused(
    start_server: Callable[..., Awaitable[SmtpRecorder]], open_account: OpenAccount, authority: trustme.CA, tls: str
) -> None:
    """RFC 9525 section 6.3: the name must be one of those the certificate lists."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(common_name="localhost").configure_cert(context)
    server = await start_server(tls=context, implicit=tls == "implicit")
    account = await open_account(server, tls=tls, host="localhost")
    with pytest.raises(ProviderUnreachable, match="no trusted TLS connection") as caught:
        await account.check()
    assert caught.value.outcome is Outcome.PERMANENT
