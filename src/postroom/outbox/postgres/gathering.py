"""Group commit: what many ask for at the same time shares one transaction, which waits for the disk once."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

WhatT = TypeVar("WhatT")
AnswerT = TypeVar("AnswerT")

MOST_SIZE = 4_194_304
"""Bytes of several callers in one transaction."""


LOCKED_AT_ONCE = 2
"""Callers at a time of those who wait for others' locks."""


class RowsLocked(Exception):
    """Somebody else's transaction has locked what is to be written, and may last; `error` is what a caller hears."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(slots=True, eq=False)
class _Waiting(Generic[WhatT, AnswerT]):
    what: Sequence[WhatT]
    size: int
    answers: asyncio.Future[Sequence[AnswerT]]


class Gatherer(Generic[WhatT, AnswerT]):
    """Gives `write` what callers bring meanwhile, together, and each caller the answers to their own.

    Whoever comes alone waits for nobody. `at_once` transactions may run at the same time: while one waits for the
    disk, the next is filled. When one that several share fails, each caller's is made by itself; and where `write`
    raises RowsLocked, aside, so that nobody else waits for it, and again until `locked_for` seconds are over.
    """

    def __init__(
        self,
        write: Callable[[Sequence[WhatT]], Awaitable[Sequence[AnswerT]]],
        *,
        at_once: int,
        locked_for: float = 0.0,
    ) -> None:
        self._write = write
        self._at_once = at_once
        self._locked_for = locked_for
        self._locked = asyncio.Semaphore(LOCKED_AT_ONCE)
        self._aside: set[asyncio.Task[None]] = set()
        self._waiting: list[_Waiting[WhatT, AnswerT]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._running = 0

    async def add(self, what: Sequence[WhatT], *, size: int = 0) -> Sequence[AnswerT]:
        """Have `what` written; returns one answer for each. `size` is how many bytes it takes."""
        waiting = _Waiting[WhatT, AnswerT](what, size, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._running < self._at_once:
            self._running += 1
            task = asyncio.create_task(self._run())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await waiting.answers

    async def _run(self) -> None:
        # Counted here, and not by tasks that are done: they are found to be so a moment after they have looked for the
        # last time, and whoever came in between would be left to whoever comes next.
        try:
            while together := self._next():
                await self._write_together(together)
        finally:
            self._running -= 1

    def _next(self) -> list[_Waiting[WhatT, AnswerT]]:
        taken: list[_Waiting[WhatT, AnswerT]] = []
        size = 0
        while self._waiting and size < MOST_SIZE:
            waiting = self._waiting.pop(0)
            if not waiting.answers.done():  # whoever was cancelled meanwhile wants nothing any more
                taken.append(waiting)
                size += waiting.size
        return taken

    async def _write_together(self, together: Sequence[_Waiting[WhatT, AnswerT]]) -> None:
        try:
            answers = iter(await self._write([one for waiting in together for one in waiting.what]))
        except RowsLocked:
            for waiting in together:
                task = asyncio.create_task(self._write_once_free(waiting))
                self._aside.add(task)
                task.add_done_callback(self._aside.discard)
            return
        except Exception as error:  # noqa: BLE001 - whoever waits must get it
            if len(together) == 1:
                _fail(together[0], error)
                return
            for waiting in together:
                await self._write_together([waiting])
            return
        except BaseException:
            for waiting in together:
                waiting.answers.cancel()
            raise
        for waiting in together:
            found = [next(answers) for _ in waiting.what]
            if not waiting.answers.done():
                waiting.answers.set_result(found)

    async def _write_once_free(self, waiting: _Waiting[WhatT, AnswerT]) -> None:
        until = time.monotonic() + self._locked_for
        while not waiting.answers.done():  # in turns: who waits for a lock keeps nobody here waiting for long
            try:
                async with self._locked:
                    answers = await self._write(waiting.what)
            except RowsLocked as locked:
                if time.monotonic() >= until:
                    _fail(waiting, locked.error)
            except Exception as error:  # noqa: BLE001 - as above
                _fail(waiting, error)
            except BaseException:
                waiting.answers.cancel()
                raise
            else:
                if not waiting.answers.done():
                    waiting.answers.set_result(answers)


def _fail(waiting: _Waiting[WhatT, AnswerT], error: Exception) -> None:
    if not waiting.answers.done():
        waiting.answers.set_exception(error)
