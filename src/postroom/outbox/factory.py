"""From configuration to an `Outbox`. Beside the engines themselves, this alone knows which there are."""

from __future__ import annotations

import os.path
import time
from functools import partial
from typing import TYPE_CHECKING

from postroom.outbox.sqlite import path_of

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from postroom.config.outbox import OutboxSettings
    from postroom.delivery.accounts import Accounts
    from postroom.delivery.observers import Observers
    from postroom.delivery.routing import Router
    from postroom.outbox.outbox import Outbox
    from postroom.outbox.storage import Store

# The rest is imported where it is used: a direct send asks here whether there is an outbox, and only those who use
# one pay for it.


def open_store(settings: OutboxSettings, *, clock: Callable[[], float] = time.time) -> Store:
    """Return the storage that `settings.url` names; it is opened when it is first used."""
    from postroom.outbox.sqlite.store import SqliteStore  # noqa: PLC0415

    return SqliteStore(settings, clock=clock)


def open_outbox(
    settings: OutboxSettings,
    accounts: Accounts,
    router: Router,
    observers: Observers | None = None,
    *,
    store: Store | None = None,
    clock: Callable[[], float] = time.time,
    rng: random.Random | None = None,
) -> Outbox:
    """Return the outbox of a configuration, which opens its storage when it is first used.

    `store` is used in place of the configured storage. `clock` gives seconds since 1970, `rng` spreads what is tried
    again.
    """
    from postroom.outbox.executor import MessageExecutor  # noqa: PLC0415
    from postroom.outbox.outbox import Outbox  # noqa: PLC0415
    from postroom.outbox.suppression import SuppressionList  # noqa: PLC0415

    kept = store or open_store(settings, clock=clock)
    suppressions = SuppressionList(kept)
    executor = MessageExecutor(
        accounts, router, settings, observers=observers, screen=suppressions.match, clock=clock, rng=rng
    )
    return Outbox(kept, executor, suppressions)


def location(settings: OutboxSettings) -> str:
    """Where the outbox is, in words for people."""
    return str(path_of(settings.url))


def presence(settings: OutboxSettings) -> Callable[[], bool]:
    """Return what says whether anything was ever stored, at each call; looking does not make the outbox."""
    return partial(os.path.exists, path_of(settings.url))  # Path.exists raises where this user may not look
