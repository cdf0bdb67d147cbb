"""The service as a process: started, stopped, killed, several at once, and slow clients cut."""

from __future__ import annotations

import asyncio
import http.client
import itertools
import json
import os
import signal
import socket
import sqlite3
import time
from collections.abc import AsyncIterator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn

from postroom.client import Postroom
from postroom.gateway.app import open_gateway
from postroom.gateway.serving import protocol
from postroom.gateway.serving.server import configured

if TYPE_CHECKING:
    from tests.integration.conftest import GatewayProcess, ServeGateway, ServeProcess


CONFIG = """
[accounts.box]
provider = "memory"
from = "desk@example.org"
[gateway]
rate_limit = []
"""


def one_email(number: int = 0) -> dict[str, Any]:
    return {"to": [{"email": "john@example.com"}], "subject": f"Number {number}", "html": "<p>Hi</p>"}


def stored(gateway: GatewayProcess, where: Any = "") -> set[str]:
    """The ids of messages in the outbox, read without the service."""
    connection = sqlite3.connect(gateway.folder / "postroom.db")
    try:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return {id_ for (id_,) in connection.execute(f"SELECT id FROM messages {where}")}
    finally:
        connection.close()


@pytest.mark.parametrize("answers", [1, 40, 150])
def test_a_killed_service_loses_nothing_it_accepted_and_repeats_make_no_second_message(
    serve_process: ServeProcess, answers: int
) -> None:
    gateway = serve_process(CONFIG, "--no-worker")
    accepted = {}

    def post(number: int) -> None:
        try:
            reply = gateway.post("/v1/communicate/email", one_email(number), headers={"Idempotency-Key": f"n{number}"})
        except (OSError, http.client.HTTPException):
            return  # killed in the middle; the client will repeat
        if reply.status == 202:
            accepted[number] = reply.json["id"]

    with ThreadPoolExecutor(200) as pool:
        for number in range(400):
            pool.submit(post, number)
        while len(accepted) < answers:
            time.sleep(0.001)
        assert gateway.stop(signal.SIGKILL) == -signal.SIGKILL
    before = dict(accepted)
    assert answers <= len(before) < 400
    assert set(before.values()) <= stored(gateway)
    again = serve_process(CONFIG, "--no-worker", folder=gateway.folder)
    gateway.process, gateway.port = again.process, again.port
    with ThreadPoolExecutor(50) as pool:
        list(pool.map(post, range(400)))
    assert len(accepted) == 400
    assert {number: accepted[number] for number in before} == before
    assert stored(gateway) == set(accepted.values())


def test_a_service_that_is_asked_to_end_answers_what_it_has_begun_and_ends_with_zero(
    serve_process: ServeProcess,
) -> None:
    gateway = serve_process(CONFIG)
    accepted, refused = [], []

    def post(number: int) -> None:
        try:
            accepted.append(gateway.post("/v1/communicate/email", one_email(number)).json["id"])
        except ConnectionRefusedError:
            refused.append(number)
        except ConnectionResetError:
            refused.append(number)  # was waiting to be taken when the socket closed

    with ThreadPoolExecutor(20) as pool:
        for number in range(300):
            pool.submit(post, number)
        while len(accepted) < 50:
            time.sleep(0.01)
        assert gateway.stop(signal.SIGTERM) == 0
    assert len(accepted) + len(refused) == 300
    assert set(accepted) <= stored(gateway)
    assert not stored(gateway, "WHERE status IN ('sending', 'in_doubt')")
    assert "Traceback" not in gateway.log


def test_a_request_whose_body_is_on_its_way_when_the_service_is_asked_to_end_is_answered(
    serve_process: ServeProcess,
) -> None:
    gateway = serve_process(CONFIG)
    body = json.dumps(one_email()).encode()
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=90) as client:
        head = f"POST /v1/communicate/email HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
        head += f"Expect: 100-continue\r\nAuth-token: {gateway.key}\r\n\r\n"
        client.sendall(head.encode())
        assert client.recv(65536).startswith(b"HTTP/1.1 100 ")  # it reads the body
        client.sendall(body[:10])
        gateway.process.send_signal(signal.SIGTERM)
        wait_until_nobody_listens(gateway.port)
        client.sendall(body[10:])
        answer = client.recv(65536)
    assert answer.startswith(b"HTTP/1.1 202 ")
    assert gateway.stop() == 0
    assert len(stored(gateway)) == 1


def test_without_a_worker_messages_wait_for_one_elsewhere(serve_gateway: ServeGateway) -> None:
    gateway = serve_gateway(CONFIG, work=False)
    id_ = gateway.post("/v1/communicate/email", one_email()).json["id"]
    assert gateway.get("/readyz").json["worker"] == "elsewhere"
    assert gateway.get(f"/v1/messages/{id_}").json["status"] == "queued"
    with_worker = serve_gateway(CONFIG, folder=gateway.folder)
    with_worker.key = gateway.key
    assert with_worker.settled(id_)["status"] == "sent"
    assert gateway.get(f"/v1/messages/{id_}").json["status"] == "sent"


