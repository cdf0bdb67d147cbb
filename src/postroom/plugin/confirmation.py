"""The word of the outbox that a message may go out: awaited immediately before its first byte.

The core awaits it before `send`. A transport in which messages wait for a connection first says `confirms = True` and
awaits it itself, in the moment in which the provider could take the message: until then a message whose worker dies
was surely not sent, and nobody need wonder.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Confirm = Callable[[], Awaitable[None]]
"""Awaited immediately before a message is handed over; raises Withdrawn when it must not be any more."""


class Withdrawn(Exception):
    """The message must not be handed over any more, and was not: it belongs to somebody else."""


_confirm: ContextVar[Confirm | None] = ContextVar("postroom_confirm", default=None)


def confirmation() -> Confirm | None:
    """Return what to await before the message of this `send` goes out; None when nothing need be asked.

    It raises Withdrawn when the message must not be sent any more: let that through, having sent nothing.
    """
    return _confirm.get()


@contextmanager
def confirming(confirm: Confirm | None) -> Iterator[None]:
    """Let `confirmation` return `confirm` meanwhile, in this task and those that it starts."""
    token = _confirm.set(confirm)
    try:
        yield
    finally:
        _confirm.reset(token)
