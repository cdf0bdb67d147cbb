"""What integration tests share: the gateway in this process or in one of its own, and a real SMTP server."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPMessage
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import pytest
import uvicorn
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import Envelope
from tests.conftest import CommandLine, Finished
from tests.postgres_server import fresh_schema

from postroom.client import Postroom
from postroom.gateway.app import open_gateway
from postroom.gateway.serving.server import bound, configured

G = TypeVar("G", bound="Gateway")


@dataclass(frozen=True)
class Reply:
    """An answer of the service."""

    status: int
    headers: HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Gateway:
    """A client of a running service, with one key for it; `folder` has its configuration and its outbox."""

    folder: Path
    port: int
    key: str
    key_id: str
    url: str

    def call(
        self, method: str, path: str, body: Any = None, *, key: str | None = "", headers: dict[str, Any] | None = None
    ) -> Reply:
        """Send one request; `body` as JSON unless it is bytes, with the gateway's key unless `key` says otherwise."""
        sent = {"Auth-token": key or self.key} if key is not None else {}
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        if data is not None:
            sent["Content-Type"] = "application/json"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=90)
        try:
            connection.request(method, path, data, {**sent, **(headers or {})})
            answer = connection.getresponse()
            return Reply(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def get(self, path: str, **named: Any) -> Reply:
        return self.call("GET", path, **named)

    def post(self, path: str, body: Any = None, **named: Any) -> Reply:
        return self.call("POST", path, body, **named)

    def settled(self, message_id: str, *, but_not: tuple[str, ...] = ("queued", "sending")) -> dict[str, Any]:
        """Wait until a message has moved on, and return what is known of it."""
        for _ in range(4500):
            shown: dict[str, Any] = self.get(f"/v1/messages/{message_id}").json
            if shown["status"] not in but_not:
                return shown
            time.sleep(0.02)
        raise AssertionError(f"still {shown['status']}: {shown}")

    def keys(self, *arguments: str) -> Finished:
        """Do what `postroom keys …` does, beside the service."""
        done = CommandLine(self.folder, surroundings())("keys", *arguments)
        assert done.code == 0, done.err
        return done

    def another_key(self, *options: str) -> str:
        """Make one more key, as `postroom keys create` does with these options."""
        key: str = self.keys("create", "--json", *options).json["key"]
        return key

    def stored(self) -> bytes:
        """All that its outbox holds, as it lies there."""
        if self.url.startswith("sqlite"):
            return b"".join(file.read_bytes() for file in self.folder.glob("postroom.db*"))
        return asyncio.run(_rows_of(self.url)).encode()

    def stop(self) -> object:
        """End it; what it has begun is answered first."""
        raise NotImplementedError

    @property
    def log(self) -> str:
        """Everything it has said so far."""
        raise NotImplementedError


async def _rows_of(url: str) -> str:
    connection = await asyncpg.connect(url.partition("?")[0])
    try:
        schema = url.rpartition("=")[2]
        tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = $1", schema)
        rows = [await connection.fetch(f'SELECT row_to_json(t)::text FROM {schema}."{name}" t') for (name,) in tables]
        return "\n".join(text for found in rows for (text,) in found)
    finally:
        await connection.close()


class LocalGateway(Gateway):
    """The service in a thread of this process, on a socket and a file of its own."""

    def start(self, *, work: bool) -> None:
        self._log: list[str] = []
        self._ready = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=[self._serve(work=work)], name=f"gateway {self.port}")
        self._thread.start()
        assert self._ready.wait(90), self.log

    def stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(setattr, self._server, "should_exit", True)
            self._thread.join()

    @property
    def log(self) -> str:
        return "\n".join(self._log)

    async def _serve(self, *, work: bool) -> None:
        self._loop = asyncio.get_running_loop()
        with self._logging(), bound("127.0.0.1", self.port) as listening:
            self.port = listening.getsockname()[1]
            async with open_gateway(Postroom.from_config(self.folder / "serve.toml"), work=work) as gateway:
                self._server = ReadyServer(configured(gateway), self._ready)
                await self._server.serve(sockets=[listening])

    @contextmanager
    def _logging(self) -> Iterator[None]:
        """Keep what is logged by the thread of this service, as `postroom serve` would write it."""
        handler = LinesOf(threading.get_ident(), self._log)
        access, others = logging.getLogger("postroom.access"), logging.getLogger("postroom")
        access.setLevel(logging.INFO)
        for logger in (access, others):
            logger.addHandler(handler)
        access.propagate = False
        try:
            yield
        finally:
            for logger in (access, others):
                logger.removeHandler(handler)


class ReadyServer(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, config: uvicorn.Config, ready: threading.Event) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready.set()


class LinesOf(logging.Handler):
    """Collects what one thread logs."""

    def __init__(self, thread: int, lines: list[str]) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter())
        self._thread, self._lines = thread, lines

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self._lines.append(self.format(record))


