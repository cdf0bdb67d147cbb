"""Values of the outbox as text for people: on one line, times to the second."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


def plain(text: str) -> str:
    """Return text on one line, without what a terminal would act on."""
    return "".join(character if character.isprintable() else " " for character in text)


def time_text(moment: datetime) -> str:
    """Return a time as ISO 8601, to the second."""
    return moment.isoformat(timespec="seconds")
