"""The embedded worker: it sends what the service accepts, until the service ends."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

    from postroom.client import Postroom

_log = logging.getLogger("postroom.gateway")

_AGAIN_AFTER = 5.0
"""Seconds until a worker that failed is started again."""


class EmbeddedWorker:
    """Runs a worker as long as it is entered, or none when others work."""

    def __init__(self, room: Postroom, *, work: bool) -> None:
        self._room = room
        self._work = work
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failure = ""

    async def __aenter__(self) -> Self:
        if self._work:
            self._task = asyncio.create_task(self._run(), name="postroom worker")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let what is under way end, and take nothing more."""
        self._stop.set()
        if self._task is not None:
            await self._task

    def state(self) -> str:
        """Return `ok`, `elsewhere` (this process does not work), or why nothing is being sent."""
        if self._task is None:
            return "elsewhere"
        return self._failure or ("stopped" if self._task.done() else "ok")

    async def _run(self) -> None:
        """Work, and go on after a failure: messages must not wait for a person who looks at a log."""
        while not self._stop.is_set():
            try:
                await self._room.work(stop=self._stop)
            except Exception as error:  # noqa: BLE001 - whatever it was, it is shown and the work goes on
                self._failure = f"{type(error).__name__}: {error}"
                _log.exception("the worker failed; it starts again in %s seconds", _AGAIN_AFTER)
                await _stopped_within(self._stop, _AGAIN_AFTER)
            else:
                self._failure = ""


async def _stopped_within(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return
