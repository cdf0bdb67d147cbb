"""Listening sockets of the recorders: closed so that no connection is left half made."""

from __future__ import annotations

import asyncio

_STEPS = 5
"""Iterations of the event loop from the moment asyncio accepts a connection until its protocol has begun, and one."""


async def stop_listening(server: asyncio.Server) -> None:
    """Take no more connections, and return when those that were accepted are made, so that they can be closed too.

    Were the server closed at once, asyncio would drop the socket of a connection that it accepted a moment ago.
    """
    loop = asyncio.get_running_loop()
    for listening in server.sockets:
        loop.remove_reader(listening)
    for _ in range(_STEPS):
        await asyncio.sleep(0)
    server.close()
