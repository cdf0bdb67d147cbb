"""Send middleware: extensions around an attempt, entered and left by the core so that they hold across an await.

A pluggy wrapper around a coroutine ends before the coroutine runs, which is why these are entered by hand.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

from postroom.errors import PluginError, PostroomError

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

    @asynccontextmanager
    async def around(self, message: Message, account: str) -> AsyncIterator[None]:
        """Enter every context, send inside them, leave in reverse. One that cannot be entered stops the message."""
        entered = await self.enter(message, account)
        try:
            yield
        except BaseException as error:
            await self.leave(entered, error)
            raise
        await self.leave(entered, None)

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

    async def leave(self, entered: Entered, error: BaseException | None) -> None:
        """Leave contexts in reverse; each sees the error of the send."""
        for name, context in reversed(entered):
            await _leave(name, context, error)


async def _enter(
    name: str, function: Callable[..., Any], message: Message, account: str
) -> AbstractAsyncContextManager[None] | None:
    try:
        context: AbstractAsyncContextManager[None] | None = function(message=message, account=account)
        if context is not None:
            await context.__aenter__()
    except PostroomError:
        raise
    except Exception as error:
        raise PluginError(
            f"extension {name!r} failed before the send ({type(error).__name__}); nothing was sent. Fix it, or take "
            "it out of [plugins] extensions"
        ) from error
    return context


async def _leave(name: str, context: AbstractAsyncContextManager[None], error: BaseException | None) -> None:
    """Leave a context. It sees the error of the send, but neither its answer nor its own failure changes it."""
    try:
        await context.__aexit__(type(error) if error else None, error, error.__traceback__ if error else None)
    except Exception as raised:  # noqa: BLE001 - an extension may raise anything
        if raised is not error:
            _log.exception("extension %r failed after the send", name)
