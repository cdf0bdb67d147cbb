"""The HTTP recorder records requests to the byte, and answers or breaks off as it is scripted."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Literal

import aiohttp
import pytest
import trustme

from postroom.testing.http import Answer, Drop, Hang, HttpRecorder


async def exchange(server: HttpRecorder, sent: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        writer.write(sent)
        return await reader.read()
    finally:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


POST = (
    b"POST /a?b=c HTTP/1.1\r\nHost: x\r\nX-Two: 1\r\nx-two: 2\r\nContent-Length: 7\r\nConnection: close\r\n\r\nq=1&r=+"
)


async def test_a_request_is_recorded_to_the_byte() -> None:
    async with HttpRecorder() as server:
        server.answer(Answer(201, {"sid": "SM1"}, {"X-Extra": "yes"}))
        answer = await exchange(server, POST)
    [request] = server.requests
    assert (request.method, request.path, request.query, request.body) == ("POST", "/a", "b=c", b"q=1&r=+")
    assert request.form() == [("q", "1"), ("r", " ")]
    assert request.headers["x-two"] == "1, 2"
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 201 Created\r\n")
    assert b"X-Extra: yes" in head
    assert b"Content-Type: application/json" in head
    assert body == b'{"sid": "SM1"}'


async def test_a_chunked_body_is_put_together() -> None:
    async with HttpRecorder() as server:
        head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        await exchange(server, head + b'3;x=y\r\n{"a\r\n4\r\n": 1\r\n1\r\n}\r\n0\r\nTrailer: t\r\n\r\n')
    assert server.requests[0].json() == {"a": 1}


async def test_an_absolute_target_is_read_as_a_proxy_gets_it() -> None:
    async with HttpRecorder() as server:
        await exchange(server, b"GET http://api.example.org/x?y HTTP/1.1\r\nConnection: close\r\n\r\n")
    [request] = server.requests
    assert (request.target, request.path, request.query) == ("http://api.example.org/x?y", "/x", "y")


async def test_steps_are_taken_in_order_and_the_last_one_repeats_on_a_kept_connection() -> None:
    async with HttpRecorder() as server, aiohttp.ClientSession() as session:
        server.answer(Answer(500), Answer(404), Answer(204))
        statuses = []
        for _ in range(4):
            async with session.post(server.url, data=b"x") as response:
                statuses.append(response.status)
    assert statuses == [500, 404, 204, 204]
    assert server.connections == 1


async def test_a_computed_answer_sees_the_request() -> None:
    async with HttpRecorder() as server:
        server.answer_with(lambda request: Answer(body=request.body[::-1]))
        assert (await exchange(server, POST)).endswith(b"\r\n\r\n+=r&1=q")


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize(
    ("point", "begun", "recorded"), [("accept", 0, 0), ("headers", 1, 0), ("request", 1, 1), ("answer", 1, 1)]
)
async def test_a_drop_closes_at_its_point(
    point: Literal["accept", "headers", "request", "answer"], begun: int, recorded: int, reset: bool
) -> None:
    async with HttpRecorder() as server:
        server.answer(Drop(point, reset=reset))
        if reset:
            with pytest.raises(ConnectionResetError):
                await exchange(server, POST)
        else:
            answer = await exchange(server, b"" if point == "accept" else POST)
            assert answer.endswith(b'{"half": ') if point == "answer" else answer == b""
    assert (server.connections, server.begun, len(server.requests)) == (1, begun, recorded)


async def test_a_body_that_never_comes_is_begun_and_not_recorded() -> None:
    async with HttpRecorder() as server:
        server.answer(Drop("headers"))
        await exchange(server, POST.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
    assert (server.begun, server.requests) == (1, [])


@pytest.mark.parametrize(("point", "recorded"), [("accept", 0), ("request", 1)])
async def test_a_hang_reads_and_never_answers(point: Literal["accept", "request"], recorded: int) -> None:
    async with HttpRecorder() as server:
        server.answer(Hang(point))
        asking = asyncio.create_task(exchange(server, POST))
        await server.received(recorded)
        answered, _ = await asyncio.wait([asking], timeout=0.05)
        asking.cancel()
    assert not answered
    assert len(server.requests) == recorded


async def test_a_kept_connection_ends_before_a_step_at_accept() -> None:
    async with HttpRecorder() as server, aiohttp.ClientSession() as session:
        server.answer(Answer(), Drop("accept"))
        async with session.post(server.url, data=b"x") as response:
            assert response.headers["Connection"] == "close"
        with pytest.raises(aiohttp.ClientError):
            await session.post(server.url, data=b"y")
    assert server.begun == 1


async def test_received_waits_for_the_requests() -> None:
    async with HttpRecorder() as server:
        server.answer(Hang("request"))
        clients = [asyncio.create_task(exchange(server, POST)) for _ in range(2)]
        await server.received(2)
        assert len(server.requests) == 2
    await asyncio.gather(*clients, return_exceptions=True)


async def test_nothing_stays_behind_when_it_closes() -> None:
    before = asyncio.all_tasks()
    async with HttpRecorder() as server:
        server.answer(Answer(delay=60))
        client = asyncio.create_task(exchange(server, POST))
        await server.received(1)
    await asyncio.gather(client, return_exceptions=True)
    assert asyncio.all_tasks() == before
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", server.port))


async def test_it_speaks_tls() -> None:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with HttpRecorder(tls=context) as server:
        assert server.url.startswith("https://")
        async with aiohttp.ClientSession() as session, session.post(server.url, data=b"x", ssl=trusting) as response:
            assert response.status == 200
        server.answer(Drop("request", reset=True))
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ClientError):
                await session.post(server.url, data=b"y", ssl=trusting)
    assert [request.body for request in server.requests] == [b"x", b"y"]


@pytest.mark.parametrize(
    ("answer", "left"),
    [
        (Answer(201, {"id": "A1", "more": "x" * 40}), b'{"id": "A1"'),
        (Answer(202, b"", {"X-Message-Id": "A1"}), b"HTTP/1.1 202 Accepted"),
    ],
)
async def test_a_given_answer_breaks_off_in_its_middle(answer: Answer, left: bytes) -> None:
    async with HttpRecorder() as server:
        server.answer(answer, Drop("answer", of=answer))
        whole = await exchange(server, POST)
        half = await exchange(server, POST)
    assert left in half
    assert whole.startswith(half)
    assert len(half) < len(whole) - 5
