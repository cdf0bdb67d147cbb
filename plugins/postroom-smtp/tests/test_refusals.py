"""Refusals: of one recipient, of all, of the message, of the account."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest

from postroom import Email
from postroom.errors import (
    AuthenticationFailed,
    MessageRejected,
    Outcome,
    OutcomeUnknown,
    ProviderUnavailable,
    ProviderUnreachable,
    QuotaExhausted,
    RateLimited,
    RecipientsRefused,
)
from postroom.testing.smtp import SmtpRecorder
from postroom_smtp.errors import BY_CODE, BY_ENHANCED, meaning
from postroom_smtp.replies import SmtpReply

if TYPE_CHECKING:
    from .conftest import OpenAccount


TALKS = pytest.mark.parametrize("extensions", [["PIPELINING"], []], ids=["pipelined", "in-turns"])


@TALKS
async def test_refused_recipients_are_named_and_the_rest_get_the_message(
    start_server: Callable[..., Awaitable[SmtpRecorder]],
    open_account: OpenAccount,
    make_email: Callable[..., Email],
    extensions: list[str],
) -> None:
    server = await start_server(extensions=extensions)
    server.reply("rcpt", "550 5.1.1 No such user", match="bob@")
    server.reply("rcpt", "450 4.2.1 Mailbox busy", match="cid@")
    account = await open_account(server)
    accepted = await account.send(make_email(to=["ann@example.org", "bob@example.org", "cid@example.org"]))
    ann, bob, cid = accepted.recipients
    assert ann.outcome is Outcome.ACCEPTED
    assert (bob.outcome, bob.status, bob.provider_code) == (Outcome.PERMANENT, 550, "5.1.1")
    assert (cid.outcome, cid.status, cid.provider_code) == (Outcome.TRANSIENT, 450, "4.2.1")
    assert bob.detail == "No such user"
    assert server.messages[0].recipients == ("ann@example.org",)


@TALKS
async def test_when_every_recipient_is_refused_nothing_is_sent_and_the_session_goes_on(
    start_server: Callable[..., Awaitable[SmtpRecorder]],
    open_account: OpenAccount,
    make_email: Callable[..., Email],
    extensions: list[str],
) -> None:
    server = await start_server(extensions=extensions)
    server.reply("rcpt", "550 5.1.1 No such user", match="bob@")
    account = await open_account(server)
    with pytest.raises(RecipientsRefused) as caught:
        await account.send(make_email(to="bob@example.org"))
    assert (caught.value.outcome, caught.value.provider_code, caught.value.status) == ("permanent", "5.1.1", 550)
    assert [r.address for r in caught.value.recipients] == ["bob@example.org"]
    await account.send(make_email())
    assert len(server.messages) == 1
    assert server.connections == 1
    assert "RSET" in server.commands


async def test_recipients_refused_for_now_leave_the_error_transient(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    server.reply("rcpt", "550 No", match="bob@")
    server.reply("rcpt", "450 Later", match="cid@")
    account = await open_account(server)
    with pytest.raises(RecipientsRefused) as caught:
        await account.send(make_email(to=["bob@example.org", "cid@example.org"]))
    assert caught.value.outcome is Outcome.TRANSIENT
    assert [r.outcome for r in caught.value.recipients] == [Outcome.PERMANENT, Outcome.TRANSIENT]


async def test_354_after_every_recipient_was_refused_never_delivers_a_copy(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    server.reply("rcpt", "550 5.1.1 No such user", match="bob@")
    server.reply("data", "354 Go ahead", times=1)
    account = await open_account(server)
    with pytest.raises(RecipientsRefused):
        await account.send(make_email(to="bob@example.org"))
    await account.send(make_email())
    assert [message.recipients for message in server.messages] == [("ann@example.org",)]
    assert server.connections == 2


@TALKS
@pytest.mark.parametrize(
    ("stage", "reply", "kind", "scope"),
    [
        ("mail", "550 5.7.1 Sender not allowed", MessageRejected, "message"),
        ("mail", "552 5.3.4 Message too big", MessageRejected, "message"),
        ("mail", "451 4.3.0 Try later", ProviderUnavailable, "message"),
        ("mail", "530 5.7.0 Authentication required", AuthenticationFailed, "account"),
        ("mail", "550 5.4.5 Daily quota", QuotaExhausted, "account"),
        ("rcpt", "530 5.7.0 Authentication required", AuthenticationFailed, "account"),
        ("data", "554 5.7.1 Not like this", MessageRejected, "message"),
        ("data", "451 4.7.1 Greylisted", ProviderUnavailable, "message"),
        ("dot", "554 5.6.0 Bad content", MessageRejected, "message"),
        ("dot", "552 5.3.4 Too big", MessageRejected, "message"),
        ("dot", "452 4.3.1 Disk full", ProviderUnavailable, "message"),
        ("dot", "450 4.7.28 Slow down", RateLimited, "account"),
    ],
)
async def test_a_refused_message_gets_its_error_and_the_session_goes_on(
    start_server: Callable[..., Awaitable[SmtpRecorder]],
    open_account: OpenAccount,
    make_email: Callable[..., Email],
    extensions: list[str],
    stage: str,
    reply: str,
    kind: type[Any],
    scope: str,
) -> None:
    server = await start_server(extensions=extensions)
    server.reply(stage, reply, times=1)
    account = await open_account(server)
    with pytest.raises(kind) as caught:
        await account.send(make_email())
    error = caught.value
    assert error.outcome == ("permanent" if reply[0] == "5" else "transient")
    assert (error.scope, error.status, error.provider_code) == (scope, int(reply[:3]), reply.split()[1])
    assert "nothing was sent" in str(error)
    await account.send(make_email())
    assert len(server.messages) == 1
    assert server.connections == 1


async def test_more_recipients_than_a_transaction_takes_go_in_further_ones(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    everyone = [f"r{number}@example.org" for number in range(25)]
    server.reply("rcpt", "452 4.5.3 Too many recipients", skip=10, times=15)
    account = await open_account(server)
    accepted = await account.send(make_email(to=everyone))
    assert all(r.outcome is Outcome.ACCEPTED for r in accepted.recipients) or not accepted.recipients
    delivered = [recipient for message in server.messages for recipient in message.recipients]
    assert delivered == everyone
    assert [len(message.recipients) for message in server.messages] == [10, 10, 5]
    assert len({message.data for message in server.messages}) == 1


async def test_452_for_a_full_disk_is_no_reason_for_another_transaction(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    server.reply("rcpt", "452 4.3.1 Insufficient storage", match="bob@")
    account = await open_account(server)
    accepted = await account.send(make_email(to=["ann@example.org", "bob@example.org"]))
    assert [r.outcome for r in accepted.recipients] == [Outcome.ACCEPTED, Outcome.TRANSIENT]
    assert len(server.messages) == 1


async def test_a_break_in_a_further_transaction_keeps_what_was_accepted(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    server.reply("rcpt", "452 4.5.3 Too many recipients", match="bob@", times=1)
    server.drop("dot", skip=1)
    account = await open_account(server)
    accepted = await account.send(make_email(to=["ann@example.org", "bob@example.org"]))
    assert [r.outcome for r in accepted.recipients] == [Outcome.ACCEPTED, Outcome.UNKNOWN]


async def test_only_the_recipients_asked_for_are_in_the_envelope(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    account = await open_account(server)
    email = make_email(to=["ann@example.org", "bob@example.org"], bcc="cid@example.org")
    await account.send(email.for_recipients(["bob@example.org", "cid@example.org"]))
    assert server.messages[0].recipients == ("bob@example.org", "cid@example.org")
    assert b"ann@example.org" in server.messages[0].data
    assert b"cid@example.org" not in server.messages[0].data


async def test_an_answer_that_is_neither_yes_nor_no_is_unknown(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    server.reply("dot", "354 What?")
    account = await open_account(server)
    with pytest.raises(OutcomeUnknown):
        await account.send(make_email())


@pytest.mark.parametrize("stage", ["mail", "rcpt"])
async def test_an_answer_of_the_wrong_kind_before_the_content_is_transient(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email], stage: str
) -> None:
    server.reply(stage, "354 What?")
    account = await open_account(server)
    with pytest.raises(ProviderUnreachable, match="out of step"):
        await account.send(make_email())
    assert server.messages == []


def test_every_reply_of_the_tables_has_the_outcome_of_its_class() -> None:
    for enhanced, (kind, scope) in BY_ENHANCED.items():
        code = 450 if enhanced[0] == "4" else 550
        assert meaning(SmtpReply(code, f"{enhanced} Words".encode())) == (kind, scope)
    for code, found in BY_CODE.items():
        assert meaning(SmtpReply(code, b"Words")) == found
    assert meaning(SmtpReply(599, b""))[0] is MessageRejected
    assert meaning(SmtpReply(499, b""))[0] is ProviderUnavailable
