"""A cancelled message is gone or in doubt, says which, and takes no other message with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from postroom import Email
from postroom.testing.smtp import SmtpRecorder

if TYPE_CHECKING:
    from .conftest import OpenAccount


async def _cancelled(task: asyncio.Task[Any]) -> str:
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    return " ".join(getattr(caught.value, "__notes__", []))


async def test_a_cancelled_message_that_waits_is_never_sent(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    server.delay("dot", 0.2)
    account = await open_account(server, pool=1)
    first, second, third = (asyncio.create_task(account.send(make_email())) for _ in range(3))
    await server.until("mail")
    assert "nothing was sent" in await _cancelled(third)
    await asyncio.gather(first, second)
    assert len(server.messages) == 2


@pytest.mark.parametrize("stage", ["connect", "ehlo", "mail", "rcpt", "data"])
async def test_a_message_cancelled_before_its_content_is_not_sent(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email], stage: str
) -> None:
    server.delay(stage, 0.2, times=1)
    account = await open_account(server)
    sending = asyncio.create_task(account.send(make_email()))
    await server.until(stage)
    assert "nothing was sent" in await _cancelled(sending)
    await account.send(make_email())
    assert len(server.messages) == 1


async def test_a_message_cancelled_after_its_dot_is_in_doubt_and_the_session_stays_in_step(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    server.delay("dot", 0.2, times=1)
    account = await open_account(server, pool=1)
    sending = asyncio.create_task(account.send(make_email()))
    await server.until("dot")
    assert "outcome is unknown" in await _cancelled(sending)
    later = await account.send(make_email())
    assert later.provider_message_id
    assert len(server.messages) == 2
    assert server.connections == 1


async def test_those_behind_a_cancelled_message_are_sent_once(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    server.delay("dot", 0.1, times=1)
    account = await open_account(server, pool=1)
    emails = [make_email() for _ in range(4)]
    tasks = [asyncio.create_task(account.send(email)) for email in emails]
    await server.until("dot")
    assert "outcome is unknown" in await _cancelled(tasks[0])
    await asyncio.gather(*tasks[1:])
    assert len(server.messages) == 4


async def test_a_cancelled_message_behind_another_leaves_that_one_alone(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    """Its envelope is on the wire and its content never follows; the one before gets its own answer."""
    server.delay("dot", 0.1, times=1)
    account = await open_account(server, pool=1)
    first, second, third = (asyncio.create_task(account.send(make_email())) for _ in range(3))
    await server.until("dot")
    assert "nothing was sent" in await _cancelled(second)
    await asyncio.gather(first, third)
    assert len(server.messages) == 2
    assert server.connections == 2


async def test_a_message_cancelled_in_the_middle_of_a_large_body_is_not_sent(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    server.delay("half-body", 0.3, times=1)
    account = await open_account(server)
    sending = asyncio.create_task(account.send(make_email(text=("y" * 70 + "\n") * 300_000)))
    await server.until("data")
    await asyncio.sleep(0.1)  # the buffers of the system fill; nothing tells when
    assert "nothing was sent" in await _cancelled(sending)
    await account.send(make_email())
    assert len(server.messages) == 1


async def test_cancelling_at_any_moment_never_loses_or_doubles_the_others(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    account = await open_account(server, pool=2)
    emails = [make_email() for _ in range(300)]

    async def fate(email: Email) -> str:
        try:
            await account.send(email)
        except asyncio.CancelledError as cancelled:
            return cancelled.__notes__[0]
        return "sent"

    tasks = [asyncio.create_task(fate(email)) for email in emails]
    for number, task in enumerate(tasks):
        if number % 7 == 3:
            asyncio.get_running_loop().call_later(number / 10_000, task.cancel)
    fates = await asyncio.gather(*tasks)
    seen: dict[str, int] = {}
    for message in server.messages:
        subject = message.data.split(b"Subject: ")[1].split(b"\r\n")[0].decode()
        seen[subject] = seen.get(subject, 0) + 1
    assert len(set(fates)) > 1
    for email, told in zip(emails, fates, strict=True):
        copies = seen.get(email.subject, 0)
        if "nothing was sent" in told:
            assert copies == 0
        elif told == "sent":
            assert copies == 1
        else:
            assert copies <= 1
