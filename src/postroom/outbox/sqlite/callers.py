"""Accepting messages in a transaction of the caller's own, on its connection to the file: its commit is theirs."""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from postroom.errors import OutboxError
from postroom.outbox.insertion import Insertion, kinds_of, name_of
from postroom.outbox.sqlite.database import explained, fetch
from postroom.outbox.sqlite.insert import insert
from postroom.outbox.statements import AwaitingDriver, BlockingDriver, Statement

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from postroom.errors import PostroomError
    from postroom.outbox.records import EnqueueResult
    from postroom.outbox.serialization import SerializedMessage
    from postroom.outbox.statements import Rows, Steps

    _Place = tuple[Path, bytes]

_LEGACY = -1
"""sqlite3.LEGACY_TRANSACTION_CONTROL, which Python 3.11 does not name yet."""

_Brackets = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]
"""What begins the outbox's part, what keeps it, and what takes it back."""

# The first statement within a transaction takes the lock of writers. Were it to read first, a commit of anybody else
# in between would make every write of this transaction fail at once.
_LOCK = "UPDATE main.meta SET value = value WHERE 0"
_NESTED: _Brackets = (
    ("SAVEPOINT postroom_enqueue", _LOCK),
    ("RELEASE postroom_enqueue",),
    ("ROLLBACK TO postroom_enqueue", "RELEASE postroom_enqueue"),
)
_ALONE: _Brackets = (("BEGIN IMMEDIATE", _LOCK), ("COMMIT",), ("ROLLBACK",))
_IDENTITY = (
    "SELECT CAST((SELECT file FROM pragma_database_list WHERE name = 'main') AS BLOB), "
    "CAST((SELECT value FROM main.meta WHERE name = 'salt') AS BLOB)"
)


class _Sqlite3(BlockingDriver):
    """A connection of `sqlite3`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @property
    def brackets(self) -> _Brackets:
        return _brackets_of(self._connection)

    def fetch(self, statement: Statement) -> Rows:
        return fetch(self._connection, statement)


class _Aiosqlite(AwaitingDriver):
    """A connection of `aiosqlite`, and the one of `sqlite3` inside it, which is used in its thread only."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.brackets = _NESTED

    async def inspect(self) -> None:
        connection = self._connection
        # Nothing public has all of its settings, nor runs anything else in its thread.
        self.brackets = await connection._execute(lambda: _brackets_of(connection._conn))  # noqa: SLF001

    async def fetch(self, statement: Statement) -> Rows:
        cursor = await self._connection.cursor()
        try:
            cursor.row_factory = None
            await cursor.execute(statement.sql, statement.values)
            rows: Rows = await cursor.fetchall()
        finally:
            await cursor.close()
        return rows


def driver_of(connection: object) -> BlockingDriver | AwaitingDriver:
    """Return a caller's connection as something that runs statements. Raises TypeError for one of another kind."""
    if isinstance(connection, sqlite3.Connection):
        return _Sqlite3(connection)
    if "aiosqlite.core.Connection" in kinds_of(connection):
        return _Aiosqlite(connection)
    raise TypeError(
        "the outbox is a file of SQLite, so that connection must be one of sqlite3, aiosqlite or SQLAlchemy to that "
        f"file, not {name_of(connection)}"
    )


def insertion(
    connection: object, messages: Sequence[SerializedMessage], now: float, path: Path, secret: bytes
) -> Insertion[list[EnqueueResult | PostroomError]]:
    """Accept messages in the transaction that a caller's connection is in; outside of any, as its settings say.

    Where that fails, or the connection is to another outbox than that of `path` with its own random bytes, `secret`,
    nothing of it is left, and the caller's transaction goes on.
    """

    def steps(driver: BlockingDriver | AwaitingDriver) -> Steps[list[EnqueueResult | PostroomError]]:
        assert isinstance(driver, _Sqlite3 | _Aiosqlite)
        return _insert(driver, messages, now, (path, secret))

    return Insertion(connection, driver_of, steps)


def _insert(
    driver: _Sqlite3 | _Aiosqlite, messages: Sequence[SerializedMessage], now: float, place: _Place
) -> Steps[list[EnqueueResult | PostroomError]]:
    undo: tuple[str, ...] = ()
    try:
        begin, keep, undo = driver.brackets
        yield from _each(begin)
        yield from _check(*place)
        answers = yield from insert(messages, now)
        yield from _each(keep)
    except GeneratorExit:
        raise
    except BaseException as error:
        for statement in undo:
            with suppress(sqlite3.Error, ValueError):  # SQLite may have undone the whole transaction itself
                yield Statement(statement)
        if isinstance(error, sqlite3.Error):
            raise _explained(error, place[0]) from error
        raise
    return answers


def _brackets_of(connection: sqlite3.Connection) -> _Brackets:
    """Do as sqlite3 would for an INSERT of the caller's: join a transaction, leave one open, or commit by itself."""
    if connection.in_transaction:
        return _NESTED
    if getattr(connection, "autocommit", _LEGACY) != _LEGACY or connection.isolation_level is None:
        return _ALONE
    begin = "BEGIN EXCLUSIVE" if connection.isolation_level == "EXCLUSIVE" else "BEGIN IMMEDIATE"
    return (begin, _LOCK), (), ("ROLLBACK",)


def _each(statements: Sequence[str]) -> Steps[None]:
    for statement in statements:
        yield Statement(statement)


def _check(path: Path, secret: bytes) -> Steps[None]:
    [[file, found]] = yield Statement(_IDENTITY)
    name = os.fsdecode(file or b"")
    if found != secret or not name or not path.samefile(name):
        raise _elsewhere(name or "a database in memory", path)


def _elsewhere(file: str, path: Path) -> OutboxError:
    return OutboxError(
        f"the connection is to {file}, and the outbox is in {path}; open that file, or name the other one in [outbox] "
        "url (one file as the main database, since SQLite commits attached ones one after another)"
    )


def _explained(error: sqlite3.Error, path: Path) -> PostroomError:
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY_SNAPSHOT:
        return OutboxError(
            f"{path}: {error}; nothing was accepted: somebody wrote since this transaction first read; roll it back, "
            "and begin it with BEGIN IMMEDIATE"
        )
    if isinstance(error, sqlite3.ProgrammingError):
        return OutboxError(
            f"{path}: {error}; nothing was accepted: use the connection while it is open, and in the thread it is for"
        )
    if "no such table: main.meta" in str(error):
        return _elsewhere("another file", path)
    return explained(error, path)
