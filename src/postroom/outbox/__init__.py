"""The durable way of a message: accepted on disk, delivered by workers, accounted for until it is settled.

Names load when they are first used.
"""

from typing import TYPE_CHECKING

from postroom import _lazy

if TYPE_CHECKING:
    from postroom.config.outbox import OutboxSettings
    from postroom.outbox.outbox import Outbox
    from postroom.outbox.records import AccountHealth, EnqueueResult
    from postroom.outbox.views import MessageDetails, MessageFilter, MessageSummary, OutboxStats, QueueBacklog

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

if not TYPE_CHECKING:  # for which the imports above are all there is
    __getattr__, __dir__ = _lazy.lazy_names(
        __name__,
        {
            "postroom.config.outbox": ("OutboxSettings",),
            "postroom.outbox.outbox": ("Outbox",),
            "postroom.outbox.records": ("AccountHealth", "EnqueueResult"),
            "postroom.outbox.views": (
                "MessageDetails",
                "MessageFilter",
                "MessageSummary",
                "OutboxStats",
                "QueueBacklog",
            ),
        },
    )
