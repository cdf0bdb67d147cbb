"""A storage whose answers come late, or not at all: what was asked for is done all the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


class Holding:
    """Keeps the first answer of one method that says anything back until it may `go_on`.

    `reached` is set once the storage has done what it was asked for.
    """

    def __init__(self, store: Any, method: str) -> None:
        self._store = store
        self._method = method
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        return self._held(found) if name == self._method else found

    def _held(self, method: Callable[..., Any]) -> Callable[..., Any]:
        async def held(*arguments: Any) -> Any:
            answer = await method(*arguments)
            if answer and not self.reached.is_set():
                self.reached.set()
                await self.go_on.wait()
            return answer

        return held


class Failing:
    """Raises an error in place of what the named method would do, as often as there are errors."""

    def __init__(self, store: Any, method: str, *errors: Exception) -> None:
        self._store = store
        self._method = method
        self._errors = list(errors)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        return self._failing(found) if name == self._method else found

    def _failing(self, method: Callable[..., Any]) -> Callable[..., Any]:
        async def failing(*arguments: Any) -> Any:
            if self._errors:
                raise self._errors.pop(0)
            return await method(*arguments)

        return failing


class Unhurried:
    """Gives everybody else a go before each answer, as a storage behind a network does."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        async def later(*arguments: Any, **named: Any) -> Any:
            for _ in range(10):
                await asyncio.sleep(0)
            return await method(*arguments, **named)

        return later
