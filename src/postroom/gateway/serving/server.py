"""The server: uvicorn in one process, or in several that share its socket."""

from __future__ import annotations

import asyncio
import gc
import logging
import multiprocessing
import socket
import sys
from contextlib import contextmanager
from functools import partial
from ipaddress import ip_address
from typing import TYPE_CHECKING

import uvicorn

from postroom.client import Postroom
from postroom.config.load import load_config
from postroom.gateway.access.factory import open_access_storage
from postroom.gateway.app import open_gateway
from postroom.gateway.serving.protocol import Connection
from postroom.gateway.serving.signals import ShutdownSignals
from postroom.gateway.serving.supervisor import Supervisor
from postroom.terminal import printable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

    from postroom.gateway.app import Gateway

    ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]

LOOPBACK = "127.0.0.1"
_BACKLOG = 2048
_GARBAGE = 20_000
"""Objects between two collections: the usual 700 are less than a handful of requests make."""

_SWITCH_SECONDS = 0.001
"""For which a thread may keep the interpreter while others wait for it. An answer takes some twenty turns of the loop's
thread and the outbox's; with Python's 5 ms, each behind a thread that encodes, it would take 100 ms."""

_GRACE = 30
"""Seconds for requests under way to end when the service is asked to."""


def is_loopback(host: str) -> bool:
    """Whether only programs on this machine can reach `host`."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def has_keys(config_file: Path | None, *, work: bool) -> bool:
    """Whether anybody holds a key that is good.

    Raises ConfigError for what is wrong in the configuration; accounts are looked at where messages are sent. Raises
    OutboxError when nothing can be stored, as in an outbox that was moved.
    """
    config = load_config(config_file)
    if work:
        Postroom(config).validate()
    async with open_access_storage(config.outbox) as storage:
        await storage.ping()
        return any(key.revoked_at is None for key in await storage.list_keys())


def bound(host: str, port: int) -> socket.socket:
    """Return a listening socket; raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.create_server((host, port), family=family, backlog=_BACKLOG, reuse_port=False)
    # Connections inherit it. asyncio sets it only for sockets that name their protocol, which an accepted one does not;
    # without it an answer written in two pieces waits 40 ms for the client's delayed acknowledgement.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listening.set_inheritable(True)
    return listening


def run(
    config_file: Path | None, listening: socket.socket, signals: ShutdownSignals, *, work: bool, processes: int
) -> None:
    """Serve until a signal to end, and end what is under way first."""
    log_to_streams()
    if processes == 1:
        _run_process(config_file, listening, signals, work=work)
    else:
        Supervisor(partial(_run_child, config_file, listening, work=work), processes, signals).run()


def _run_child(config_file: Path | None, listening: socket.socket, *, work: bool) -> None:
    """Run one of several processes; until it owns its signals, one that is told to end just ends."""
    signals = ShutdownSignals()
    log_to_streams()
    _run_process(config_file, listening, signals, work=work)


def _run_process(config_file: Path | None, listening: socket.socket, signals: ShutdownSignals, *, work: bool) -> None:
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GARBAGE)
    sys.setswitchinterval(_SWITCH_SECONDS)
    loop_factory = uvicorn.Config("", log_config=None).get_loop_factory()
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(_serve(config_file, listening, signals, work=work))


async def _serve(config_file: Path | None, listening: socket.socket, signals: ShutdownSignals, *, work: bool) -> None:
    if parent := multiprocessing.parent_process():  # its end, even by kill -9, is the end of this process too
        loop, sentinel = asyncio.get_running_loop(), parent.sentinel

        def orphaned() -> None:
            loop.remove_reader(sentinel)
            signals.stop()

        loop.add_reader(sentinel, orphaned)
    async with open_gateway(Postroom.from_config(config_file), work=work) as gateway:
        await Server(configured(gateway), signals).serve(sockets=[listening])


class Server(uvicorn.Server):
    """uvicorn's server, ended by signals that are owned by the process and not by it.

    uvicorn owns them only while it serves, and raises each once more when it is done.
    """

    def __init__(self, config: uvicorn.Config, signals: ShutdownSignals) -> None:
        super().__init__(config)
        self._signals = signals

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        with self._signals.passed_to(self.handle_exit):
            yield


def configured(gateway: Gateway) -> uvicorn.Config:
    """Return the settings of uvicorn for the service."""
    return uvicorn.Config(
        gateway.app,
        http=Connection,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=_GRACE,
        proxy_headers=bool(gateway.settings.trusted_proxies),
        forwarded_allow_ips=list(gateway.settings.trusted_proxies),
    )


class PrintableFormatter(logging.Formatter):
    """Writes a record so that no name or text in it forges a line, or gives orders to the terminal that shows it."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        return printable(super().formatMessage(record), lines=False)

    def formatException(self, ei: ExceptionInfo) -> str:  # noqa: N802 - as above
        return printable(super().formatException(ei))


def log_to_streams() -> None:
    """Write a line for each request to standard output, everything else to standard error."""
    access = logging.getLogger("postroom.access")
    access.propagate = False
    access.setLevel(logging.INFO)
    access.addHandler(logging.StreamHandler(sys.stdout))
    others = logging.StreamHandler()
    others.setFormatter(PrintableFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[others])
    logging.getLogger("postroom").setLevel(logging.INFO)