ServeGateway = Callable[..., Gateway]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Try a module that says so with the outbox of the gateway in SQLite's file, and in PostgreSQL."""
    if "serve_gateway" in metafunc.fixturenames and getattr(metafunc.module, "ON_EVERY_ENGINE", False):
        metafunc.parametrize("serve_gateway", ["sqlite", "postgresql"], indirect=True, scope="module")


def made_gateway(kind: type[G], folder: Path, config: str, url: str = "") -> G:
    """Return a client of a service that is still to be started, with a key; `url` is the outbox's, else a file."""
    # The second is for a service that has another folder than commands have.
    url = url or f"sqlite:///{folder}/postroom.db"
    for name in ("postroom.toml", "serve.toml"):
        (folder / name).write_text(f'{config}\n[outbox]\nurl = "{url}"\n')
    gateway = kind(folder, 0, "", "", url)
    made = gateway.keys("create", "--json").json
    gateway.key, gateway.key_id = made["key"], made["id"]
    return gateway


@pytest.fixture(scope="module")
def serve_gateway(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeGateway]:
    """Start the service in this process, over a real socket; ended with the module.

    Those of one folder share an outbox.
    """
    started: list[LocalGateway] = []
    schemas: dict[Path, str] = {}
    on_postgresql = getattr(request, "param", "sqlite") == "postgresql"

    def start(config: str, *, work: bool = True, folder: Path | None = None) -> LocalGateway:
        folder = folder or tmp_path_factory.mktemp("gateway")
        url = schemas.setdefault(folder, fresh_schema()) if on_postgresql else ""
        gateway = made_gateway(LocalGateway, folder, config, url)
        started.append(gateway)
        gateway.start(work=work)
        return gateway

    with pytest.MonkeyPatch.context() as environment:
        if on_postgresql:
            environment.setenv("POSTROOM_SECRET_KEY", "k" * 32)  # there is no file of keys that machines share
        yield start
        for gateway in started:
            gateway.stop()


class GatewayProcess(Gateway):
    """`postroom serve` as a process of its own."""

    process: subprocess.Popen[str]

    def start(self, *arguments: str) -> None:
        with (self.folder / "serve.out").open("w") as out, (self.folder / "serve.err").open("w") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "error", "-m", "postroom", "serve", "--port", "0", *arguments],
                cwd=self.folder, stdout=out, stderr=err, text=True, env=surroundings(),
            )  # fmt: skip
        self.port = self._listening()

    def stop(self, signal_number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal_number)
        return self.process.wait(90)

    @property
    def log(self) -> str:
        return (self.folder / "serve.out").read_text() + (self.folder / "serve.err").read_text()

    def _listening(self) -> int:
        """Wait for the line that says where it listens; from then on the socket takes connections."""
        for _ in range(4500):
            if found := re.search(r"listening on http://.*:(\d+)\n", self.log):
                return int(found[1])
            assert self.process.poll() is None, self.log
            time.sleep(0.02)
        raise AssertionError(self.log)


ServeProcess = Callable[..., GatewayProcess]


@pytest.fixture(scope="module")
def serve_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeProcess]:
    """Start `postroom serve` with a configuration, as a process of its own; ended with the module."""
    started: list[GatewayProcess] = []

    def start(config: str, *arguments: str, folder: Path | None = None) -> GatewayProcess:
        gateway = made_gateway(GatewayProcess, folder or tmp_path_factory.mktemp("gateway"), config)
        started.append(gateway)
        gateway.start(*arguments)
        return gateway

    yield start
    for gateway in started:
        gateway.stop()


def surroundings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("POSTROOM_")}


@dataclass
class Mailbox:
    """What an SMTP server (aiosmtpd) on this machine took."""

    port: int
    envelopes: list[Envelope]

    def wait(self, count: int = 1) -> list[Envelope]:
        for _ in range(1800):
            if len(self.envelopes) >= count:
                return self.envelopes
            time.sleep(0.05)
        raise AssertionError(f"{len(self.envelopes)} of {count} messages came")


class _Keeper:
    def __init__(self, envelopes: list[Envelope]) -> None:
        self._envelopes = envelopes

    async def handle_DATA(self, server: object, session: object, envelope: Envelope) -> str:
        self._envelopes.append(envelope)
        return f"250 2.0.0 Ok: queued as {len(self._envelopes):08X}"


@pytest.fixture(scope="module")
def smtp_server() -> Iterator[Mailbox]:
    """A real SMTP server, for the module."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    box = Mailbox(port, [])
    controller = Controller(_Keeper(box.envelopes), hostname="127.0.0.1", port=port)
    controller.start()
    yield box
    controller.stop()


@pytest.fixture
def mailbox(smtp_server: Mailbox) -> Mailbox:
    """The real SMTP server, empty."""
    smtp_server.envelopes.clear()
    return smtp_server
