"""Time limit of one attempt: all of its exchanges together have it, not each of them."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar

ends_at: ContextVar[float | None] = ContextVar("postroom_attempt_ends_at", default=None)
"""When the attempt under way must have ended, by the loop's clock; the core sets it around `send`."""


def limit_from_now(seconds: float) -> asyncio.Timeout:
    """Return a context that ends within `seconds`, and no later than the attempt that it is part of."""
    own = asyncio.get_running_loop().time() + seconds
    attempt = ends_at.get()
    return asyncio.timeout_at(own if attempt is None else min(own, attempt))
