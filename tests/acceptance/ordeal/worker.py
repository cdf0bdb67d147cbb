"""`python -m ordeal.worker postroom.toml [until-empty|until-settled]`.

Works until SIGTERM, until nothing is due, or until nothing waits or is in anybody's hands.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys

from postroom import Postroom
from postroom.outbox.states import WAITING
from postroom.receipts import Status


async def main(config: str, *wishes: str) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with Postroom.from_config(config) as room:
        watch = asyncio.create_task(_until_settled(room, stop)) if "until-settled" in wishes else None
        os.write(1, b'"working"\n')
        await room.work(stop=stop, until_empty="until-empty" in wishes)
        if watch:
            await watch


async def _until_settled(room: Postroom, stop: asyncio.Event) -> None:
    while not stop.is_set():
        states = (await room.outbox.stats()).states
        if not any(states.get(status) for status in WAITING | {Status.SENDING}):
            stop.set()
        await asyncio.sleep(0.1)


logging.basicConfig(level=logging.INFO, format="%(process)d %(asctime)s %(name)s %(levelname)s %(message)s")
asyncio.run(main(*sys.argv[1:]))
