"""Group commit: whoever asks is answered, at whatever moment the transaction before it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from postroom.outbox.postgres.gathering import Gatherer


@pytest.mark.parametrize("at_once", [1, 2, 3])
@pytest.mark.parametrize("callers", [1, 2, 3, 7])
async def test_who_asks_in_the_moment_that_a_transaction_ends_is_answered(at_once: int, callers: int) -> None:
    async def write(what: Sequence[int]) -> Sequence[int]:
        await asyncio.sleep(0)
        return what

    gatherer = Gatherer[int, int](write, at_once=at_once)

    async def caller(number: int) -> list[int]:
        return [answer for each in range(20) for answer in await gatherer.add([20 * number + each])]

    async with asyncio.timeout(30):
        found = await asyncio.gather(*map(caller, range(callers)))
    assert found == [[*range(20 * number, 20 * number + 20)] for number in range(callers)]
