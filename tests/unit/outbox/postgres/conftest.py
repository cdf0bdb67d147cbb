"""Here the engine is PostgreSQL alone: connections, locks, notifications, and what happens when they break."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
from engines.postgres import PostgresEngine
from engines.process import Clock
from tests.postgres_server import fresh_schema

from postroom.config.outbox import OutboxSettings
from postroom.outbox.postgres.store import PostgresStore

OpenStore = Callable[..., PostgresStore]


@pytest.fixture
def engine() -> PostgresEngine:
    return PostgresEngine()


@pytest.fixture
def url() -> str:
    """A schema that nobody has used."""
    return fresh_schema()


@pytest.fixture
async def open_store(url: str) -> AsyncIterator[OpenStore]:
    """Opens stores of one schema, as processes of several machines would."""
    opened: list[PostgresStore] = []

    def open_one(at: str = url, clock: Callable[[], float] | None = None) -> PostgresStore:
        store = PostgresStore(OutboxSettings.model_validate({"url": at}), clock=clock or Clock())
        opened.append(store)
        return store

    yield open_one
    for store in opened:
        await store.close()
