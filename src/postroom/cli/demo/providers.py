"""Every provider that brings a demonstration: the sample messages, and whether they arrived as they were meant."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from postroom.cli.demo.results import described, is_sent, result_of
from postroom.cli.demo.samples import SENDER, samples
from postroom.cli.output import show_text
from postroom.cli.tables import show_table
from postroom.client import Postroom

if TYPE_CHECKING:
    from collections.abc import Sequence

    from postroom.plugin.demonstration import Arrival, Demonstration

COLUMNS = ("from", "to", "arrived", "besides", "by", "answered")
MISSING = "NOT AS MEANT"


async def show_providers(shown: Sequence[tuple[str, Demonstration]]) -> bool:
    """Run the demonstrations of providers, each by its name; return whether everything arrived as meant."""
    async with AsyncExitStack() as stack:
        for _, demonstration in shown:
            await stack.enter_async_context(demonstration.server())
        accounts = {
            _account(demonstration): {"provider": provider, "from": SENDER, **demonstration.account()}
            if demonstration.channel == "email"
            else {"provider": provider, **demonstration.account()}
            for provider, demonstration in shown
        }
        room = await stack.enter_async_context(Postroom(accounts=accounts))
        return all([await _show(room, demonstration) for _, demonstration in shown])


async def _show(room: Postroom, demonstration: Demonstration) -> bool:
    """Send one message, then the others as a batch, and show each beside what the server read of it."""
    messages = samples(demonstration.channel, _account(demonstration), demonstration.options)
    results = [await result_of(room, messages[0]), *await room.send_many(messages[1:])]
    arrived = demonstration.arrivals()
    rows = [
        (_found(demonstration.expected(message), arrived), described(result))
        for message, result in zip(messages, results, strict=True)
    ]
    strays = [(stray, "NOT MEANT") for stray in arrived]
    show_text(f"\n{demonstration.title}: one message, then a batch of two")
    show_table(COLUMNS, [(*arrival, said) for arrival, said in rows + strays])
    return not strays and all(arrival.content != MISSING for arrival, _ in rows) and all(map(is_sent, results))


def _account(demonstration: Demonstration) -> str:
    return demonstration.title.lower().replace(" ", "-")


def _found(wanted: Arrival, arrived: list[Arrival]) -> Arrival:
    """Take out of `arrived`, and return, what came as it was meant."""
    for at, arrival in enumerate(arrived):
        if arrival._replace(by="") == wanted:
            return arrived.pop(at)
    return wanted._replace(content=MISSING)
