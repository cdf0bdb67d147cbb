"""The parsing process: takes large bodies off the event loop's process, so that they keep nobody else waiting."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, TypeVar

from postroom.gateway.http.errors import ApiError
from postroom.gateway.parsing.bodies import (
    addresses_of,
    batch_items,
    parse_batch,
    parse_fields,
    parse_or_error,
    parse_single,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from postroom.config.gateway import GatewaySettings
    from postroom.gateway.parsing.bodies import Read
    from postroom.messages import Email, Sms

T = TypeVar("T")

LARGEST_HERE = 262_144
"""Bytes of a body that are parsed in the event loop's own process.

The costliest of that size, names without end, takes some 30 ms; what is larger would keep every other caller waiting,
and what is smaller is parsed sooner than it is handed to another process.
"""


AT_ONCE = 50
"""Items of a batch that are looked at before other requests may go on."""


_MESSAGE_COST = 10
"""What a message costs beside its recipients, in recipients."""


class MessageParser:
    """Parses bodies into messages: small ones here, large ones in the parsing process."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._process = ParsingProcess()

    async def single(self, body: bytes, as_form: bool, read: Read) -> Email | Sms:
        """Return the message a body holds. Raises ApiError."""
        if len(body) > LARGEST_HERE:
            return await self._process.run(parse_single, body, as_form, read, self._settings)
        return parse_single(body, as_form, read, self._settings)

    async def batch(self, body: bytes, as_form: bool, name: str, read: Read) -> list[Email | Sms | ApiError]:
        """Return the messages a body holds, or what is wrong with each. Raises ApiError for what is no batch."""
        if len(body) > LARGEST_HERE:
            return await self._process.run(parse_batch, body, as_form, name, read, self._settings)
        found: list[Email | Sms | ApiError] = []
        cost = 0
        for item in batch_items(parse_fields(body, as_form=as_form), name, self._settings):
            cost += _MESSAGE_COST + addresses_of(item)
            if cost > AT_ONCE * _MESSAGE_COST:
                cost = 0
                await asyncio.sleep(0)
            found.append(parse_or_error(item, read, self._settings))
        return found

    async def aclose(self) -> None:
        """End the parsing process, if there is one."""
        await self._process.aclose()


class ParsingProcess:
    """One process for one of the gateway's, started with the first large body.

    One is enough: large bodies wait for each other, and nobody else for them. A thread would not do, since Python's
    parser of JSON keeps the interpreter to itself.
    """

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None

    async def run(self, parse: Callable[..., T], *arguments: object) -> T:
        """Return what `parse` returns there. Raises what it raises, or ApiError (503) when the process died."""
        pool = self._pool = self._pool or ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _begin)
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, parse, *arguments)
        except BrokenProcessPool:
            if self._pool is pool:
                self._pool = None
            raise ApiError(
                503, "busy", "The body could not be read now; send it again.", headers={"retry-after": "1"}
            ) from None

    async def aclose(self) -> None:
        """End the process, once it has done what it was asked for."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await asyncio.to_thread(pool.shutdown)


_NICE = 10
"""How far the process stands back where there are fewer processors than work: a large body can wait, others cannot."""


def _begin() -> None:
    """Leave signals to the parent, whose end is the end of this process too, even by kill -9; and stand back."""
    if sys.platform != "win32":
        os.nice(_NICE)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="postroom parent", daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(0)
