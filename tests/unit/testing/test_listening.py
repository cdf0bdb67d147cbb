"""A recorder that closes leaves no connection behind, however far the connection has come."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import Iterator

import pytest

from postroom.testing.http import HttpRecorder
from postroom.testing.smtp import SmtpRecorder


@pytest.fixture(scope="module", autouse=True)
def what_others_left_is_not_looked_through() -> Iterator[None]:
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize("kind", [HttpRecorder, SmtpRecorder])
@pytest.mark.parametrize("steps", range(8))
def test_a_connection_is_closed_however_far_it_has_come(kind: type[HttpRecorder | SmtpRecorder], steps: int) -> None:
    async def connect_and_leave() -> None:
        async with kind() as server:
            with socket.create_connection(("127.0.0.1", server.port)):
                for _ in range(steps):  # of the loop that accepts it
                    await asyncio.sleep(0)

    asyncio.run(connect_and_leave())
    gc.collect()  # a socket that nobody closed warns, and a warning is an error
