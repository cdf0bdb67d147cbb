"""postroom's outbox against one written by hand: `python tests/benchmarks/outbox_throughput.py [MESSAGES]`.

Messages a second, accepted durably (by one caller, and by 100 at once), and drained 50 at a time into a list, both
in one process. The rounds of both alternate in one run, and the ratios count. The garbage collector rests meanwhile:
both lists keep every message, which no real transport does. Prints a table; asserts nothing.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

from outbox_reference import HandWrittenOutbox

from postroom import Email, Postroom

ROUNDS, AT_ONCE, CALLERS = 5, 50, 100
TEXT = ("x" * 70 + "\n") * 14


async def by(callers: int, messages: Iterable[Any], accept: Callable[[Any], Awaitable[object]]) -> float:
    """Seconds until every message was accepted by its caller."""
    left = iter(messages)

    async def caller() -> None:
        for message in left:
            await accept(message)

    begun = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return time.perf_counter() - begun


async def ours(folder: Path, count: int) -> dict[str, float]:
    emails = [Email(to=f"ann{n}@example.org", subject=f"Number {n}", text=TEXT) for n in range(count)]
    account = {"provider": "memory", "from": "post@example.org", "concurrency": AT_ONCE}
    async with Postroom(accounts={"box": account}, outbox={"url": f"sqlite:///{folder}/ours.db"}) as room:
        await room.enqueue(emails[0])
        await room.work(until_empty=True)
        found = await accepted(emails, room.enqueue)
        begun = time.perf_counter()
        await room.work(until_empty=True)
        found["drained"] = count / (time.perf_counter() - begun)
        assert len(room.memory) == count + 1
    return found


async def by_hand(folder: Path, count: int) -> dict[str, float]:
    taken: list[dict[str, Any]] = []

    async def deliver(message: dict[str, Any]) -> str:
        taken.append(message)
        return str(len(taken))

    messages = [{"to": f"ann{n}@example.org", "subject": f"Number {n}", "text": TEXT} for n in range(count)]
    outbox = HandWrittenOutbox(folder / "reference.db")
    found = await accepted(messages, outbox.enqueue)
    begun = time.perf_counter()
    await outbox.drain(deliver, AT_ONCE)
    found["drained"] = count / (time.perf_counter() - begun)
    assert len(taken) == count
    outbox.close()
    return found


async def accepted(messages: list[Any], accept: Callable[[Any], Awaitable[object]]) -> dict[str, float]:
    alone = len(messages) // 10
    return {
        "accepted one by one": alone / await by(1, messages[:alone], accept),
        f"accepted, {CALLERS} at once": (len(messages) - alone) / await by(CALLERS, messages[alone:], accept),
    }


def main(count: int) -> None:
    rounds: list[tuple[dict[str, float], dict[str, float]]] = []
    for _ in range(ROUNDS):
        gc.enable()
        gc.collect()
        gc.disable()
        with tempfile.TemporaryDirectory() as folder:
            rounds.append((asyncio.run(ours(Path(folder), count)), asyncio.run(by_hand(Path(folder), count))))
    print(f"{'messages a second':<26}{'postroom':>10}{'by hand':>10}{'ratio':>8}   (median of {ROUNDS})")
    for work in rounds[0][0]:
        mine = statistics.median(ours_[work] for ours_, _ in rounds)
        reference = statistics.median(hand[work] for _, hand in rounds)
        ratio = statistics.median(ours_[work] / hand[work] for ours_, hand in rounds)
        print(f"{work:<26}{mine:>10,.0f}{reference:>10,.0f}{ratio:>8.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5000)
