"""How far a cancelled send had come: a typed mark that a transport leaves on the cancellation.

The core decides by it whether the message may go out again, so no mark means the worst: it may have been sent.
"""

from __future__ import annotations

import asyncio

_MARK = "postroom_handed_over"
_ANSWER = "postroom_answer"


def mark_cancelled(cancelled: BaseException, note: str, *, handed_over: bool) -> None:
    """Say on `cancelled` whether the message may have reached the provider, and how far it had come in words.

    Of several marks on one cancellation, one that says it was handed over stands. A transport that knows the moment
    (`keeps_timeout`) marks every cancellation that it lets through; for others the core does.
    """
    setattr(cancelled, _MARK, handed_over or bool(was_handed_over(cancelled)))
    cancelled.add_note(note)


def was_handed_over(cancelled: BaseException) -> bool | None:
    """Return what the cancellation is marked with; None when no transport had been asked to send."""
    mark: bool | None = getattr(cancelled, _MARK, None)
    return mark


def keep_answer(cancelled: BaseException, answer: object) -> None:
    """Let a cancellation that came after the answer carry it, so that it is not lost."""
    setattr(cancelled, _ANSWER, answer)


def kept_answer(cancelled: BaseException) -> object:
    """Return the answer that had come before the cancellation; None when there was none."""
    return getattr(cancelled, _ANSWER, None)


def is_being_cancelled() -> bool:
    """Whether somebody cancels the task under way; otherwise a CancelledError in it is of the plugin's own making."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
