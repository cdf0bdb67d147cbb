"""Tokens: what an account must fetch before it may send, fetched once for all who need it and kept until it expires."""

from __future__ import annotations

import asyncio
from contextvars import copy_context
from typing import TYPE_CHECKING, Protocol

from postroom.errors import DeliveryError, Outcome, PostroomError, ProviderUnreachable
from postroom.plugin.cancellation import mark_cancelled
from postroom.plugin.time_limit import ends_at, limit_from_now

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from postroom.plugin.settings import AccountSettings

EARLY = 0.1
"""The part of a token's life, at its end, in which it is fetched anew: it must not expire on its way."""

EARLIEST = 60.0
"""Seconds that this is at most."""


class Owner(Protocol):
    """The transport that a token is for, an `HttpTransport`."""

    account: str

    @property
    def settings(self) -> AccountSettings:
        """The account's settings, whose `timeout` the token has."""

    def hide(self, secret: str) -> None:
        """Take the token out of texts."""


class Token:
    """The token of one account.

    `fetch` asks the provider, with `transport.ask`, and returns the token and the seconds it is good for. It is awaited
    once however many messages wait, ends with the last of them, and has `settings.timeout`; each message waits no
    longer than its own attempt has. What it raises reaches all who wait, is not kept, and is never unknown. The token
    itself is taken out of every text.
    """

    def __init__(self, transport: Owner, fetch: Callable[[], Awaitable[tuple[str, float]]]) -> None:
        self._transport = transport
        self._fetch = fetch
        self._text = ""
        self._good_until = 0.0
        self._fetching: asyncio.Task[str] | None = None
        self._waiting = 0

    async def get(self) -> str:
        """Return the token, fetched if there is none that is good. Raises DeliveryError: nothing was sent."""
        if self._text and asyncio.get_running_loop().time() < self._good_until:
            return self._text
        if self._fetching is None:
            self._fetching = self._begin()
        task = self._fetching
        self._waiting += 1
        try:
            async with limit_from_now(self._transport.settings.timeout):
                return await asyncio.shield(task)
        except TimeoutError as error:
            raise self._failed(f"none came within {self._transport.settings.timeout:g} s") from error
        except asyncio.CancelledError as cancelled:
            what = f"{self._transport.account}: cancelled before the message was handed over"
            mark_cancelled(cancelled, what, handed_over=False)
            raise
        finally:
            self._waiting -= 1
            if not self._waiting and not task.done():
                task.cancel()
                self._fetching = None

    def forget(self, token: str) -> None:
        """Fetch another one next time: the provider refused `token`. One that was fetched since then is kept."""
        if token == self._text:
            self._text = ""

    def _begin(self) -> asyncio.Task[str]:
        context = copy_context()
        context.run(ends_at.set, None)  # it is fetched for all, not for the attempt that was the first to ask
        task = asyncio.get_running_loop().create_task(self._fetched(), name="postroom token", context=context)
        task.add_done_callback(self._ended)
        return task

    async def _fetched(self) -> str:
        started = asyncio.get_running_loop().time()
        try:
            async with limit_from_now(self._transport.settings.timeout):
                text, seconds = await self._fetch()
        except TimeoutError as error:
            raise self._failed(f"none came within {self._transport.settings.timeout:g} s") from error
        except DeliveryError as error:
            if error.outcome is Outcome.UNKNOWN:
                raise self._failed("the answer to the request for it did not come") from error
            raise
        except PostroomError:
            raise
        except Exception as error:
            raise self._failed(f"{type(error).__name__} in the plugin") from error
        self._transport.hide(text)
        self._text = text
        self._good_until = started + seconds - min(EARLIEST, seconds * EARLY)
        return text

    def _ended(self, task: asyncio.Task[str]) -> None:
        if self._fetching is task:
            self._fetching = None
        if not task.cancelled():
            task.exception()  # read it, or asyncio logs it where nobody waits any more

    def _failed(self, why: str) -> ProviderUnreachable:
        return ProviderUnreachable(
            f"{self._transport.account}: no token could be had ({why}); nothing was sent, try again later", detail=why
        )
