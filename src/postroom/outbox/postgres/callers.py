"""Accepting messages in a transaction of the caller's own: its commit is theirs, and wakes the workers."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from postroom.errors import ConfigError, OutboxError
from postroom.outbox.insertion import Insertion, kinds_of, name_of
from postroom.outbox.postgres.database import FAILURES, fetch
from postroom.outbox.postgres.insert import KeyTaken, insert, within
from postroom.outbox.records import EnqueueResult
from postroom.outbox.statements import AwaitingDriver, BlockingDriver, Statement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from postroom.errors import PostroomError
    from postroom.outbox.postgres import Location
    from postroom.outbox.serialization import SerializedMessage
    from postroom.outbox.statements import Rows, Steps

    _Place = tuple[Location, bytes]

_TRIES = 8
"""How often the outbox's part of a transaction is made that collides with others."""

_NESTED = (
    "SAVEPOINT postroom_enqueue",
    "RELEASE SAVEPOINT postroom_enqueue",
    ("ROLLBACK TO SAVEPOINT postroom_enqueue", "RELEASE SAVEPOINT postroom_enqueue"),
)
_ALONE = ("BEGIN", "COMMIT", ("ROLLBACK",))
"""What begins the outbox's part, what keeps it, and what takes it back."""

_TABLES = "meta, messages, bodies, files, message_files, idempotency_keys"

_DEADLOCK, _FOREIGN_KEY = "40P01", "23503"
_LOST = ("08", "57P")
_NO_TABLE, _NO_SCHEMA, _NO_RIGHT = "42P01", "3F000", "42501"
"""SQLSTATEs (https://www.postgresql.org/docs/current/errcodes-appendix.html), the same from every driver."""

_ADVICE = {
    "25P02": "this transaction had failed before: roll it back, and begin again",
    "25006": "this connection takes no writes; connect to the primary, in a transaction that is not read-only",
    "40001": "somebody else wrote since this transaction began: roll it back, and run all of it again",
    _DEADLOCK: "this transaction and another one wait for each other: roll it back, and run all of it again",
    "P0001": "name the place that has the outbox now in [outbox] url, and connect to that",
    "53100": "make room on the database's disk",
}
_OTHERWISE = "look at the database and the connection, and run the transaction again"


class _Asyncpg(AwaitingDriver):
    """A connection of `asyncpg`, of a pool or not."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @property
    def in_transaction(self) -> bool:
        return bool(self._connection.is_in_transaction())

    async def fetch(self, statement: Statement) -> Rows:
        return await fetch(self._connection, statement)


# psycopg begins a transaction with whatever it is asked outside of one, unless it is in autocommit. Within a pipeline
# of the caller's, the end of an inner one brings the answers.


class _Psycopg(BlockingDriver):
    """A connection of `psycopg`."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @property
    def in_transaction(self) -> bool:
        return _in_transaction_of_psycopg(self._connection)

    def fetch(self, statement: Statement) -> Rows:
        from psycopg import RawCursor  # noqa: PLC0415 - whoever has such a connection has imported it
        from psycopg.rows import tuple_row  # noqa: PLC0415

        with RawCursor(self._connection, row_factory=tuple_row) as cursor:
            with self._connection.pipeline() if _is_pipeline(self._connection) else nullcontext():
                cursor.execute(statement.sql, statement.values or None)
            return cursor.fetchall() if cursor.description else ()


