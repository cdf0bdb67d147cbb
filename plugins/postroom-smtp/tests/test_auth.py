"""Signing in: one attempt, the best mechanism, and no secret in anything shown."""

from __future__ import annotations

import asyncio
import base64
import logging
import traceback
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import pytest

from postroom import Email
from postroom.errors import AuthenticationFailed, Outcome, ProviderUnavailable, ProviderUnreachable
from postroom.testing.smtp import SmtpRecorder

if TYPE_CHECKING:
    from .conftest import OpenAccount


SECRET = "correct-horse-battery"


@pytest.mark.parametrize("mechanisms", [["PLAIN", "LOGIN"], ["LOGIN"], ["CRAM-MD5", "PLAIN"]], ids=str)
async def test_a_password_signs_in_by_the_best_mechanism(
    start_server: Callable[..., Awaitable[SmtpRecorder]],
    open_account: OpenAccount,
    make_email: Callable[..., Email],
    mechanisms: list[str],
) -> None:
    server = await start_server(auth={"ann": SECRET}, mechanisms=mechanisms)
    account = await open_account(server, username="ann", password=SECRET)
    await account.send(make_email())
    assert server.messages[0].user == "ann"
    assert sum(command.startswith("AUTH") for command in server.commands) == 1


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
async def test_a_wrong_password_is_tried_once(
    start_server: Callable[..., Awaitable[SmtpRecorder]],
    open_account: OpenAccount,
    make_email: Callable[..., Email],
    mechanism: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    server = await start_server(auth={"ann": "other"}, mechanisms=[mechanism, "CRAM-MD5"])
    account = await open_account(server, username="ann", password=SECRET)
    answers = await asyncio.gather(*(account.send(make_email()) for _ in range(20)), return_exceptions=True)
    assert all(isinstance(answer, AuthenticationFailed) for answer in answers)
    assert sum(command.startswith("AUTH") for command in server.commands) == 1
    error = answers[0]
    assert (error.outcome, error.scope, error.status, error.provider_code) == ("permanent", "account", 535, "5.7.8")  # type: ignore[union-attr]
    assert "check username, password" in str(error)
    assert server.messages == []


async def test_a_temporary_failure_to_sign_in_is_transient(
    start_server: Callable[..., Awaitable[SmtpRecorder]], open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    server = await start_server(auth={"ann": SECRET})
    server.reply("auth", "454 4.7.0 Temporary authentication failure")
    account = await open_account(server, username="ann", password=SECRET)
    with pytest.raises(ProviderUnavailable) as caught:
        await account.send(make_email())
    assert (caught.value.outcome, caught.value.scope) == (Outcome.TRANSIENT, "account")


async def test_a_server_that_quotes_the_password_does_not_get_it_into_the_error(
    start_server: Callable[..., Awaitable[SmtpRecorder]],
    open_account: OpenAccount,
    make_email: Callable[..., Email],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    quoted = base64.b64encode(f"\0ann\0{SECRET}".encode()).decode()
    server = await start_server(auth={"ann": SECRET})
    server.reply("auth", f"535 5.7.8 AUTH PLAIN {quoted} for {SECRET} refused")
    account = await open_account(server, username="ann", password=SECRET)
    with pytest.raises(AuthenticationFailed) as caught:
        await account.send(make_email())
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value.__dict__) + caplog.text
    shown += repr(account) + repr(account.settings)
    assert SECRET not in shown
    assert quoted not in shown


async def test_a_server_without_auth_is_told_apart_from_a_wrong_password(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    account = await open_account(server, username="ann", password=SECRET)
    with pytest.raises(AuthenticationFailed, match="no AUTH at all"):
        await account.send(make_email())
    assert not any(command.startswith("AUTH") for command in server.commands)


async def test_mail_that_needs_auth_is_an_error_of_the_account(
    start_server: Callable[..., Awaitable[SmtpRecorder]], open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    server = await start_server(auth={"ann": SECRET})
    account = await open_account(server)
    with pytest.raises(AuthenticationFailed) as caught:
        await account.send(make_email())
    assert (caught.value.scope, caught.value.status) == ("account", 530)


async def test_a_fixed_token_signs_in_by_xoauth2(
    start_server: Callable[..., Awaitable[SmtpRecorder]], open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    server = await start_server(auth={"ann@example.org": "token-1"})
    account = await open_account(server, username="ann@example.org", oauth_token="token-1")
    await account.send(make_email())
    assert server.messages[0].user == "ann@example.org"


async def test_every_connection_asks_for_a_fresh_token(
    start_server: Callable[..., Awaitable[SmtpRecorder]], open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    issued = iter(["token-1", "token-2"])

    async def fresh() -> str:
        token = next(issued)
        server.auth["ann@example.org"] = token
        return token

    server = await start_server(auth={"ann@example.org": "none yet"})
    account = await open_account(server, username="ann@example.org", oauth_token=fresh)
    await account.send(make_email())
    server.hang_up()
    await account.send(make_email())
    assert len(server.messages) == 2
    assert next(issued, None) is None


async def test_a_refused_token_is_not_shown(
    start_server: Callable[..., Awaitable[SmtpRecorder]], open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    async def stale() -> str:
        return SECRET

    server = await start_server(auth={"ann@example.org": "other"})
    server.reply("auth", f"535 5.7.8 token {SECRET} expired")
    account = await open_account(server, username="ann@example.org", oauth_token=stale)
    with pytest.raises(AuthenticationFailed) as caught:
        await account.send(make_email())
    assert SECRET not in "".join(traceback.format_exception(caught.value))


async def test_a_token_that_cannot_be_had_is_transient_and_nothing_is_sent(
    start_server: Callable[..., Awaitable[SmtpRecorder]], open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    async def broken() -> str:
        raise RuntimeError(f"the vault with {SECRET} is shut")

    server = await start_server(auth={"ann@example.org": "other"})
    account = await open_account(server, username="ann@example.org", oauth_token=broken)
    with pytest.raises(ProviderUnreachable, match="RuntimeError") as caught:
        await account.send(make_email())
    assert caught.value.outcome is Outcome.TRANSIENT
    assert SECRET not in "".join(traceback.format_exception(caught.value))
