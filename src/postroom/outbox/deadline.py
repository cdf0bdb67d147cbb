"""The deadline of whoever waits for the store: a request over HTTP waits for a lock no longer than its caller would."""

from __future__ import annotations

import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_deadline: ContextVar[float] = ContextVar("postroom_store_deadline", default=float("inf"))


@contextmanager
def stored_within(seconds: float) -> Iterator[None]:
    """Within it, what another process keeps from being stored for so long raises OutboxError, and is not stored later.

    Counted from here, however many writes follow each other. What has nobody to wait for is stored after that too.
    """
    token = _deadline.set(min(_deadline.get(), time.monotonic() + seconds))
    try:
        yield
    finally:
        _deadline.reset(token)


def deadline() -> float:
    """Return until when this task waits for a lock, by the monotonic clock; infinity when it does not say."""
    return _deadline.get()