class _AsyncPsycopg(AwaitingDriver):
    """An asynchronous connection of `psycopg`."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @property
    def in_transaction(self) -> bool:
        return _in_transaction_of_psycopg(self._connection)

    async def fetch(self, statement: Statement) -> Rows:
        from psycopg import AsyncRawCursor  # noqa: PLC0415 - as above
        from psycopg.rows import tuple_row  # noqa: PLC0415

        async with AsyncRawCursor(self._connection, row_factory=tuple_row) as cursor:
            async with self._connection.pipeline() if _is_pipeline(self._connection) else nullcontext():
                await cursor.execute(statement.sql, statement.values or None)
            return await cursor.fetchall() if cursor.description else ()


_Driver = _Asyncpg | _Psycopg | _AsyncPsycopg


def driver_of(connection: object) -> _Driver:
    """Return a caller's connection as something that runs statements.

    Raises TypeError for one of another kind, and ConfigError for a psycopg that is too old.
    """
    if isinstance(connection, asyncpg.Connection | PoolConnectionProxy):
        return _Asyncpg(connection)
    kinds = kinds_of(connection)
    if "psycopg.Connection" in kinds:
        return _Psycopg(_recent(connection))
    if "psycopg.AsyncConnection" in kinds:
        return _AsyncPsycopg(_recent(connection))
    raise TypeError(
        "the outbox is in PostgreSQL, so that connection must be one of asyncpg, psycopg 3 or SQLAlchemy over these to "
        f"that database, not {name_of(connection)}"
    )


def insertion(
    connection: object, messages: Sequence[SerializedMessage], now: float, location: Location, secret: bytes
) -> Insertion[list[EnqueueResult | PostroomError]]:
    """Accept messages in the transaction that a caller's connection is in; outside of any, in one of their own.

    Where that fails, or the connection is to another outbox than that of `location` with its own random bytes,
    `secret`, nothing of it is left, and the caller's transaction goes on.
    """

    def steps(driver: BlockingDriver | AwaitingDriver) -> Steps[list[EnqueueResult | PostroomError]]:
        assert isinstance(driver, _Driver)
        return _insert(driver, messages, now, (location, secret))

    return Insertion(connection, driver_of, steps)


def _insert(
    driver: _Driver, messages: Sequence[SerializedMessage], now: float, place: _Place
) -> Steps[list[EnqueueResult | PostroomError]]:
    begin, keep, undo = _NESTED if driver.in_transaction else _ALONE
    for left in reversed(range(_TRIES)):
        at = ""
        try:
            yield Statement(begin)
            at = begin
            answers = yield from _accepted(messages, now, *place)
            at = keep
            yield Statement(keep)
        except GeneratorExit:
            raise
        except BaseException as error:  # noqa: BLE001 - raised again once what it left is undone
            for statement in undo if at else ():
                with suppress(Exception):  # the connection may be lost, and its transaction with it
                    yield Statement(statement)
            if not (left and _collides(error, nested=begin != "BEGIN")):
                _raise_explained(error, place[0], committing=at == "COMMIT")
        else:
            return answers
    raise AssertionError


def _accepted(
    messages: Sequence[SerializedMessage], now: float, location: Location, secret: bytes
) -> Steps[list[EnqueueResult | PostroomError]]:
    schema = location.schema
    rows = yield Statement(within(schema, "SELECT value FROM {schema}.meta WHERE name = 'salt'"))
    if [bytes(found) for (found,) in rows] != [secret]:
        raise _elsewhere(location)
    answers = yield from insert(messages, now, schema)
    if any(isinstance(answer, EnqueueResult) and not answer.replayed for answer in answers):
        # With the transaction, so that nobody looks before it is committed; PostgreSQL makes one of many the same.
        yield Statement("SELECT pg_notify($1::text, '')", (location.channel,))
    return answers


def _recent(connection: Any) -> Any:
    import psycopg  # noqa: PLC0415 - as above

    if not hasattr(psycopg, "RawCursor"):
        raise ConfigError(f"psycopg {psycopg.__version__} is too old for this; install 3.2 or newer")
    return connection


def _in_transaction_of_psycopg(connection: Any) -> bool:
    return not connection.autocommit or bool(connection.info.transaction_status)


def _is_pipeline(connection: Any) -> bool:
    return bool(connection.pgconn.pipeline_status)


def _collides(error: BaseException, *, nested: bool) -> bool:
    """Whether it may go well at the next try; see `Database.transact`.

    Within a caller's transaction a deadlock is about what that has locked before, and would come again.
    """
    state = getattr(error, "sqlstate", None)
    return isinstance(error, KeyTaken) or state == _FOREIGN_KEY or (state == _DEADLOCK and not nested)


def _elsewhere(location: Location) -> OutboxError:
    return OutboxError(
        f"the connection is to another database than the outbox ({location.shown}); connect to that one, or name the "
        "connection's own in [outbox] url, and have the outbox made there, as `postroom worker --until-empty` does"
    )


def _raise_explained(error: BaseException, location: Location, *, committing: bool) -> None:
    """Raise what a person can act on; whatever is no driver's error as it is."""
    if isinstance(error, KeyTaken):
        raise OutboxError(f"{location.shown}: too many others use the same idempotency key; try again") from error
    if not isinstance(error, FAILURES) and "psycopg.Error" not in kinds_of(error):
        raise error
    state = getattr(error, "sqlstate", None)
    if state in {_NO_TABLE, _NO_SCHEMA}:
        raise _elsewhere(location) from error
    advice = _ADVICE.get(state or "", _OTHERWISE)
    if state == _NO_RIGHT:
        advice = (
            f"let this connection's role add messages: GRANT USAGE ON SCHEMA {location.schema}, and GRANT SELECT, "
            f"INSERT ON {_TABLES} there"
        )
    unknown = committing and (state is None or state.startswith(_LOST))
    what = "nobody can say whether it was accepted" if unknown else "nothing was accepted"
    raise OutboxError(f"{location.shown}: {str(error) or type(error).__name__}; {what}: {advice}") from error
