"""From an outbox to the access storage beside its messages: the engines that have one."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from postroom.errors import ConfigError
from postroom.gateway.access.sqlite import SqliteAccessStorage
from postroom.outbox.factory import is_postgres, open_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from postroom.config.outbox import OutboxSettings
    from postroom.gateway.access.storage import AccessStorage
    from postroom.outbox.storage import Store


def access_storage_of(store: Store) -> AccessStorage:
    """Return the access storage beside an outbox's messages. Raises ConfigError when its engine has none."""
    if storage := SqliteAccessStorage.beside(store):
        return storage
    if is_postgres(store):
        from postroom.gateway.access.postgres import PostgresAccessStorage  # noqa: PLC0415 - its driver may not be there

        return PostgresAccessStorage(store)
    raise ConfigError("the gateway's keys and limits cannot be kept in an outbox of this kind", path="outbox.url")


@asynccontextmanager
async def open_access_storage(settings: OutboxSettings) -> AsyncIterator[AccessStorage]:
    """Open the access storage of a configuration alone, for a command."""
    store = open_store(settings)
    storage = access_storage_of(store)
    try:
        await storage.open()
        yield storage
    finally:
        await storage.close()
        await store.close()
