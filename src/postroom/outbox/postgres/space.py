"""Space in the database: what removed messages took goes back to the disk."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from postroom.outbox.postgres.database import FAILURES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from asyncpg import Connection

    from postroom.outbox.postgres.database import Database

WAIT = "30s"
"""How long a table is waited for that somebody else is using."""


async def compact(database: Database) -> tuple[int, int]:
    """Write every table anew without the room of removed rows; returns the bytes all took before, and take now.

    Whoever uses a table meanwhile waits. Without this the server's own vacuum gives that room to new messages, which
    is enough but for one that was much larger once. Raises OutboxError, also when a table is in use for too long.
    """
    async with _own_connection(database) as connection:
        before = await _taken(connection, database.location.schema)
        await connection.execute(f"SET lock_timeout = '{WAIT}'")
        for (table,) in await connection.fetch(_TABLES, database.location.schema):
            await connection.execute(f"VACUUM (FULL, ANALYZE) {table}", timeout=None)
        return before, await _taken(connection, database.location.schema)


async def _taken(connection: Connection, schema: str) -> int:
    size: int = await connection.fetchval(_SIZE, schema)
    return size


@asynccontextmanager
async def _own_connection(database: Database) -> AsyncIterator[Connection]:
    """A connection whose statements may take as long as they need."""
    connection = await database.connect()
    try:
        yield connection
    except FAILURES as error:
        raise database.explained(error) from error
    finally:
        await connection.close()


_TABLES = "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname = $1 ORDER BY tablename"
_SIZE = (
    "SELECT coalesce(sum(pg_total_relation_size(format('%I.%I', schemaname, tablename)::regclass)), 0)::bigint "
    "FROM pg_tables WHERE schemaname = $1"
)
