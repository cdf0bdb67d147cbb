"""aiosmtpd, a server that is not ours and offers no PIPELINING, takes the messages."""

from __future__ import annotations

import asyncio
import email.message
import warnings
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

import pytest
from aiosmtpd.handlers import Message
from aiosmtpd.smtp import SMTP

from postroom import Email

if TYPE_CHECKING:
    from .conftest import OpenAccount


class Keeper(Message):
    def __init__(self) -> None:
        super().__init__()
        self.kept: list[email.message.Message] = []
        self.port = 0

    def handle_message(self, message: email.message.Message) -> None:
        self.kept.append(message)


@pytest.fixture
async def aiosmtpd() -> AsyncIterator[Keeper]:
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


async def test_messages_arrive_once_each_command_by_command(
    aiosmtpd: Keeper, open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    account = await open_account(aiosmtpd, pool=3)
    sent = [make_email(text=f".dot {number}\nGrüße\n") for number in range(30)]
    await asyncio.gather(*(account.send(one) for one in sent))
    await account.close()
    assert sorted(str(message["Message-ID"]) for message in aiosmtpd.kept) == sorted(
        str(one.message_id) for one in sent
    )
    for message in aiosmtpd.kept:
        content = message.get_payload(decode=True)
        assert isinstance(content, bytes)
        assert content.startswith(b".dot ")


async def test_an_international_address_arrives(
    aiosmtpd: Keeper, open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    account = await open_account(aiosmtpd)
    await account.send(make_email(to="jörg@bücher.example.org"))
    await account.close()
    assert aiosmtpd.kept[0]["X-RcptTo"] == "jörg@bücher.example.org"
