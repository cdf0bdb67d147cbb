"""Workers and gateways of the demonstration: processes of one configuration, started, killed and ended."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process, create_subprocess_exec
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from postroom.errors import OutboxError

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

STARTS_IN = 60.0
"""Seconds for a process to say that it runs."""

_LISTENING = re.compile(r"listening on http://127\.0\.0\.1:(\d+)")


class Member:
    """A process, and what it has said on standard error; `port` where it listens."""

    def __init__(self, name: str, process: Process) -> None:
        self.name = name
        self.port = 0
        self.said: list[str] = []
        self._process = process
        self._reading = asyncio.create_task(self._read())
        self._changed = asyncio.Event()

    async def until(self, words: str) -> str:
        """Return the first line with these words. Raises OutboxError when it ends, or says nothing like it, before."""
        with suppress(TimeoutError):
            async with asyncio.timeout(STARTS_IN):
                while not self._reading.done():
                    for line in self.said:
                        if words in line:
                            return line
                    self._changed.clear()
                    await self._changed.wait()
        raise OutboxError(f"{self.name} did not start: {' '.join(self.said).strip()}")

    async def kill(self) -> None:
        """End it with `kill -9`, in the middle of whatever it does."""
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        await self._reading

    async def _read(self) -> None:
        assert self._process.stderr is not None
        while line := await self._process.stderr.readline():
            self.said.append(line.decode(errors="replace"))
            self._changed.set()
        self._changed.set()


class Fleet:
    """Runs `postroom` as processes with one configuration, and ends what is left of them."""

    def __init__(self, config: Path) -> None:
        self._config = config
        self._members: list[Member] = []
        self._environment = {name: text for name, text in os.environ.items() if not name.startswith("POSTROOM_")}

    async def worker(self, name: str) -> Member:
        """Start a worker."""
        member = await self._start(name, "worker")
        await member.until("delivering")
        return member

    async def gateway(self, name: str) -> Member:
        """Start a gateway that only accepts."""
        member = await self._start(name, "serve", "--no-worker", "--port", "0")
        found = _LISTENING.search(await member.until("listening on"))
        assert found is not None
        member.port = int(found[1])
        return member

    async def answer(self, *arguments: str) -> str:
        """Run a command to its end, and return what it prints."""
        process = await create_subprocess_exec(
            *self._command(*arguments), stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env=self._environment
        )
        out, said = await process.communicate()
        if process.returncode:
            raise OutboxError(f"{' '.join(arguments)}: {said.decode(errors='replace').strip()}")
        return out.decode()

    def said(self) -> list[str]:
        """What all have said on standard error, a line each."""
        return [f"{member.name}: {line}" for member in self._members for line in member.said]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every process at once."""
        for member in self._members:
            await member.kill()

    async def _start(self, name: str, *arguments: str) -> Member:
        process = await create_subprocess_exec(
            *self._command(*arguments), stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE, env=self._environment
        )
        member = Member(name, process)
        self._members.append(member)
        return member

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "postroom", "--config", str(self._config), *arguments]
