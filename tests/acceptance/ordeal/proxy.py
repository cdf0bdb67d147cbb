"""A network between a process and its database that can be cut: nothing passes, or everything breaks off."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Self


class Proxy:
    """Passes what comes to its `port` on to another port, both on loopback."""

    def __init__(self, to: int) -> None:
        self._to = to
        self._passing = asyncio.Event()
        self._passing.set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def part(self) -> None:
        """Let nothing pass in either direction, as when a cable is pulled: nobody is told."""
        self._passing.clear()

    def join(self) -> None:
        """Let what waits pass."""
        self._passing.set()

    def drop(self) -> None:
        """End every connection that there is."""
        for task in self._tasks:
            task.cancel()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *failure: object) -> None:
        self._server.close()
        self.join()
        while self._tasks:
            self.drop()
            await asyncio.wait(list(self._tasks))

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        try:
            with suppress(OSError, asyncio.CancelledError):
                await self._join_up(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _join_up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._passing.wait()
        other_reader, other_writer = await asyncio.open_connection("127.0.0.1", self._to)
        there = asyncio.create_task(self._pass(reader, other_writer))
        back = asyncio.create_task(self._pass(other_reader, writer))
        try:
            await asyncio.wait([there, back], return_when=asyncio.FIRST_COMPLETED)
        finally:
            other_writer.transport.abort()
            for task in (there, back):
                task.cancel()
            await asyncio.wait([there, back])

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                await self._passing.wait()
                writer.write(data)
                await writer.drain()
