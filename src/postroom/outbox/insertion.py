"""Accepting messages in a transaction of the caller's: from the connection that it hands over to its driver's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from postroom.outbox.statements import BlockingDriver, run, run_awaiting

if TYPE_CHECKING:
    from collections.abc import Callable

    from postroom.outbox.statements import AwaitingDriver, Steps

T = TypeVar("T")
U = TypeVar("U")

_SESSIONS = frozenset({"sqlalchemy.orm.session.Session", "sqlalchemy.orm.scoping.scoped_session"})
_CONNECTION = "sqlalchemy.engine.base.Connection"
_ASYNC_SESSIONS = frozenset(
    {
        "sqlalchemy.ext.asyncio.session.AsyncSession",
        "sqlalchemy.ext.asyncio.scoping.async_scoped_session",
    }
)
_ASYNC_CONNECTION = "sqlalchemy.ext.asyncio.engine.AsyncConnection"


class Insertion(Generic[T]):
    """Messages that are ready to be accepted, and the caller's connection through which that will be done.

    `driver_of` makes a driver of what the connection is at last; it raises TypeError for one that is none of its
    engine's. `steps` are what that driver is asked.
    """

    def __init__(
        self,
        connection: object,
        driver_of: Callable[[object], BlockingDriver | AwaitingDriver],
        steps: Callable[[BlockingDriver | AwaitingDriver], Steps[T]],
    ) -> None:
        self._connection = connection
        self._driver_of = driver_of
        self._steps = steps

    def then(self, answer: Callable[[T], U]) -> Insertion[U]:
        """Return the same insertion with another answer, made of the one of this."""

        def steps(driver: BlockingDriver | AwaitingDriver) -> Steps[U]:
            return answer((yield from self._steps(driver)))

        return Insertion(self._connection, self._driver_of, steps)

    def run(self) -> T:
        """Do it in this thread. Raises TypeError for a connection whose calls are awaited."""
        driver = None
        if not kinds_of(self._connection) & {_ASYNC_CONNECTION, *_ASYNC_SESSIONS}:
            driver = self._driver_of(_driver_connection(self._connection))
        if not isinstance(driver, BlockingDriver):
            raise TypeError(
                f"SyncPostroom takes a connection whose calls block, not {name_of(self._connection)}; use Postroom"
            )
        return run(self._steps(driver), driver.fetch)

    async def run_awaiting(self) -> T:
        """Do it in this event loop; a connection whose calls block makes it wait for each."""
        driver = self._driver_of(await _awaited_driver_connection(self._connection))
        if isinstance(driver, BlockingDriver):
            return run(self._steps(driver), driver.fetch)
        await driver.inspect()
        return await run_awaiting(self._steps(driver), driver.fetch)


def kinds_of(connection: object) -> frozenset[str]:
    """The full names of an object's classes: what it is can be asked without importing where it comes from."""
    return frozenset(f"{kind.__module__}.{kind.__qualname__}" for kind in type(connection).__mro__)


def name_of(connection: object) -> str:
    """The full name of an object's class, for people."""
    return f"{type(connection).__module__}.{type(connection).__qualname__}"


# SQLAlchemy begins its transactions when it is first asked something, and commits none that it did not begin. So it is
# asked something before its driver is used behind its back.


def _driver_connection(connection: Any) -> object:
    if kinds_of(connection) & _SESSIONS:
        connection = connection.connection()
    if _CONNECTION not in kinds_of(connection):
        return connection
    connection.exec_driver_sql("SELECT 1").scalar()
    found: object = connection.connection.driver_connection
    return found


async def _awaited_driver_connection(connection: Any) -> object:
    if kinds_of(connection) & _ASYNC_SESSIONS:
        connection = await connection.connection()
    if _ASYNC_CONNECTION not in kinds_of(connection):
        return _driver_connection(connection)
    (await connection.exec_driver_sql("SELECT 1")).scalar()
    found: object = (await connection.get_raw_connection()).driver_connection
    return found
