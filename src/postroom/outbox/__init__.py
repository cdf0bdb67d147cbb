"""The durable way of a message: accepted on disk, delivered by workers, accounted for until it is settled.

Names load when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from postroom.config.outbox import OutboxSettings
    from postroom.outbox.outbox import Outbox
    from postroom.outbox.records import (
        AccountHealth,
        EnqueueResult,
        MessageDetails,
        MessageFilter,
        MessageSummary,
        OutboxStats,
        QueueBacklog,
    )

__all__ = [
    "AccountHealth",
    "EnqueueResult",
    "MessageDetails",
    "MessageFilter",
    "MessageSummary",
    "Outbox",
    "OutboxSettings",
    "OutboxStats",
    "QueueBacklog",
]

_HOMES = {
    "postroom.config.outbox": ("OutboxSettings",),
    "postroom.outbox.outbox": ("Outbox",),
    "postroom.outbox.records": (
        "AccountHealth",
        "MessageFilter",
        "MessageSummary",
        "OutboxStats",
        "MessageDetails",
        "EnqueueResult",
        "QueueBacklog",
    ),
}


def __getattr__(name: str) -> object:
    for module, names in _HOMES.items():
        if name in names:
            value = getattr(import_module(module), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module 'postroom.outbox' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
