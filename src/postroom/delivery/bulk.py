"""Bulk sends: many messages at once, each with a result of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sized
from typing import TYPE_CHECKING

from postroom.errors import MessageError, PostroomError
from postroom.messages import Message
from postroom.receipts import Receipt

if TYPE_CHECKING:
    from postroom.messages import Email, Sms

MOST_AT_ONCE = 1000
"""Messages of one `send_many` that are on their way together; accounts set their own, tighter limits."""

Result = Receipt | PostroomError


def of_right_type(message: Email | Sms) -> Email | Sms:
    """Return one of many messages; raises MessageError for what is none.

    Where one alone raises TypeError, one of many is an answer among others: they must not lose theirs.
    """
    if not isinstance(message, Message):
        raise MessageError(f"takes an Email or an Sms, not {type(message).__name__}; nothing was sent")
    return message


def receipt_or_raise(result: Result) -> Receipt:
    """Return a result that is a receipt; raises one that is an error."""
    if isinstance(result, PostroomError):
        raise result
    return result


async def send_each(
    send: Callable[[Email | Sms], Awaitable[Receipt]],
    messages: Iterable[Email | Sms],
    report: Callable[[int, Result], None],
    *,
    at_once: int,
) -> None:
    """Send every message by `send`, `at_once` together; `report` gets the index and the result of each.

    What `report` or the iterable raises stops the rest and is raised here, as is what `send` raises that is no
    PostroomError. Raises ValueError when `at_once` is less than 1.
    """
    if at_once < 1:
        raise ValueError(f"at_once must be at least 1, not {at_once}")
    numbered = enumerate(messages)

    async def work() -> None:
        for index, message in numbered:
            try:
                result: Result = await send(of_right_type(message))
            except PostroomError as error:
                result = error
            report(index, result)

    workers = min(at_once, len(messages)) if isinstance(messages, Sized) else at_once
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(work())
    except BaseExceptionGroup as group_error:
        raise group_error.exceptions[0] from None


async def send_many(
    send: Callable[[Email | Sms], Awaitable[Receipt]],
    messages: Iterable[Email | Sms],
    progress: Callable[[int, Result], None] | None,
    *,
    at_once: int,
) -> list[Result]:
    """Send every message as `send_each` does, and return one result for each, in their order."""
    results: dict[int, Result] = {}

    def keep(index: int, result: Result) -> None:
        results[index] = result
        if progress:
            progress(index, result)

    await send_each(send, messages, keep, at_once=at_once)
    return [results[index] for index in range(len(results))]
