"""Large e-mails are encoded in a thread, one at a time; the loop goes on meanwhile."""

from __future__ import annotations

import asyncio
import threading

import pytest

from postroom import Address, Attachment, Email
from postroom.plugin.cancellation import was_handed_over
from postroom.plugin.encoding import LARGE, Encoder, weight_of


async def test_a_small_email_is_encoded_at_once_where_it_is_asked_for() -> None:
    assert await Encoder().run(threading.get_ident, LARGE - 1) == threading.get_ident()


HALF = "x" * (LARGE // 2 + 1)
TENTH = "x" * (LARGE // 10 + 1)
HEAVY = {
    "bodies": Email(to="a@example.org", text=HALF, html=HALF),
    "files": Email(to="a@example.org", text="x", attachments=[Attachment(filename="f", content=b"x" * LARGE)]),
    "a subject": Email(to="a@example.org", text="x", subject=TENTH),
    "headers": Email(to="a@example.org", text="x", headers={f"X-{n}": TENTH[:1000] for n in range(27)}),
    "names": Email(to=[Address(f"a{n}@example.org", "x" * 900) for n in range(30)], text="x"),
}


@pytest.mark.parametrize("email", HEAVY.values(), ids=HEAVY)
def test_whatever_takes_long_to_write_weighs_as_much(email: Email) -> None:
    assert weight_of(email) >= LARGE


def test_an_email_as_most_are_weighs_little() -> None:
    assert weight_of(Email(to="Ann <a@example.org>", subject="Your order", html="x" * 100_000)) < LARGE


async def test_the_loop_goes_on_while_a_large_email_is_encoded() -> None:
    loop, turned = asyncio.get_running_loop(), threading.Event()

    def encode() -> bool:
        loop.call_soon_threadsafe(turned.set)
        return turned.wait(60)  # which only the loop can end

    assert await Encoder().run(encode, LARGE)


async def test_two_large_emails_are_never_encoded_at_a_time() -> None:
    encoder = Encoder()
    busy = threading.Lock()

    def encode() -> bool:
        alone = busy.acquire(blocking=False)
        if alone:
            busy.release()
        return alone

    assert all(await asyncio.gather(*(encoder.run(encode, LARGE) for _ in range(20))))


async def test_what_is_cancelled_while_it_is_encoded_or_waits_for_that_was_not_handed_over() -> None:
    encoder = Encoder()
    begun, end = threading.Event(), threading.Event()

    def encode() -> None:
        begun.set()
        end.wait(60)

    tasks = [asyncio.create_task(encoder.run(encode, LARGE)) for _ in range(2)]
    await asyncio.to_thread(begun.wait, 60)
    for task in tasks:
        task.cancel()
    for task in tasks:
        with pytest.raises(asyncio.CancelledError) as cancelled:
            await task
        assert was_handed_over(cancelled.value) is False
    end.set()


async def test_what_encoding_raises_is_let_through_and_the_next_goes_on() -> None:
    encoder = Encoder()
    with pytest.raises(ZeroDivisionError):
        await encoder.run(lambda: 1 / 0, LARGE)
    assert await encoder.run(lambda: 1, LARGE) == 1
