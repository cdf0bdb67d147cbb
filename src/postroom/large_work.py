"""Work on large messages, in threads: one of them at a time, whatever it is and for whichever account.

Threads that compute share the interpreter with the event loop, each for as long as its longest call: with four, an
answer that needs the interpreter three times waits for a tenth of a second.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")

_locks = [threading.Lock()]


def large_work_lock() -> threading.Lock:
    """Return what the thread holds that works on a large message. Nothing is waited for meanwhile, but for a disk."""
    return _locks[-1]


def one_at_a_time(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Do `work` in this thread once no other one works on a large message, and return what it returns."""
    with large_work_lock():
        return work(*args, **kwargs)


def _begin_anew() -> None:
    """In a child that was forked: no thread is there that could let go of the lock."""
    _locks[:] = [threading.Lock()]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
