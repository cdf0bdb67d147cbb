"""Encoding large e-mails: in a thread, so that others go on meanwhile, and one at a time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from postroom.plugin.cancellation import mark_cancelled

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

LARGE = 262_144
"""Size of e-mails from which it takes longer to encode them than others in the loop should wait."""


class Encoder:
    """Encodes the e-mails of all accounts of a `Postroom`.

    Large ones one after the other: each takes several times its size in memory, and threads that compute keep the
    loop's thread from the interpreter, each for as long as the first of them does.
    """

    def __init__(self) -> None:
        self._one_at_a_time = asyncio.Lock()

    async def run(self, encode: Callable[[], T], size: int) -> T:
        """Return what `encode` makes of e-mails of that size."""
        if size < LARGE:
            return encode()
        try:
            async with self._one_at_a_time:
                return await asyncio.to_thread(encode)
        except asyncio.CancelledError as cancelled:
            mark_cancelled(cancelled, "while the e-mail was encoded", handed_over=False)
            raise
