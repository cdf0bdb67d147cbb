from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import Envelope


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
    """`postroom serve` as a process of its own, and one key for it."""

    process: subprocess.Popen[str]
    folder: Path
    port: int
    key: str
    key_id: str

    def call(
        self, method: str, path: str, body: Any = None, *, key: str | None = "", headers: dict[str, str] | None = None
    ) -> Reply:
        """Send one request; `body` as JSON unless it is bytes, with the gateway's key unless `key` says otherwise."""
        sent = {"Auth-token": key or self.key} if key is not None else {}
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        if data is not None:
            sent["Content-Type"] = "application/json"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
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
        for _ in range(400):
            shown: dict[str, Any] = self.get(f"/v1/messages/{message_id}").json
            if shown["status"] not in but_not:
                return shown
            time.sleep(0.05)
        raise AssertionError(f"still {shown['status']}: {shown}")

    def another_key(self, *options: str) -> str:
        """Make one more key, as `postroom keys create` does with these options."""
        return _made_key(self.folder, *options)[0]

    def stop(self, signal_number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal_number)
        return self.process.wait(30)

    @property
    def log(self) -> str:
        """Everything it has said so far."""
        return (self.folder / "serve.out").read_text() + (self.folder / "serve.err").read_text()


ServeGateway = Callable[..., Gateway]


@pytest.fixture(scope="module")
def serve_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeGateway]:
    """Start `postroom serve` with a configuration; ended with the module."""
    started: list[Gateway] = []

    def start(config: str, *arguments: str, folder: Path | None = None, env: dict[str, str] | None = None) -> Gateway:
        here = folder or tmp_path_factory.mktemp("gateway")
        (here / "postroom.toml").write_text(config)
        key, key_id = _made_key(here)
        with (here / "serve.out").open("w") as out, (here / "serve.err").open("w") as err:
            process = subprocess.Popen(
                [sys.executable, "-W", "error", "-m", "postroom", "serve", "--port", "0", *arguments],
                cwd=here, stdout=out, stderr=err, text=True, env={**surroundings(), **(env or {})},
            )  # fmt: skip
        gateway = Gateway(process, here, 0, key, key_id)
        started.append(gateway)
        gateway.port = _port_of(gateway)
        return gateway

    yield start
    for gateway in started:
        gateway.stop()


def surroundings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("POSTROOM_")}


def _made_key(folder: Path, *options: str) -> tuple[str, str]:
    command = [sys.executable, "-m", "postroom", "keys", "create", "--json", *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=surroundings(), check=True)
    made = json.loads(done.stdout)
    return made["key"], made["id"]


def _port_of(gateway: Gateway) -> int:
    """Wait for the line that says where it listens, and until it answers there."""
    for _ in range(600):
        found = re.search(r"listening on http://.*:(\d+)", gateway.log)
        if found:
            port = int(found[1])
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=30):
                return port
        assert gateway.process.poll() is None, gateway.log
        time.sleep(0.05)
    raise AssertionError(gateway.log)


@dataclass
class Mailbox:
    """What an SMTP server (aiosmtpd) on this machine took."""

    port: int
    envelopes: list[Envelope]

    def wait(self, count: int = 1) -> list[Envelope]:
        for _ in range(400):
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
