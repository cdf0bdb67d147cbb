"""Extensions around a hand-over and after it: driven by the core, so that they hold across an await.

A pluggy wrapper around a coroutine ends before the coroutine runs, which is why these are entered by hand.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

from postroom.errors import PluginError, PostroomError

if TYPE_CHECKING:
    from postroom.events import Event
    from postroom.messages import Message
    from postroom.receipts import Receipt

_log = logging.getLogger("postroom.plugins")

Named = Sequence[tuple[str, Callable[..., Any]]]
Opened = list[tuple[str, AbstractAsyncContextManager[None]]]


class SendMiddleware:
    """The `postroom_around_send` of every extension, in the order of the configuration."""

    def __init__(self, functions: Named = ()) -> None:
        self._functions = functions

    def __bool__(self) -> bool:
        return bool(self._functions)

    @asynccontextmanager
    async def around(self, message: Message, account: str) -> AsyncIterator[None]:
        """Enter every gate, hand over, leave them in reverse. A gate that fails to open stops the message."""
        opened = await self.enter(message, account)
        try:
            yield
        except BaseException as error:
            await self.leave(opened, error)
            raise
        await self.leave(opened, None)

    async def enter(self, message: Message, account: str) -> Opened:
        """Open every gate for `message`; raises PostroomError, with those already open left again, if one fails."""
        opened: Opened = []
        try:
            for name, function in self._functions:
                gate = await _open(name, function, message, account)
                if gate is not None:
                    opened.append((name, gate))
        except BaseException as error:
            await self.leave(opened, error)
            raise
        return opened

    async def leave(self, opened: Opened, error: BaseException | None) -> None:
        """Leave gates in reverse; each sees the error of the send."""
        for name, gate in reversed(opened):
            await _close(name, gate, error)


class Observers:
    """The `postroom_on_event` of every extension: told after the fact, never in a message's way."""

    def __init__(self, functions: Named = ()) -> None:
        self._functions = functions

    def __bool__(self) -> bool:
        return bool(self._functions)

    def tell(self, event: Event, receipt: Receipt) -> None:
        for name, function in self._functions:
            try:
                function(event=event, receipt=receipt)
            except Exception:  # noqa: BLE001 - an extension may raise anything
                _log.exception("extension %r failed to observe %s", name, event.type)


async def _open(
    name: str, function: Callable[..., Any], message: Message, account: str
) -> AbstractAsyncContextManager[None] | None:
    try:
        gate: AbstractAsyncContextManager[None] | None = function(message=message, account=account)
        if gate is not None:
            await gate.__aenter__()
    except PostroomError:
        raise
    except Exception as error:
        raise PluginError(
            f"extension {name!r} failed before the send ({type(error).__name__}); nothing was sent. Fix it, or take "
            "it out of [plugins] extensions"
        ) from error
    return gate


async def _close(name: str, gate: AbstractAsyncContextManager[None], error: BaseException | None) -> None:
    """Leave a gate. It sees the error of the send, but neither its answer nor its own failure changes it."""
    try:
        await gate.__aexit__(type(error) if error else None, error, error.__traceback__ if error else None)
    except Exception as raised:  # noqa: BLE001 - an extension may raise anything
        if raised is not error:
            _log.exception("extension %r failed after the send", name)
