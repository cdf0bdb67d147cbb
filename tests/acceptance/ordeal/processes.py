"""Processes under trial: started, killed, frozen, and always ended."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from signal import Signals
from typing import Any, Self

HERE = Path(__file__).parent
STARTS_IN = 60.0


class Process:
    """A Python module of `ordeal` running with arguments; what it prints is read as lines of JSON."""

    log_name = ""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def start(self, module: str, *arguments: Any, before: tuple[str, ...] = (), **environment: Any) -> Process:
        return await self.run(f"ordeal.{module}", *arguments, before=before, log=module, **environment)

    async def run(
        self, module: str, *arguments: Any, log: str, before: tuple[str, ...] = (), **environment: Any
    ) -> Process:
        """Run any module; what it says on standard error goes to a log in the folder."""
        surroundings = {name: value for name, value in os.environ.items() if not name.startswith("POSTROOM_")}
        surroundings |= {"PYTHONPATH": str(HERE.parent), **environment}
        self.errors = open(self._folder / f"{log}.log", "ab")
        self._process = await asyncio.create_subprocess_exec(
            *before, sys.executable, "-m", module, *map(str, arguments),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=self.errors, env=surroundings,
            limit=2**24,
        )  # fmt: skip
        return self

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def code(self) -> int | None:
        """None while it runs."""
        return self._process.returncode

    async def line(self, timeout: float = STARTS_IN) -> Any:
        """What the next line it prints says; None once it has ended."""
        assert self._process.stdout
        text = await asyncio.wait_for(self._process.stdout.readline(), timeout)
        return json.loads(text) if text.endswith(b"\n") else None

    async def ask(self, text: str, timeout: float = STARTS_IN) -> Any:
        """Write a line to it, and return its answer."""
        assert self._process.stdin
        self._process.stdin.write(f"{text}\n".encode())
        return await self.line(timeout)

    async def rest(self) -> list[Any]:
        """Every whole line still to come."""
        found = []
        while (line := await self.line(100)) is not None:
            found.append(line)
        return found

    def signal(self, number: int | Signals) -> None:
        self._process.send_signal(number)

    async def kill(self) -> int:
        with suppress(ProcessLookupError):
            self._process.kill()
        return await self.ended()

    async def stop(self) -> int:
        with suppress(ProcessLookupError):
            self._process.terminate()
        return await self.ended()

    async def ended(self, timeout: float = 100) -> int:
        code = await asyncio.wait_for(self._process.wait(), timeout)
        self.errors.close()
        self._process._transport.close()  # type: ignore[attr-defined]  # nothing public closes its pipes
        return code

    def memory(self) -> int:
        """Resident memory in bytes."""
        pages = Path(f"/proc/{self.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def handles(self) -> tuple[int, int]:
        """Open file descriptors: how many that are no sockets, and how many that are."""
        sockets = [_target(handle).startswith("socket:") for handle in Path(f"/proc/{self.pid}/fd").iterdir()]
        return sockets.count(False), sockets.count(True)


def _target(handle: Path) -> str:
    try:
        return str(handle.readlink())
    except FileNotFoundError:  # closed since it was listed
        return ""


class Crew:
    """Starts processes for one configuration and ends what is left."""

    def __init__(self, config: Path) -> None:
        self.config = config
        self.members: list[Process] = []

    async def start(
        self, module: str, *arguments: int | str, before: tuple[str, ...] = (), **environment: Any
    ) -> Process:
        process = Process(self.config.parent)
        self.members.append(process)
        return await process.start(module, self.config, *arguments, before=before, **environment)

    async def worker(self, *arguments: str) -> Process:
        """A worker that has begun to work."""
        process = await self.start("worker", *arguments)
        assert await process.line() == "working", self.log("worker")
        return process

    async def command(
        self, name: str, *arguments: str, begins: str, before: tuple[str, ...] = (), **environment: Any
    ) -> Process:
        """Run `postroom NAME` itself, and wait until it says how it `begins`."""
        process = Process(self.config.parent)
        self.members.append(process)
        process.log_name = f"{name}-{len(self.members)}"
        given = (name, *arguments, "--config", self.config)
        await process.run("postroom", *given, log=process.log_name, before=before, **environment)
        async with asyncio.timeout(60):
            while begins not in self.log(process.log_name):
                assert process.code is None, self.log(process.log_name)
                await asyncio.sleep(0.02)
        return process

    def log(self, module: str) -> str:
        return (self.config.parent / f"{module}.log").read_text()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *failure: object) -> None:
        for process in self.members:
            if process.code is None:
                with suppress(ProcessLookupError):
                    process.signal(signal.SIGCONT)
                    process.signal(signal.SIGKILL)
            await process.ended()
