"""`python -m ordeal.trier postroom.toml [BYTES]`: enqueue one message for each line of input; print what came of each.

BYTES bounds the size a file may grow to (RLIMIT_FSIZE) until a line says `room`.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys

from postroom import Email, Postroom
from postroom.errors import PostroomError


async def main(config: str, most: str = "") -> None:
    if most:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(most), resource.RLIM_INFINITY))
    async with Postroom.from_config(config) as room:
        while line := (await asyncio.to_thread(sys.stdin.readline)).strip():
            if line == "room":
                resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            os.write(1, f"{json.dumps(await tried(room))}\n".encode())


async def tried(room: Postroom) -> dict[str, str]:
    try:
        receipt = await room.enqueue(Email(to="ann@example.org", subject="Hello", text="x" * 4000))
    except PostroomError as error:
        return {"error": error.code, "text": str(error)}
    return {"id": receipt.id}


asyncio.run(main(*sys.argv[1:]))
