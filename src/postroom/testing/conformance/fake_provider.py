"""The fake provider: a loopback server that plays scenarios and records what it receives."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from datetime import datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, TypeVar
from uuid import uuid4

from postroom.testing.conformance.rule import ConformanceError

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from contextlib import AbstractAsyncContextManager

    from postroom.testing.conformance.scenarios import Scenario

Lookup = Literal["found", "missing", "failed"]

SentT = TypeVar("SentT")
"""What a fake provider records of a message: a request, an e-mail with its envelope."""

DEADLINE = 10.0
"""Seconds the kit waits for what should come at once."""


class FakeProvider(ABC, Generic[SentT]):
    """A provider on 127.0.0.1, for one test: `with FakeAcme() as fake`.

    It runs in a thread of its own, so that a transport that blocks its event loop is still answered and can be
    measured. Derive from FakeHttpProvider or FakeSmtpProvider, or from this for another protocol.

    `sent` holds what carried a message and arrived whole, in order; `retry_after` is the wait in seconds that
    Scenario.RATE_LIMITED asks for, None when the protocol cannot say it.
    """

    retry_after: float | None = 17.0

    def __init__(self) -> None:
        self.sent: list[SentT] = []
        self.lookup_answers: list[str] = []
        """What lookups were answered, as text."""
        self._identifiers: dict[int, str] = {}
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._live()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait(DEADLINE)
        return self

    def __exit__(self, *failure: object) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(DEADLINE)

    @abstractmethod
    def server(self) -> AbstractAsyncContextManager[object]:
        """The loopback server; entered in a thread of its own."""

    @abstractmethod
    def play(self, scenario: Scenario, *, to: str = "") -> None:
        """From now on do `scenario` when a message comes; with `to`, only when it is to that address."""

    @abstractmethod
    def answer_after(self, seconds: float, *, to: str = "") -> None:
        """Answer that much later; with `to`, only messages to that address."""

    @property
    @abstractmethod
    def tries(self) -> int:
        """How often a client began to hand something over, successful or not."""

    @abstractmethod
    def texts(self, sent: SentT) -> list[str]:
        """Every text of `sent` in which a value of the message may stand, decoded."""

    @abstractmethod
    def recipients(self, sent: SentT) -> str:
        """The part of `sent` that names whom it is for."""

    @abstractmethod
    def credentials(self, sent: SentT) -> list[str]:
        """What `sent` carried to prove who sends, as it stood on the wire."""

    def answer_lookups(self, lookup: Lookup, identifier: str = "") -> None:
        """From now on answer what `reconcile` asks: a message `found` as `identifier`, `missing`, or an error."""
        del lookup, identifier
        raise ConformanceError(f"{type(self).__name__} answers no lookups; implement answer_lookups for reconcile")

    def holds(self, sent: SentT, field: str, value: object) -> bool:
        """Whether `value`, of the message's `field`, is in `sent`.

        Override for a field that the provider spells its own way; ask `super()` for the rest.
        """
        del field
        texts = self.texts(sent)
        return any(spelling in text for spelling in spellings(value) for text in texts)

    def identifier(self, sent: SentT) -> str | None:
        """The id that the success response to `sent` gave."""
        return self._identifiers.get(id(sent))

    def new_identifier(self) -> str:
        """An id as the provider makes them."""
        return str(uuid4())

    async def received(self, count: int = 1) -> None:
        """Wait until `count` whole messages came."""
        try:
            async with asyncio.timeout(DEADLINE):
                await self._there(self._arrived(count))
        except TimeoutError:
            raise ConformanceError(
                f"{len(self.sent)} of {count} messages reached the provider in {DEADLINE:g} s"
            ) from None

    def take(self, sent: SentT) -> None:
        """Remember what came; called in the server's thread."""
        self.sent.append(sent)
        self._news.set()

    async def _arrived(self, count: int) -> None:
        while len(self.sent) < count:
            self._news.clear()
            await self._news.wait()

    async def _there(self, work: Coroutine[Any, Any, None]) -> None:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    async def _live(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended, self._news = asyncio.Event(), asyncio.Event()
        try:
            async with self.server():
                self._started.set()
                await self._ended.wait()
        finally:
            self._started.set()


def spellings(value: object) -> list[str]:
    """The ways in which providers write a value."""
    if isinstance(value, datetime):
        stamp = int(value.timestamp())
        forms = ("%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y%m%d%H%M%S")
        return [str(stamp), format_datetime(value), *(value.strftime(form) for form in forms)]
    text = str(value).replace("\r\n", "\n")
    bare_number = text.removeprefix("+")
    return [bare_number if bare_number.isdigit() else text]
