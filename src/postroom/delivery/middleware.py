"""Send middleware: extensions around an attempt, entered and left by the core so that they hold across an await.

A pluggy wrapper around a coroutine ends before the coroutine runs, which is why these are entered by hand.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

from postroom.errors import PluginError, PostroomError
from postroom.plugin.cancellation import is_being_cancelled, keep_answer, mark_cancelled, was_handed_over

if TYPE_CHECKING:
    from postroom.messages import Message

_log = logging.getLogger("postroom.plugins")

Hooks = Sequence[tuple[str, Callable[..., Any]]]
Entered = list[tuple[str, AbstractAsyncContextManager[None]]]


class SendMiddleware:
    """The `postroom_around_send` of every extension, in the order of the configuration."""

    def __init__(self, functions: Hooks = ()) -> None:
        self._functions = functions

    def __bool__(self) -> bool:
        return bool(self._functions)

    async def enter(self, message: Message, account: str) -> Entered:
        """Enter every context for `message`; raises PostroomError, with those entered left again, if one fails."""
        entered: Entered = []
        try:
            for name, function in self._functions:
                context = await _enter(name, function, message, account)
                if context is not None:
                    entered.append((name, context))
        except BaseException as error:
            await self.leave(entered, error)
            raise
        return entered

    async def leave(self, entered: Entered, answer: object) -> None:
        """Leave every context, in reverse; each sees the error of the send, if `answer` is one.

        A cancellation meanwhile is raised when all are left, and keeps what had come of the send.
        """
        error = answer if isinstance(answer, BaseException) else None
        cancelled: asyncio.CancelledError | None = None
        for name, context in reversed(entered):
            try:
                await _leave(name, context, error)
            except asyncio.CancelledError as meanwhile:
                cancelled = meanwhile
        if cancelled is not None:
            _keep(cancelled, answer)
            raise cancelled


async def _enter(
    name: str, function: Callable[..., Any], message: Message, account: str
) -> AbstractAsyncContextManager[None] | None:
    try:
        context: AbstractAsyncContextManager[None] | None = function(message=message, account=account)
        if context is not None:
            await context.__aenter__()
    except PostroomError:
        raise
    except (Exception, asyncio.CancelledError) as error:
        if isinstance(error, asyncio.CancelledError) and is_being_cancelled():
            raise
        raise PluginError(
            f"extension {name!r} failed before the send ({type(error).__name__}); nothing was sent. Fix it, or take "
            "it out of [plugins] extensions"
        ) from error
    return context


async def _leave(name: str, context: AbstractAsyncContextManager[None], error: BaseException | None) -> None:
    """Leave a context. It sees the error of the send, but neither its answer nor its own failure changes it."""
    try:
        await context.__aexit__(type(error) if error else None, error, error.__traceback__ if error else None)
    except (Exception, asyncio.CancelledError) as raised:
        if raised is error:
            return
        if isinstance(raised, asyncio.CancelledError) and is_being_cancelled():
            raise
        _log.exception("extension %r failed after the send", name)


def _keep(cancelled: asyncio.CancelledError, answer: object) -> None:
    """Have a cancellation say what had come of the send before it."""
    if not isinstance(answer, asyncio.CancelledError):
        keep_answer(cancelled, answer)
    elif handed_over := was_handed_over(answer):
        mark_cancelled(cancelled, "; ".join(answer.__notes__), handed_over=handed_over)
