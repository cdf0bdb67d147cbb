"""One round trip per message where the server offers PIPELINING, command by command where not."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import pytest

from postroom import Email
from postroom.errors import OutcomeUnknown, ProviderUnavailable, ProviderUnreachable, RecipientsRefused
from postroom.testing.smtp import SmtpRecorder
from postroom.testing.smtp_script import RecordedMessage

if TYPE_CHECKING:
    from .conftest import OpenAccount


async def test_each_further_message_costs_one_round_trip(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    """EHLO, the first envelope, then one write with the content of a message and the envelope of the next."""
    account = await open_account(server, pool=1)
    await asyncio.gather(*(account.send(make_email()) for _ in range(50)))
    assert len(server.messages) == 50
    assert server.connections == 1
    assert server.reads == 1 + 1 + 50


async def test_without_the_extension_every_command_waits_for_its_reply(
    start_server: Callable[..., Awaitable[SmtpRecorder]], open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    server = await start_server(extensions=[])
    account = await open_account(server, pool=1)
    await asyncio.gather(*(account.send(make_email()) for _ in range(5)))
    assert len(server.messages) == 5
    assert server.reads == 1 + 5 * len(["MAIL", "RCPT", "DATA", "content"])


async def test_a_hundred_recipients_cost_no_more_round_trips_than_one(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    account = await open_account(server)
    await account.send(make_email(to=[f"r{number}@example.org" for number in range(100)]))
    assert server.reads == len(["EHLO", "envelope", "content"])


async def test_messages_arrive_whole_and_in_order_on_one_connection(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    account = await open_account(server, pool=1)
    emails = [make_email(text=f".{number}\n..\n.\nend {number}") for number in range(30)]
    answers = await asyncio.gather(*(account.send(email) for email in emails))
    assert [answer.provider_message_id for answer in answers] == [email.message_id for email in emails]
    for number, message in enumerate(server.messages):
        assert message.data.endswith(f"\r\n.{number}\r\n..\r\n.\r\nend {number}\r\n".encode())


async def test_a_refusal_in_the_pipeline_hits_its_own_message_only(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    server.reply("rcpt", "550 5.1.1 No", match="bad")
    account = await open_account(server, pool=1)
    emails = [make_email(to=f"{'bad' if number % 3 == 1 else 'ok'}{number}@example.org") for number in range(12)]
    answers = await asyncio.gather(*(account.send(email) for email in emails), return_exceptions=True)
    for email, answer in zip(emails, answers, strict=True):
        assert isinstance(answer, RecipientsRefused) == ("bad" in email.to[0].email)
    assert [m.recipients[0] for m in server.messages] == [e.to[0].email for e in emails if "ok" in e.to[0].email]
    assert server.connections == 1


async def test_a_drop_costs_only_the_message_whose_dot_was_written(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    """The one behind it had only its envelope on the wire: it goes over a fresh connection, once."""
    server.drop("dot", skip=2, times=1)
    account = await open_account(server, pool=1)
    emails = [make_email() for _ in range(8)]
    answers = await asyncio.gather(*(account.send(email) for email in emails), return_exceptions=True)
    assert [isinstance(answer, OutcomeUnknown) for answer in answers] == [n == 2 for n in range(8)]
    assert [_subject(m) for m in server.messages] == [e.subject for e in emails]
    assert server.connections == 2


@pytest.mark.parametrize("per_connection", [1, 2, 3])
async def test_a_server_that_ends_each_session_after_some_messages_fails_none(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email], per_connection: int
) -> None:
    server.reply("mail", "421 4.7.0 Enough for this session", skip=per_connection, times=1)
    for _ in range(6):
        server.reply("mail", "421 4.7.0 Enough for this session", skip=per_connection, times=1)
    account = await open_account(server, pool=1)
    emails = [make_email() for _ in range(10)]
    await asyncio.gather(*(account.send(email) for email in emails))
    assert sorted(_subject(m) for m in server.messages) == sorted(e.subject for e in emails)
    assert server.connections > 1


async def test_421_to_the_first_command_of_a_fresh_connection_is_an_answer(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    server.reply("mail", "421 4.7.0 Not now")
    account = await open_account(server, pool=1)
    with pytest.raises(ProviderUnavailable):
        await account.send(make_email())
    assert server.connections == 1


async def test_a_server_that_talks_on_after_354_is_out_of_step(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    server.reply("data", b"354 Go ahead\r\n250 2.0.0 Ok\r\n", times=1)
    account = await open_account(server)
    with pytest.raises(ProviderUnreachable, match="out of step"):
        await account.send(make_email())
    await account.send(make_email())
    assert len(server.messages) == 1


async def test_a_doubled_reply_never_becomes_a_yes_for_the_message(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    server.reply("mail", b"250 Ok\r\n250 Ok\r\n", times=1)
    account = await open_account(server)
    with pytest.raises(ProviderUnreachable, match="out of step"):
        await account.send(make_email())
    assert server.messages == []


async def test_pipelining_that_is_announced_and_not_done_ends_in_time_and_is_given_up(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    """A server that drops what it has not read when it answers: MAIL is answered, the rest is lost."""
    server.reply("rcpt", b"", times=1)
    server.reply("data", b"", times=1)
    account = await open_account(server, timeout=1)
    with pytest.raises(ProviderUnreachable, match=r"within 1 s") as caught:
        await account.send(make_email())
    assert caught.value.outcome == "transient"
    before = server.reads
    await account.send(make_email())
    assert server.reads - before == len(["EHLO", "MAIL", "RCPT", "DATA", "content"])


async def test_a_reply_nobody_asked_for_ends_an_idle_session(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    server.reply("dot", b"250 2.0.0 Ok\r\n421 4.4.2 Timeout\r\n", times=1)
    account = await open_account(server)
    await account.send(make_email())
    await account.send(make_email())
    assert server.connections == 2


def _subject(message: RecordedMessage) -> str:
    found = re.search(rb"^Subject: (.*?)\r$", message.data, re.MULTILINE)
    assert found
    return found[1].decode()
