"""From configuration to an `Outbox`. Beside the engines themselves, this alone knows which there are."""

from __future__ import annotations

import os.path
import time
from functools import partial
from typing import TYPE_CHECKING, TypeGuard

from postroom.config.outbox import POSTGRES
from postroom.errors import ConfigError
from postroom.outbox.postgres import Location
from postroom.outbox.sqlite import path_of

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from postroom.config.outbox import OutboxSettings
    from postroom.delivery.accounts import Accounts
    from postroom.delivery.observers import Observers
    from postroom.delivery.routing import Router
    from postroom.outbox.outbox import Outbox
    from postroom.outbox.postgres.store import PostgresStore
    from postroom.outbox.storage import CopyStorage, Store

# The rest is imported where it is used: a direct send asks here whether there is an outbox, and only those who use
# one pay for it.


def open_store(settings: OutboxSettings, *, clock: Callable[[], float] | None = None) -> Store:
    """Return the storage that `settings.url` names; it is opened when it is first used.

    `clock` gives seconds since 1970; by default the engine's own, which is the same for all who share it.
    """
    if settings.url.startswith(POSTGRES):
        try:
            from postroom.outbox.postgres.store import PostgresStore  # noqa: PLC0415
        except ImportError as error:
            raise ConfigError(
                "an outbox in PostgreSQL needs the package asyncpg: pip install 'postroom[postgres]'", path="outbox.url"
            ) from error
        return PostgresStore(settings, clock=clock)
    from postroom.outbox.sqlite.store import SqliteStore  # noqa: PLC0415

    return SqliteStore(settings, clock=clock or time.time)


def open_outbox(
    settings: OutboxSettings,
    accounts: Accounts,
    router: Router,
    observers: Observers | None = None,
    *,
    store: Store | None = None,
    clock: Callable[[], float] | None = None,
    rng: random.Random | None = None,
) -> Outbox:
    """Return the outbox of a configuration, which opens its storage when it is first used.

    `store` is used in place of the configured storage. `clock` gives seconds since 1970, by default the storage's;
    `rng` spreads what is tried again.
    """
    from postroom.outbox.executor import MessageExecutor  # noqa: PLC0415
    from postroom.outbox.outbox import Outbox  # noqa: PLC0415
    from postroom.outbox.suppression import SuppressionList  # noqa: PLC0415

    kept = store or open_store(settings, clock=clock)
    suppressions = SuppressionList(kept)
    executor = MessageExecutor(
        accounts, router, settings, observers=observers, screen=suppressions.match, clock=clock or kept.clock, rng=rng
    )
    return Outbox(kept, executor, suppressions)


def open_copy_storage(settings: OutboxSettings) -> CopyStorage:
    """Return what reads and writes the rows of an outbox as they are, for a copy of all of it."""
    store = open_store(settings)
    if is_postgres(store):
        from postroom.outbox.postgres.copying import PostgresCopyStorage  # noqa: PLC0415

        return PostgresCopyStorage(store)
    from postroom.outbox.sqlite.copying import SqliteCopyStorage  # noqa: PLC0415
    from postroom.outbox.sqlite.store import SqliteStore  # noqa: PLC0415

    assert isinstance(store, SqliteStore)
    return SqliteCopyStorage(store)


def is_postgres(store: Store) -> TypeGuard[PostgresStore]:
    """Whether messages are kept in PostgreSQL; asking does not load its driver."""
    return type(store).__module__ == "postroom.outbox.postgres.store"


def location(settings: OutboxSettings) -> str:
    """Where the outbox is, in words for people."""
    if settings.url.startswith(POSTGRES):
        return Location(settings.url).shown
    return str(path_of(settings.url))


def presence(settings: OutboxSettings) -> Callable[[], bool]:
    """Return what says whether anything was ever stored, at each call; looking does not make the outbox."""
    if settings.url.startswith(POSTGRES):
        return lambda: True  # whoever names a database means to use it
    return partial(os.path.exists, path_of(settings.url))  # Path.exists raises where this user may not look
