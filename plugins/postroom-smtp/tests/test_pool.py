"""Connections are few, shared, looked after, and gone in the end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import pytest

from postroom import Email
from postroom.errors import AuthenticationFailed, OutcomeUnknown, ProviderUnavailable, ProviderUnreachable
from postroom.plugin import Resources
from postroom.testing.smtp import SmtpRecorder, Stage
from postroom_smtp.connector import Connector
from postroom_smtp.envelope import prepare
from postroom_smtp.errors import SmtpErrors
from postroom_smtp.pool import TRIES, Pool
from postroom_smtp.settings import SmtpSettings
from postroom_smtp.timeouts import Timeouts
from postroom_smtp.transport import SmtpEmail

if TYPE_CHECKING:
    from .conftest import OpenAccount


async def test_one_message_after_the_other_shares_one_connection(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    account = await open_account(server)
    for _ in range(5):
        await account.send(make_email())
    assert server.connections == 1


async def test_no_more_connections_than_the_pool_has(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    server.delay("dot", 0.02)
    account = await open_account(server, pool=3)
    await asyncio.gather(*(account.send(make_email()) for _ in range(30)))
    assert server.connections == 3
    assert len(server.messages) == 30


async def test_an_idle_connection_that_the_server_closed_costs_nothing(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    account = await open_account(server)
    await account.send(make_email())
    server.hang_up()
    await account.send(make_email())
    assert len(server.messages) == 2
    assert server.connections == 2


async def test_a_connection_that_dies_at_the_next_mail_is_replaced_within_the_hand_over(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    server.drop("mail", skip=1, times=1)
    account = await open_account(server)
    await account.send(make_email())
    await account.send(make_email())
    assert len(server.messages) == 2
    assert server.connections == 2


async def test_a_message_moves_to_a_fresh_connection_once_only(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    server.drop("mail", skip=1)
    account = await open_account(server)
    await account.send(make_email())
    with pytest.raises(ProviderUnreachable):
        await account.send(make_email())
    assert server.connections == 2


def _pool(server: SmtpRecorder, timeouts: Timeouts) -> Pool:
    settings = SmtpSettings(host="127.0.0.1", port=server.port, tls="none")
    errors = SmtpErrors("post", settings)
    return Pool(settings.pool, Connector(settings, errors, None).connect, errors, timeouts)


async def test_an_idle_connection_says_quit_after_a_while(
    server: SmtpRecorder, make_email: Callable[..., Email]
) -> None:
    pool = _pool(server, Timeouts(message=50, idle=0.05))
    await pool.deliver(prepare(make_email(), None))
    async with asyncio.timeout(50):
        await server.until("quit")
    await pool.deliver(prepare(make_email(), None))
    assert server.connections == 2
    await pool.close()


async def test_closing_says_quit_on_every_connection(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    account = await open_account(server, pool=3)
    await asyncio.gather(*(account.send(make_email()) for _ in range(20)))
    await account.close()
    assert server.commands.count("QUIT") == server.connections
    with pytest.raises(ProviderUnreachable, match="not open"):
        await account.send(make_email())


async def test_closing_waits_for_what_is_on_the_wire_and_refuses_what_waits(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    server.delay("dot", 0.1)
    account = await open_account(server, pool=1)
    sending = [asyncio.create_task(account.send(make_email())) for _ in range(5)]
    await server.until("dot")
    await account.close()
    answers = await asyncio.gather(*sending, return_exceptions=True)
    sent = [answer for answer in answers if not isinstance(answer, Exception)]
    refused = [answer for answer in answers if isinstance(answer, ProviderUnreachable)]
    assert len(sent) == len(server.messages)
    assert len(sent) + len(refused) == 5
    assert refused


async def test_closing_is_bounded_when_the_server_does_not_answer_quit(
    server: SmtpRecorder, make_email: Callable[..., Email]
) -> None:
    server.delay("quit", 60)
    pool = _pool(server, Timeouts(message=50, quit=0.1))
    await pool.deliver(prepare(make_email(), None))
    async with asyncio.timeout(50):
        await pool.close()


async def test_closing_while_connecting_refuses_what_waits(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    server.delay("connect", 60)
    account = await open_account(server)
    sending = asyncio.create_task(account.send(make_email()))
    await server.until("connect")
    async with asyncio.timeout(50):
        await account.close()
    with pytest.raises(ProviderUnreachable, match="account was closed"):
        await sending


async def test_when_the_server_is_down_all_who_wait_hear_so_after_a_few_attempts(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    server.reply("connect", "421 4.3.2 Too busy")
    account = await open_account(server)
    answers = await asyncio.gather(*(account.send(make_email()) for _ in range(50)), return_exceptions=True)
    assert all(isinstance(answer, ProviderUnavailable) for answer in answers)
    assert server.connections == TRIES


async def test_a_single_message_is_told_at_once_so_that_another_account_may_have_it(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    server.drop("connect")
    account = await open_account(server)
    for tried in (1, 2):
        with pytest.raises(ProviderUnreachable):
            await account.send(make_email())
        assert server.connections == tried


async def test_when_credentials_are_wrong_all_who_wait_hear_so_after_one_attempt(
    start_server: Callable[..., Awaitable[SmtpRecorder]], open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    server = await start_server(auth={"ann": "right"})
    account = await open_account(server, username="ann", password="wrong")
    answers = await asyncio.gather(*(account.send(make_email()) for _ in range(50)), return_exceptions=True)
    assert all(isinstance(answer, AuthenticationFailed) for answer in answers)
    assert server.connections == 1


@pytest.mark.parametrize("stage", ["connect", "ehlo"])
@pytest.mark.parametrize("broken", [1, TRIES - 1])
async def test_connections_that_break_fail_a_message_each_and_no_more(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email], stage: Stage, broken: int
) -> None:
    server.drop(stage, times=broken)
    account = await open_account(server)
    answers = await asyncio.gather(*(account.send(make_email()) for _ in range(200)), return_exceptions=True)
    failed = [answer for answer in answers if isinstance(answer, ProviderUnreachable)]
    assert (len(failed), len(server.messages)) == (broken, 200 - broken)


async def test_when_all_connections_die_at_once_the_next_that_breaks_costs_one_message(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    server.delay("dot", 0.01)
    server.drop("connect", skip=1, times=1)
    account = await open_account(server, pool=1)
    sending = [asyncio.create_task(account.send(make_email())) for _ in range(100)]
    await server.until("dot", 10)
    server.hang_up()
    answers = await asyncio.gather(*sending, return_exceptions=True)
    unsent = [answer for answer in answers if isinstance(answer, ProviderUnreachable)]
    doubtful = [answer for answer in answers if isinstance(answer, OutcomeUnknown)]
    assert len(unsent) <= 2
    assert len(doubtful) <= 1
    assert len(server.messages) >= 100 - len(unsent) - len(doubtful)


async def test_a_limit_on_connections_leaves_the_messages_to_those_that_work(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    server.reply("connect", "421 4.7.0 Too many connections", skip=2)
    server.delay("dot", 0.01)
    account = await open_account(server, pool=5)
    await asyncio.gather(*(account.send(make_email()) for _ in range(40)))
    assert len(server.messages) == 40


async def test_tasks_and_connections_are_gone_after_close(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    before = asyncio.all_tasks()
    account = await open_account(server)
    await asyncio.gather(*(account.send(make_email()) for _ in range(20)))
    await account.close()
    assert asyncio.all_tasks() == before


def test_an_account_works_in_one_event_loop_after_another(make_email: Callable[..., Email]) -> None:
    async def send_once(account: SmtpEmail | None, port: int = 0) -> None:
        async with SmtpRecorder() as server:
            account = SmtpEmail("post", SmtpSettings(host="127.0.0.1", port=server.port, tls="none"), Resources())
            for _ in range(2):
                await account.open()
                await account.send(make_email())
                await account.close()
            assert len(server.messages) == 2

    asyncio.run(send_once(None))
    asyncio.run(send_once(None))


async def test_check_signs_in_and_sends_nothing(server: SmtpRecorder, open_account: OpenAccount) -> None:
    account = await open_account(server)
    report = await account.check()
    assert report.ok
    assert "PIPELINING" in report.details["extensions"]
    assert [command.split()[0] for command in server.commands] == ["EHLO", "QUIT"]


async def test_check_raises_what_keeps_the_account_from_sending(
    server: SmtpRecorder, open_account: OpenAccount, unused_tcp_port: int
) -> None:
    account = await open_account(server, port=unused_tcp_port)
    with pytest.raises(ProviderUnreachable):
        await account.check()
