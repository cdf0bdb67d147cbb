"""Wherever the conversation breaks, the outcome tells whether the message may have been sent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import pytest

from postroom import Email
from postroom.errors import Outcome, OutcomeUnknown, ProviderUnavailable, ProviderUnreachable
from postroom.testing.smtp import SmtpRecorder

if TYPE_CHECKING:
    from .conftest import OpenAccount


BEFORE = ["connect", "ehlo", "mail", "rcpt", "data"]


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("stage", BEFORE)
@pytest.mark.parametrize("pipelining", [True, False], ids=["pipelined", "in-turns"])
async def test_a_drop_before_the_content_is_transient(
    start_server: Callable[..., Awaitable[SmtpRecorder]],
    open_account: OpenAccount,
    make_email: Callable[..., Email],
    stage: str,
    reset: bool,
    pipelining: bool,
) -> None:
    server = await start_server(extensions=["PIPELINING"] if pipelining else [])
    server.drop(stage, reset=reset)
    account = await open_account(server)
    with pytest.raises(ProviderUnreachable) as caught:
        await account.send(make_email())
    assert caught.value.outcome is Outcome.TRANSIENT
    assert server.messages == []
    assert server.connections == 1
    assert "post:" in str(caught.value)
    assert "nothing was sent" in str(caught.value)


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("pipelining", [True, False], ids=["pipelined", "in-turns"])
async def test_a_drop_after_the_final_dot_is_unknown(
    start_server: Callable[..., Awaitable[SmtpRecorder]],
    open_account: OpenAccount,
    make_email: Callable[..., Email],
    reset: bool,
    pipelining: bool,
) -> None:
    server = await start_server(extensions=["PIPELINING"] if pipelining else [])
    server.drop("dot", reset=reset)
    account = await open_account(server)
    with pytest.raises(OutcomeUnknown) as caught:
        await account.send(make_email())
    assert caught.value.outcome is Outcome.UNKNOWN
    assert len(server.messages) == 1
    assert server.connections == 1
    assert "Message-ID" in str(caught.value)


@pytest.mark.parametrize("stage", BEFORE)
async def test_silence_before_the_content_is_transient_and_bounded(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email], stage: str
) -> None:
    server.delay(stage, 60)
    account = await open_account(server, timeout=0.2)
    async with asyncio.timeout(50):
        with pytest.raises(ProviderUnreachable) as caught:
            await account.send(make_email())
    assert caught.value.outcome is Outcome.TRANSIENT
    assert server.messages == []


async def test_a_drop_in_the_middle_of_a_large_body_is_transient(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    """Nobody reads, so the end of the body never leaves the process, and the final dot is never written."""
    server.delay("half-body", 60)
    account = await open_account(server, timeout=0.5)
    with pytest.raises(ProviderUnreachable) as caught:
        await account.send(make_email(text="x" * 70 + "\n" + ("y" * 70 + "\n") * 300_000))
    assert caught.value.outcome is Outcome.TRANSIENT
    assert server.messages == []


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
async def test_a_close_in_the_middle_of_a_large_body_is_transient(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email], reset: bool
) -> None:
    server.drop("half-body", reset=reset)
    account = await open_account(server)
    with pytest.raises(ProviderUnreachable) as caught:
        await account.send(make_email(text=("y" * 70 + "\n") * 300_000))
    assert caught.value.outcome is Outcome.TRANSIENT
    assert server.messages == []


async def test_a_drop_at_quit_costs_nothing(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    server.drop("quit")
    account = await open_account(server)
    await account.send(make_email())
    await account.close()
    assert len(server.messages) == 1


async def test_a_name_that_does_not_resolve_is_transient(
    open_account: OpenAccount, make_email: Callable[..., Email], server: SmtpRecorder
) -> None:
    account = await open_account(server, host="no-such-host.invalid")
    with pytest.raises(ProviderUnreachable, match="cannot be found") as caught:
        await account.send(make_email())
    assert caught.value.outcome is Outcome.TRANSIENT


@pytest.mark.parametrize(
    ("greeting", "outcome"), [("421 4.3.2 Too busy", Outcome.TRANSIENT), ("554 5.7.1 Not you", Outcome.PERMANENT)]
)
async def test_an_unfriendly_greeting_is_for_now_or_for_good(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email], greeting: str, outcome: Outcome
) -> None:
    server.reply("connect", greeting)
    account = await open_account(server)
    with pytest.raises(ProviderUnavailable) as caught:
        await account.send(make_email())
    assert caught.value.outcome is outcome
    assert caught.value.scope == "account"
    assert caught.value.status == int(greeting[:3])


@pytest.mark.parametrize("stage", ["mail", "rcpt", "data"])
async def test_421_before_the_content_is_transient(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email], stage: str
) -> None:
    server.reply(stage, "421 4.3.2 Shutting down")
    account = await open_account(server)
    with pytest.raises(ProviderUnavailable) as caught:
        await account.send(make_email())
    assert (caught.value.outcome, caught.value.scope, caught.value.status) == ("transient", "account", 421)
    assert server.messages == []


async def test_421_after_the_final_dot_refuses_the_message_for_now(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    server.reply("dot", "421 4.3.2 Shutting down")
    account = await open_account(server)
    with pytest.raises(ProviderUnavailable) as caught:
        await account.send(make_email())
    assert caught.value.outcome is Outcome.TRANSIENT


@pytest.mark.parametrize("cut", range(1, len(b"250 2.0.0 Ok\r\n")))
async def test_a_yes_counts_only_when_the_whole_reply_arrived(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email], cut: int
) -> None:
    server.reply("dot", b"250 2.0.0 Ok\r\n"[:cut], times=1)
    account = await open_account(server)
    sending = asyncio.create_task(account.send(make_email()))
    await server.until("dot")
    server.hang_up()
    with pytest.raises(OutcomeUnknown):
        await sending


async def test_a_reply_that_ends_in_the_middle_of_its_lines_is_no_yes(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    server.reply("dot", b"250-2.0.0 Almost\r\n")
    account = await open_account(server)
    sending = asyncio.create_task(account.send(make_email()))
    await server.until("dot")
    server.hang_up()
    with pytest.raises(OutcomeUnknown):
        await sending
