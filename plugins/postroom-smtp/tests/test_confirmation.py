"""The outbox's word is asked for when the server is ready for the content, not while the message waits for its place."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from postroom import Accepted, Email
from postroom.plugin import Withdrawn
from postroom.plugin.confirmation import confirming
from postroom.testing.smtp import SmtpRecorder

if TYPE_CHECKING:
    from postroom_smtp.transport import SmtpEmail

    from .conftest import OpenAccount


class Word:
    """What the outbox says of one message: yes, no, or nothing until it may `go_on`."""

    def __init__(self, error: Exception | None = None) -> None:
        self.asked = asyncio.Event()
        self.go_on = asyncio.Event()
        self.error = error

    async def __call__(self) -> None:
        self.asked.set()
        await self.go_on.wait()
        if self.error:
            raise self.error


def send(account: SmtpEmail, email: Email, word: Word) -> asyncio.Task[Accepted]:
    async def sending() -> Accepted:
        with confirming(word):
            return await account.send(email)

    return asyncio.create_task(sending())


@pytest.mark.parametrize("extensions", [["PIPELINING"], []], ids=["pipelining", "one by one"])
async def test_a_message_that_waits_for_its_place_is_not_begun(
    start_server: Callable[..., object],
    open_account: OpenAccount,
    make_email: Callable[..., Email],
    extensions: list[str],
) -> None:
    server = await start_server(extensions=extensions)  # type: ignore[misc]
    assert isinstance(server, SmtpRecorder)
    account = await open_account(server, pool=1)
    first, second, third = Word(), Word(), Word()
    sending = [send(account, make_email(), word) for word in (first, second, third)]
    await first.asked.wait()
    assert server.messages == []
    assert not second.asked.is_set()
    assert not third.asked.is_set()
    for word in (first, second, third):
        word.go_on.set()
    await asyncio.gather(*sending)
    assert len(server.messages) == 3
    assert third.asked.is_set()


async def test_a_large_message_waits_for_the_word_too(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    account, word = await open_account(server), Word()
    sending = send(account, make_email(text="x" * 200_000), word)
    await word.asked.wait()
    assert server.messages == []
    word.go_on.set()
    await sending
    assert len(server.messages) == 1


async def test_a_message_that_is_withdrawn_is_not_sent_and_the_others_are(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    account = await open_account(server, pool=1)
    words = [Word(), Word(Withdrawn()), Word()]
    sending = [send(account, make_email(), word) for word in words]
    for word in words:
        word.go_on.set()
    answers = await asyncio.gather(*sending, return_exceptions=True)
    assert [type(answer) for answer in answers] == [Accepted, Withdrawn, Accepted]
    assert len(server.messages) == 2


async def test_a_message_that_is_cancelled_before_the_word_comes_is_not_sent(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    account, word = await open_account(server, pool=1), Word()
    sending = send(account, make_email(), word)
    await word.asked.wait()
    sending.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await sending
    assert "nothing was sent" in " ".join(getattr(caught.value, "__notes__", []))
    word.go_on.set()
    await account.send(make_email())
    assert len(server.messages) == 1


async def test_a_connection_that_is_lost_before_the_word_comes_has_sent_nothing(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    account, word = await open_account(server, pool=1), Word()
    sending = send(account, make_email(), word)
    await word.asked.wait()
    server.hang_up()
    with pytest.raises(Exception, match="nothing was sent"):
        await sending
    word.go_on.set()
    await account.send(make_email())
    assert len(server.messages) == 1
