"""Programs with a transaction of their own on the outbox's database, over each driver that one may be on."""

from __future__ import annotations

import sqlite3
import sys
from abc import ABC, abstractmethod
from typing import Any

import aiosqlite
import asyncpg
import psycopg
import sqlalchemy
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from postroom.outbox.postgres import Location


class Caller(ABC):
    """One transaction after another on one `connection`; its own rows are in a table that `prepare` makes."""

    connection: Any
    orders = "orders"

    def __init__(self, place: str) -> None:
        self.place = place

    @abstractmethod
    async def connect(self) -> None:
        """Open the connection."""

    @abstractmethod
    async def close(self) -> None:
        """Close it; what is not committed is lost."""

    async def begin(self) -> None:
        """Begin a transaction where the driver does not do so itself."""
        return

    @abstractmethod
    async def execute(self, sql: str) -> list[Any]:
        """Run a statement and return the first value of each row."""

    async def commit(self) -> None:
        await self.execute("COMMIT")

    async def rollback(self) -> None:
        await self.execute("ROLLBACK")

    async def order(self, name: str) -> None:
        """Write a row of its own."""
        await self.execute(f"INSERT INTO {self.orders} VALUES ('{name}')")

    async def ordered(self) -> list[Any]:
        """Its own rows, in the order of their names."""
        return await self.execute(f"SELECT name FROM {self.orders} ORDER BY name")

    async def prepare(self) -> None:
        """Make the table of its own rows."""
        await self.begin()
        await self.execute(f"CREATE TABLE {self.orders} (name text)")
        await self.commit()


class OnSqlite3(Caller):
    """As `sqlite3` begins and ends transactions itself."""

    isolation_level: Any = "DEFERRED"

    async def connect(self) -> None:
        self.connection = sqlite3.connect(self.place, isolation_level=self.isolation_level, timeout=60)

    async def close(self) -> None:
        self.connection.close()

    async def execute(self, sql: str) -> list[Any]:
        return [row[0] for row in self.connection.execute(sql)]

    async def commit(self) -> None:
        self.connection.commit()

    async def rollback(self) -> None:
        self.connection.rollback()


class OnSqlite3ByHand(OnSqlite3):
    """With a BEGIN of its own."""

    isolation_level = None

    async def begin(self) -> None:
        self.connection.execute("BEGIN")


class OnSqlite3AlwaysWithin(OnSqlite3):
    """In a transaction at all times, as PEP 249 has it; from Python 3.12 on."""

    async def connect(self) -> None:
        settings: dict[str, Any] = {"autocommit": False}
        self.connection = sqlite3.connect(self.place, timeout=60, **settings)


class OnAiosqlite(Caller):
    async def connect(self) -> None:
        self.connection = await aiosqlite.connect(self.place, timeout=60)

    async def close(self) -> None:
        await self.connection.close()

    async def execute(self, sql: str) -> list[Any]:
        return [row[0] for row in await self.connection.execute_fetchall(sql)]

    async def commit(self) -> None:
        await self.connection.commit()

    async def rollback(self) -> None:
        await self.connection.rollback()


class OnSqlalchemy(Caller):
    """A `Session`."""

    driver = "sqlite"

    async def connect(self) -> None:
        self.engine = sqlalchemy.create_engine(self.url)
        self.connection = Session(self.engine)

    @property
    def url(self) -> str:
        return f"{self.driver}:///{self.place}"

    async def close(self) -> None:
        self.connection.close()
        self.engine.dispose()

    async def execute(self, sql: str) -> list[Any]:
        found = self.connection.execute(sqlalchemy.text(sql))
        return list(found.scalars()) if found.returns_rows else []

    async def commit(self) -> None:
        self.connection.commit()

    async def rollback(self) -> None:
        self.connection.rollback()


class OnSqlalchemyCore(OnSqlalchemy):
    """A `Connection`."""

    async def connect(self) -> None:
        self.engine = sqlalchemy.create_engine(self.url)
        self.connection = self.engine.connect()


class OnAsyncSqlalchemy(OnSqlalchemy):
    """An `AsyncSession`."""

    driver = "sqlite+aiosqlite"

    async def connect(self) -> None:
        self.async_engine = create_async_engine(self.url)
        self.connection = AsyncSession(self.async_engine)

    async def close(self) -> None:
        await self.connection.close()
        await self.async_engine.dispose()

    async def execute(self, sql: str) -> list[Any]:
        found = await self.connection.execute(sqlalchemy.text(sql))
        return list(found.scalars()) if found.returns_rows else []

    async def commit(self) -> None:
        await self.connection.commit()

    async def rollback(self) -> None:
        await self.connection.rollback()


