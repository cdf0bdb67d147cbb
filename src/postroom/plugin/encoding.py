"""Encoding large e-mails: in a thread, so that others go on meanwhile, and one at a time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from postroom.large_work import one_at_a_time
from postroom.plugin.cancellation import mark_cancelled

if TYPE_CHECKING:
    from collections.abc import Callable

    from postroom.messages import Email

T = TypeVar("T")

LARGE = 262_144
"""Weight of e-mails from which it takes longer to encode them than others in the loop should wait."""

_HEADERS_WEIGH = 10
"""Times as much as what is not folded word by word."""


def weight_of(email: Email) -> int:
    """How much there is to encode: its size, in which headers weigh more."""
    return email.size + (_HEADERS_WEIGH - 1) * email.header_size


class Encoder:
    """Encodes the e-mails of all accounts of a `Postroom`.

    Large ones one after the other: each takes several times its size in memory, and threads that compute keep the
    loop's thread from the interpreter, each for as long as the first of them does.
    """

    def __init__(self) -> None:
        self._one_at_a_time = asyncio.Lock()

    async def run(self, encode: Callable[[], T], weight: int) -> T:
        """Return what `encode` makes of e-mails of that weight."""
        if weight < LARGE:
            return encode()
        try:
            async with self._one_at_a_time:
                return await asyncio.to_thread(one_at_a_time, encode)
        except asyncio.CancelledError as cancelled:
            mark_cancelled(cancelled, "while the e-mail was encoded", handed_over=False)
            raise
