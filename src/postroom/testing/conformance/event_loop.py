"""Event loop: a send never blocks it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from postroom.testing.conformance.base import Conformance, FakeT, SettingsT, expect
from postroom.testing.conformance.rule import rule

if TYPE_CHECKING:
    from collections.abc import Awaitable


LONGEST_STALL = 0.25
"""Seconds a loop may stand still during a send, on a busy machine; a blocking send stands at least ANSWER_AFTER."""

ANSWER_AFTER = 0.4
ROUNDS = 8
"""Tries: other work on the machine may stall a loop in some of them, a send that blocks does in each."""


class EventLoop(Conformance[FakeT, SettingsT]):
    """Other tasks run on the same loop."""

    @rule(
        "await the network: use HttpTransport.request or an async client, and run what blocks (an SDK, a file, a key "
        "to parse) in asyncio.to_thread"
    )
    async def test_the_event_loop_is_never_blocked(self) -> None:
        stalls = []
        for _ in range(ROUNDS):
            stalls.append(await self._stall())
            if stalls[-1] <= LONGEST_STALL:
                return
        expect(
            min(stalls) <= LONGEST_STALL,
            f"while the provider took {ANSWER_AFTER:g} s to answer, the event loop stood still for {min(stalls):.2f} s",
        )

    async def _stall(self) -> float:
        with self.fake_provider() as fake:
            fake.answer_after(ANSWER_AFTER)
            return await longest_stall(self._sent(fake))

    async def _sent(self, fake: FakeT) -> None:
        async with self.opened(fake) as transport:
            await self.accepted(transport, self.message())


async def longest_stall(work: Awaitable[object]) -> float:
    """Seconds between two iterations of the event loop, the longest while `work` goes on."""
    longest = 0.0
    task = asyncio.ensure_future(work)
    last = time.monotonic()
    while not task.done():
        await asyncio.wait([task], timeout=0.005)
        now = time.monotonic()
        longest, last = max(longest, now - last), now
    await task
    return longest