class OnAsyncSqlalchemyCore(OnAsyncSqlalchemy):
    """An `AsyncConnection`."""

    async def connect(self) -> None:
        self.async_engine = create_async_engine(self.url)
        self.connection = await self.async_engine.connect()


class OnPostgres(Caller):
    """On the database and schema of the outbox's URL."""

    def __init__(self, place: str) -> None:
        super().__init__(place)
        self.location = Location(place)
        self.orders = f'"{self.location.schema}".orders'


class OnAsyncpg(OnPostgres):
    async def connect(self) -> None:
        self.connection = await asyncpg.connect(self.location.dsn)

    async def close(self) -> None:
        await self.connection.close()

    async def begin(self) -> None:
        self._transaction = self.connection.transaction()
        await self._transaction.start()

    async def execute(self, sql: str) -> list[Any]:
        return [row[0] for row in await self.connection.fetch(sql)]

    async def commit(self) -> None:
        await self._transaction.commit()

    async def rollback(self) -> None:
        await self._transaction.rollback()


class OnAsyncpgPool(OnAsyncpg):
    """A connection that a pool has lent, and a transaction begun by hand."""

    async def connect(self) -> None:
        self.pool = await asyncpg.create_pool(self.location.dsn, min_size=1, max_size=1)
        self.connection = await self.pool.acquire()

    async def close(self) -> None:
        await self.pool.release(self.connection)
        await self.pool.close()

    async def begin(self) -> None:
        await self.connection.execute("BEGIN")

    async def commit(self) -> None:
        await self.connection.execute("COMMIT")

    async def rollback(self) -> None:
        await self.connection.execute("ROLLBACK")


class OnPsycopg(OnPostgres):
    async def connect(self) -> None:
        self.connection = psycopg.connect(self.location.dsn)

    async def close(self) -> None:
        self.connection.close()

    async def execute(self, sql: str) -> list[Any]:
        cursor = self.connection.execute(sql)
        return [row[0] for row in cursor] if cursor.description else []

    async def commit(self) -> None:
        self.connection.commit()

    async def rollback(self) -> None:
        self.connection.rollback()


class OnAsyncPsycopg(OnPostgres):
    async def connect(self) -> None:
        self.connection = await psycopg.AsyncConnection.connect(self.location.dsn)

    async def close(self) -> None:
        await self.connection.close()

    async def execute(self, sql: str) -> list[Any]:
        cursor = await self.connection.execute(sql)
        return [row[0] async for row in cursor] if cursor.description else []

    async def commit(self) -> None:
        await self.connection.commit()

    async def rollback(self) -> None:
        await self.connection.rollback()


class _SqlalchemyOnPostgres(OnPostgres):
    driver = "postgresql+psycopg"

    @property
    def url(self) -> str:
        return self.location.dsn.replace("postgresql", self.driver, 1)


class OnSqlalchemyPsycopg(_SqlalchemyOnPostgres, OnSqlalchemy):
    """A `Session` over psycopg."""


class OnSqlalchemyCorePsycopg(_SqlalchemyOnPostgres, OnSqlalchemyCore):
    """A `Connection` over psycopg."""


class OnSqlalchemyAsyncPsycopg(_SqlalchemyOnPostgres, OnAsyncSqlalchemyCore):
    """An `AsyncConnection` over psycopg."""


class OnSqlalchemyAsyncpg(_SqlalchemyOnPostgres, OnAsyncSqlalchemy):
    """An `AsyncSession` over asyncpg."""

    driver = "postgresql+asyncpg"


class OnSqlalchemyCoreAsyncpg(_SqlalchemyOnPostgres, OnAsyncSqlalchemyCore):
    """An `AsyncConnection` over asyncpg."""

    driver = "postgresql+asyncpg"


ON_SQLITE: list[type[Caller]] = [
    OnSqlite3,
    OnSqlite3ByHand,
    *([OnSqlite3AlwaysWithin] if sys.version_info >= (3, 12) else []),
    OnAiosqlite,
    OnSqlalchemy,
    OnSqlalchemyCore,
    OnAsyncSqlalchemy,
    OnAsyncSqlalchemyCore,
]
ON_POSTGRES: list[type[Caller]] = [
    OnAsyncpg,
    OnAsyncpgPool,
    OnPsycopg,
    OnAsyncPsycopg,
    OnSqlalchemyPsycopg,
    OnSqlalchemyCorePsycopg,
    OnSqlalchemyAsyncPsycopg,
    OnSqlalchemyAsyncpg,
    OnSqlalchemyCoreAsyncpg,
]
