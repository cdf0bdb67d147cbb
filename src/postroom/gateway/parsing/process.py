"""The parsing process: takes large bodies off the event loop's process, so that they keep nobody else waiting."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
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
from postroom.gateway.parsing.pieces import receive, receive_body, send, send_body

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

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

    async def single(self, body: Sequence[bytes], as_form: bool, read: Read) -> Email | Sms:
        """Return the message that a body holds, which is in pieces as it came. Raises ApiError."""
        if _is_large(body):
            return await self._process.run(parse_single, body, as_form, read, self._settings)
        return parse_single(b"".join(body), as_form, read, self._settings)

    async def batch(self, body: Sequence[bytes], as_form: bool, name: str, read: Read) -> list[Email | Sms | ApiError]:
        """Return the messages that a body holds, or what is wrong with each; as `single` otherwise.

        Raises ApiError for what is no batch.
        """
        if _is_large(body):
            return await self._process.run(parse_batch, body, as_form, name, read, self._settings)
        found: list[Email | Sms | ApiError] = []
        cost = 0
        for item in batch_items(parse_fields(b"".join(body), as_form=as_form), name, self._settings):
            cost += _MESSAGE_COST + addresses_of(item)
            if cost > AT_ONCE * _MESSAGE_COST:
                cost = 0
                await asyncio.sleep(0)
            found.append(parse_or_error(item, read, self._settings))
        return found

    async def aclose(self) -> None:
        """End the parsing process, if there is one."""
        await self._process.aclose()


def _is_large(body: Sequence[bytes]) -> bool:
    return sum(map(len, body)) > LARGEST_HERE


class ParsingProcess:
    """One process for one of the gateway's, started with the first large body.

    One is enough: large bodies wait for each other, and nobody else for them. A thread would not do, since Python's
    parser of JSON keeps the interpreter to itself.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "postroom parsing")  # speaks with the process, for one body at a time
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None

    async def run(self, parse: Callable[..., T], body: Sequence[bytes], *arguments: object) -> T:
        """Return what `parse` makes there of the body, as one, and the arguments.

        Raises what it raises, or ApiError (503) when the process died.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._ask, parse, body, arguments)

    async def aclose(self) -> None:
        """End the process, once it has done what it was asked for."""
        self._thread.submit(self._end)
        await asyncio.to_thread(self._thread.shutdown)

    def _ask(self, parse: Callable[..., T], body: Sequence[bytes], arguments: tuple[object, ...]) -> T:
        try:
            connection = self._connection or self._start()
            send(connection, (parse, arguments))
            send_body(connection, body)
            failed, answer = receive(connection), receive(connection)
        except (EOFError, OSError):
            self._end()
            raise ApiError(
                503, "busy", "The body could not be read now; send it again.", headers={"retry-after": "1"}
            ) from None
        if failed:
            raise answer
        parsed: T = answer
        return parsed

    def _start(self) -> Connection:
        context = multiprocessing.get_context("spawn")
        self._connection, other_end = context.Pipe()
        self._process = context.Process(target=_parse_all, args=(other_end,), name="postroom parsing", daemon=True)
        with other_end:  # the process has one of its own: when it ends, this end hears of it
            self._process.start()
        return self._connection

    def _end(self) -> None:
        if self._connection is not None and self._process is not None:
            self._connection.close()
            self._process.join()
            self._process.close()
        self._connection = self._process = None


def _parse_all(connection: Connection) -> None:
    """Parse what comes until the other end is closed."""
    _begin()
    while True:
        try:
            parse, arguments = receive(connection)
            body = receive_body(connection)
        except EOFError:
            return
        try:
            failed, answer = False, parse(body, *arguments)
        except Exception as error:  # noqa: BLE001 - it is raised where it was asked for
            if not isinstance(error, ApiError):
                error.add_note(f"in the parsing process:\n{traceback.format_exc()}")
            failed, answer = True, error
        send(connection, failed)
        send(connection, answer)


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
