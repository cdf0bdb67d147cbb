"""`python -m ordeal.enqueuer postroom.toml CALLERS`: enqueue without end; print each id once it was acknowledged."""

from __future__ import annotations

import asyncio
import os
import sys

from postroom import Email, Postroom


async def main(config: str, callers: str) -> None:
    async with Postroom.from_config(config) as room:

        async def caller(name: int) -> None:
            number = 0
            while True:
                number += 1
                message = Email(to="ann@example.org", subject=f"{name}.{number}", text="x" * 1000)
                receipt = await room.enqueue(message)
                os.write(1, f'"{receipt.id}"\n'.encode())

        await asyncio.gather(*(caller(name) for name in range(int(callers))))


asyncio.run(main(*sys.argv[1:]))
