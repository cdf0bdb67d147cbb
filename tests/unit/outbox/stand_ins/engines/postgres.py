"""The PostgreSQL engine, on a fresh schema of the tests' own server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tests.postgres_server import fresh_schema

from postroom.config.outbox import OutboxSettings
from postroom.outbox.postgres.store import PostgresStore
from postroom.outbox.storage import Store


@dataclass
class PostgresEngine:
    """A schema that nobody else uses."""

    url: str = field(default_factory=fresh_schema)

    def store(self, settings: OutboxSettings, clock: Callable[[], float]) -> Store:
        return PostgresStore(settings.model_copy(update={"url": self.url}), clock=clock)
