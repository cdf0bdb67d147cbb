"""Connections to the database: a bounded pool, transactions that are made again where they collide, and errors."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar, cast

import asyncpg

from postroom.errors import OutboxError
from postroom.outbox.postgres.insert import KeyTaken

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from asyncpg import Connection, Pool, Record
    from asyncpg.pool import PoolConnectionProxy

    from postroom.outbox.postgres import Location
    from postroom.outbox.statements import Rows, Statement

T = TypeVar("T")

MOST_CONNECTIONS = 8
"""Connections of one process at a time."""

TIMEOUT = 30.0
"""Seconds for one statement, and to get a connection."""

_LONGEST_NAME = 63
"""Bytes of an application's name that the server keeps; what is longer it cuts."""

LONGEST_IDLE = 10
"""Seconds for which the server keeps a transaction that nobody goes on with: one of a process that was frozen, or of a
host that was cut off, holds locks for which all others wait. Between two statements of ours lie milliseconds."""

_TRIES = 8
"""How often a transaction is made that collides with others."""

_COLLISIONS = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.ForeignKeyViolationError,  # an attachment that many share was removed, or came back, at this moment
    asyncpg.UniqueViolationError,  # two messages learned one id of a provider at this moment
    KeyTaken,
)
_LOST = (
    asyncpg.ConnectionDoesNotExistError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    ConnectionResetError,
)
"""How a connection of the pool shows that the server has ended it; a server that is away refuses new ones instead."""

FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)


class Database:
    """A pool of connections, opened when it is first used; it belongs to one event loop."""

    def __init__(self, location: Location) -> None:
        self.location = location
        self._pool: Pool | None = None

    async def open(self) -> None:
        """Connect. Raises OutboxError when the database cannot be reached."""
        if self._pool is None:
            try:
                self._pool = await asyncpg.create_pool(
                    self.location.dsn,
                    min_size=0,  # else asyncpg logs a traceback of its own each time that it cannot keep one open
                    max_size=MOST_CONNECTIONS,
                    command_timeout=TIMEOUT,
                    timeout=TIMEOUT,
                    server_settings=self._settings | {"idle_in_transaction_session_timeout": f"{LONGEST_IDLE:g}s"},
                    reset=_as_it_is,
                )
            except (*FAILURES, ValueError) as error:
                raise self.explained(error) from error

    async def close(self) -> None:
        """Close every connection once what runs on it has ended."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close()

    async def connect(self) -> Connection:
        """Return a connection of one's own, for notifications. Raises OutboxError."""
        try:
            connection: Connection = await asyncpg.connect(
                self.location.dsn, timeout=TIMEOUT, server_settings=self._settings
            )
        except (*FAILURES, ValueError) as error:
            raise self.explained(error) from error
        return connection

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection. What goes wrong is raised as OutboxError."""
        assert self._pool is not None, "the database is not open"
        try:
            async with self._pool.acquire(timeout=TIMEOUT) as connection:
                yield _lent(connection)
        except FAILURES as error:
            raise self.explained(error) from error

    async def transact(self, operation: Callable[[Connection], Awaitable[T]]) -> T:
        """Run `operation` in a transaction, again when it collides with another one; raises OutboxError.

        When the connection breaks while it is committed nobody can say whether it was.
        """
        assert self._pool is not None, "the database is not open"
        for left in reversed(range(_TRIES)):
            begun = False
            try:
                async with self._pool.acquire(timeout=TIMEOUT) as connection, connection.transaction():
                    begun = True
                    return await operation(_lent(connection))
            except _COLLISIONS as error:
                if not left:
                    raise OutboxError(f"{self.location.shown}: too many others write the same; try again") from error
                await asyncio.sleep(0)
            except FAILURES as error:
                if begun or not left or not isinstance(error, _LOST):
                    raise self.explained(error) from error
        raise AssertionError

    async def run(self, operation: Callable[[Connection], Awaitable[T]]) -> T:
        """Run statements, each a transaction by itself, which change nothing more when they are made twice.

        They are made again where the server had ended the connection. Raises OutboxError.
        """
        assert self._pool is not None, "the database is not open"
        for left in reversed(range(_TRIES)):
            try:
                async with self._pool.acquire(timeout=TIMEOUT) as connection:
                    return await operation(_lent(connection))
            except FAILURES as error:
                if not left or not isinstance(error, _LOST):
                    raise self.explained(error) from error
        raise AssertionError

    def explained(self, error: BaseException) -> OutboxError:
        """Return the error a person can act on."""
        if isinstance(error, asyncpg.InterfaceError) and isinstance(error.__context__, FAILURES):
            error = error.__context__  # what went wrong before the transaction could not be ended
        said = str(error) or type(error).__name__
        if isinstance(error, asyncpg.RaiseError):  # the outbox was copied, and the trigger says what to do
            return OutboxError(f"{self.location.shown}: {said}")
        advice = next((advice for kind, advice in _ADVICE.items() if isinstance(error, kind)), _OTHERWISE)
        return OutboxError(f"{self.location.shown}: {said}; {advice}")

    @property
    def _settings(self) -> dict[str, str]:
        # The schema says whose connection it is among several outboxes of one database: `copying` counts them.
        name = f"postroom {self.location.schema}"
        return {"search_path": f'"{self.location.schema}"', "application_name": name[:_LONGEST_NAME]}


async def fetch(connection: Connection, statement: Statement) -> Rows:
    """Run a statement; its rows are asyncpg's own, whatever the connection makes of them otherwise."""
    return await connection.fetch(statement.sql, *statement.values, record_class=asyncpg.Record)


async def _as_it_is(_: Connection) -> None:
    """Give a connection back without a question to the server: nothing here changes its session."""


def _lent(connection: PoolConnectionProxy[Record]) -> Connection:
    """A connection of the pool, which stands for one in everything but its type."""
    return cast("Connection", connection)


_ADVICE: dict[type[BaseException] | tuple[type[BaseException], ...], str] = {
    asyncpg.InvalidPasswordError: "look at user and password in [outbox] url, or PGPASSWORD",
    asyncpg.InvalidAuthorizationSpecificationError: "look at the user in [outbox] url, and at the server's pg_hba.conf",
    asyncpg.InvalidCatalogNameError: "make the database, or name another one in [outbox] url",
    asyncpg.InsufficientPrivilegeError: (
        "give this role the right to use and make tables in the schema, or run `postroom outbox migrate` with one that "
        "has it, and give this one the right to read and write them"
    ),
    asyncpg.LockNotAvailableError: (
        "nothing was accepted: a transaction that has not ended uses the same idempotency key or attachment; try again"
    ),
    asyncpg.DiskFullError: "nothing was accepted; make room on the database's disk",
    asyncpg.TooManyConnectionsError: "raise max_connections, or put a pooler in front",
    asyncpg.ReadOnlySQLTransactionError: "this server takes no writes; name the primary in [outbox] url",
    (OSError, TimeoutError, asyncpg.InterfaceError): "the database cannot be reached now; what was accepted is safe",
}
_OTHERWISE = "nothing can be said of what was asked; look at the database, and try again"
