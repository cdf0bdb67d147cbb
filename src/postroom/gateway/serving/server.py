"""Running the service: one process, or several that share its socket."""

from __future__ import annotations

import asyncio
import gc
import logging
import multiprocessing
import signal
import socket
import sys
from functools import partial
from ipaddress import ip_address
from typing import TYPE_CHECKING

import uvicorn

from postroom.client import Postroom
from postroom.config.load import load_config
from postroom.gateway.access.storage import open_access_storage
from postroom.gateway.app import Gateway
from postroom.gateway.serving.protocol import Connection
from postroom.gateway.serving.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LOOPBACK = "127.0.0.1"
_BACKLOG = 2048
_GARBAGE = 20_000
"""Objects between two collections: the usual 700 are less than a handful of requests make."""

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

    Raises ConfigError for what is wrong in the configuration; accounts are looked at where messages are sent.
    """
    config = load_config(config_file)
    if work:
        Postroom(config).validate()
    async with open_access_storage(config) as access_storage:
        return any(key.revoked_at is None for key in access_storage.all_keys())


def bound(host: str, port: int) -> socket.socket:
    """Return a listening socket; raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.create_server((host, port), family=family, backlog=_BACKLOG, reuse_port=False)
    listening.set_inheritable(True)
    return listening


def run(config_file: Path | None, listening: socket.socket, *, work: bool, processes: int) -> None:
    """Serve until SIGTERM or SIGINT, and end what is under way first."""
    if processes == 1:
        run_process(config_file, work, [listening])
        return
    log_to_streams()
    Supervisor(partial(run_process, config_file, work, [listening]), processes).run()


def run_process(config_file: Path | None, work: bool, sockets: Sequence[socket.socket]) -> None:
    """Run one process of the service."""
    log_to_streams()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _told_twice)
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GARBAGE)
    loop_factory = uvicorn.Config("", log_config=None).get_loop_factory()
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(_serve(config_file, work, list(sockets)))


async def _serve(config_file: Path | None, work: bool, sockets: list[socket.socket]) -> None:
    server = uvicorn.Server(configured(Gateway(Postroom.from_config(config_file), work=work)))
    if parent := multiprocessing.parent_process():  # its end, even by kill -9, is the end of this process too
        asyncio.get_running_loop().add_reader(parent.sentinel, setattr, server, "should_exit", True)
    await server.serve(sockets=sockets)


def configured(gateway: Gateway) -> uvicorn.Config:
    """Return the settings of uvicorn for the service."""
    return uvicorn.Config(
        gateway.application(),
        http=Connection,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        timeout_graceful_shutdown=_GRACE,
        proxy_headers=bool(gateway.settings.trusted_proxies),
        forwarded_allow_ips=list(gateway.settings.trusted_proxies),
    )


def log_to_streams() -> None:
    """Write a line for each request to standard output, everything else to standard error."""
    access = logging.getLogger("postroom.access")
    access.propagate = False
    access.setLevel(logging.INFO)
    access.addHandler(logging.StreamHandler(sys.stdout))
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("postroom").setLevel(logging.INFO)


def _told_twice(number: int, _frame: object) -> None:
    """Do nothing: uvicorn raises the signal it ended for once more when all is done, and the process ends with 0."""
    del number
