"""What a direct send costs beyond calling the transport itself: `python tests/benchmarks/core_overhead.py`.

CPU time per message through the `memory` provider, the best of several rounds, against the transport's own `send` in
the same run. Prints a table; asserts nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from postroom import Email, Postroom
from postroom.builtin.memory import Mailbox, MemoryEmail, MemorySettings
from postroom.plugin import Resources

ROUNDS = 9
MESSAGES = 3_000


async def best(send: Callable[[Email], Awaitable[object]], clear: Callable[[], None], email: Email) -> float:
    """Microseconds of CPU per message."""
    found = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        for _ in range(MESSAGES):
            await send(email)
        found.append((time.process_time() - begun) / MESSAGES * 1e6)
        clear()
    return min(found)


async def main() -> None:
    email = Email(to="ann@example.org", subject="Hello", text="x" * 1000, from_="post@example.org")
    resources = Resources()
    transport = MemoryEmail("box", MemorySettings(), resources)
    async with Postroom(accounts={"box": {"provider": "memory"}}) as room:
        through_room = await best(room.send, room.memory.clear, email)
        transport_alone = await best(transport.send, resources.shared(Mailbox).clear, email)
    await resources.close()
    print(f"{'way':<16}{'µs CPU a message':>18}")
    print(f"{'transport alone':<16}{transport_alone:>18.1f}")
    print(f"{'Postroom.send':<16}{through_room:>18.1f}")
    print(f"{'the core adds':<16}{through_room - transport_alone:>18.1f}")


asyncio.run(main())
