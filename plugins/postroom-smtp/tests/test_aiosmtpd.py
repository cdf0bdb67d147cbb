"""aiosmtpd, a server that is not ours and offers no PIPELINING, takes the messages."""

from __future__ import annotations

import asyncio
import warnings

import pytest
from aiosmtpd.handlers import Message
from aiosmtpd.smtp import SMTP


class Keeper(Message):
    def __init__(self) -> None:
        super().__init__()
        self.kept: list = []

    def handle_message(self, message) -> None:
        self.kept.append(message)


@pytest.fixture
async def aiosmtpd():
    keeper = Keeper()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        listening = await asyncio.get_running_loop().create_server(
            lambda: SMTP(keeper, hostname="localhost", enable_SMTPUTF8=True), "127.0.0.1", 0
        )
    keeper.port = listening.sockets[0].getsockname()[1]
    yield keeper
    listening.close()
    await listening.wait_closed()


async def test_messages_arrive_once_each_command_by_command(aiosmtpd, open_account, make_email) -> None:
    account = await open_account(aiosmtpd, pool=3)
    emails = [make_email(text=f".dot {number}\nGrüße\n") for number in range(30)]
    await asyncio.gather(*(account.send(email) for email in emails))
    await account.close()
    assert sorted(message["Message-ID"] for message in aiosmtpd.kept) == sorted(email.message_id for email in emails)
    for message in aiosmtpd.kept:
        assert message.get_payload(decode=True).decode().startswith(".dot ")


async def test_an_international_address_arrives(aiosmtpd, open_account, make_email) -> None:
    account = await open_account(aiosmtpd)
    await account.send(make_email(to="jörg@bücher.example.org"))
    await account.close()
    assert aiosmtpd.kept[0]["X-RcptTo"] == "jörg@bücher.example.org"