@pytest.mark.system("proc")
def test_several_processes_share_one_socket_and_one_file_and_a_dead_one_is_replaced(
    serve_process: ServeProcess,
) -> None:
    gateway = serve_process(CONFIG, "--workers", "2")
    with ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(lambda n: gateway.post("/v1/communicate/email", one_email(n)), range(200)))
    assert {reply.status for reply in replies} == {202}
    assert len(stored(gateway)) == 200
    children = children_of(gateway.process.pid)
    assert len(children) == 2
    os.kill(children[0], signal.SIGKILL)
    for _ in range(900):
        now = children_of(gateway.process.pid)
        if len(now) == 2 and children[0] not in now:
            break
        time.sleep(0.1)
    assert len(now) == 2
    assert gateway.post("/v1/communicate/email", one_email()).status == 202
    assert gateway.stop() == 0


@pytest.mark.system("proc")
def test_processes_end_with_the_one_that_started_them_even_if_that_is_killed(serve_process: ServeProcess) -> None:
    gateway = serve_process(CONFIG, "--workers", "2")
    assert gateway.stop(signal.SIGKILL) == -signal.SIGKILL
    wait_until_nobody_listens(gateway.port)


def wait_until_nobody_listens(port: int) -> None:
    for _ in range(4500):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            return
        time.sleep(0.02)
    raise AssertionError("somebody still listens")


def children_of(pid: int) -> list[int]:
    """The serving processes: the resource tracker of multiprocessing is none."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def test_health_and_readiness_need_no_key_and_tell_of_store_and_worker(serve_gateway: ServeGateway) -> None:
    gateway = serve_gateway(CONFIG)
    assert gateway.get("/healthz", key=None).json == {"status": "ok"}
    assert gateway.get("/readyz", key=None).json == {"status": "ok", "outbox": "ok", "worker": "ok"}


@pytest.mark.parametrize(
    ("setting", "strangers", "callers"), [("open", 200, 200), ("key", 401, 200), ("closed", 404, 404)]
)
def test_the_numbers_are_for_whom_the_setting_says(
    serve_gateway: ServeGateway, setting: str, strangers: int, callers: int
) -> None:
    gateway = serve_gateway(f'{CONFIG}\nmetrics = "{setting}"', work=False)
    assert gateway.get("/metrics", key=None).status == strangers
    assert gateway.get("/metrics").status == callers
    assert ("/metrics" in gateway.get("/openapi.json").json["paths"]) is (setting != "closed")


class WithoutSignals(uvicorn.Server):
    """pytest has its own."""

    def capture_signals(self) -> nullcontext[None]:  # type: ignore[override]  # a context manager all the same
        return nullcontext()


@pytest.fixture
async def impatient(monkeypatch: pytest.MonkeyPatch, bare_surroundings: Path) -> AsyncIterator[int]:
    """The service in this process, with less patience."""
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.5)
    monkeypatch.setattr(protocol, "ANSWER_SECONDS", 0.5)
    room = Postroom(accounts={"box": {"provider": "memory", "from": "a@b.example"}})
    with socket.create_server(("127.0.0.1", 0)) as listening:
        async with open_gateway(room) as gateway:
            server = WithoutSignals(configured(gateway))
            task = asyncio.create_task(server.serve(sockets=[listening]))
            while not server.started:
                await asyncio.sleep(0.01)
            yield listening.getsockname()[1]
            server.should_exit = True
            await task


async def test_a_client_that_sends_a_byte_at_a_time_is_cut(impatient: int) -> None:
    await cut(impatient, b"", itertools.chain(b"GET /healthz HTTP/1.1\r\nX: ", itertools.repeat(120)))


async def test_a_client_that_says_nothing_is_cut(impatient: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", impatient)
    assert await reader.read() == b""
    writer.close()


async def test_a_client_that_keeps_its_connection_open_between_requests_is_not_cut_in_one(impatient: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", impatient)
    for _ in range(3):
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        await reader.readuntil(b"}")
        await asyncio.sleep(0.6)
    writer.close()


async def test_line_breaks_now_and_then_do_not_keep_a_connection(impatient: int) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    await cut(impatient, request, itertools.cycle(b"\r\n"))


async def cut(port: int, request: bytes, drip: Iterable[int]) -> None:
    """Send `request` at once and the rest byte by byte, without end, until the other side ends it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    ended = asyncio.create_task(reader.read())
    for byte in drip:
        writer.write(bytes([byte]))
        done, _ = await asyncio.wait([ended], timeout=0.05)
        if done:
            break
    with suppress(ConnectionError):
        await ended
    writer.close()


async def test_a_client_that_never_reads_its_answers_is_cut(impatient: int) -> None:
    client = socket.create_connection(("127.0.0.1", impatient))
    client.setblocking(False)
    request = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
    lost = False
    while not lost:
        try:
            client.send(request * 20)
        except BlockingIOError:
            pass
        except ConnectionError:
            lost = True
        await asyncio.sleep(0.02)
    client.close()
