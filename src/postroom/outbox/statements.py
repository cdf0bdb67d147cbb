"""Statements of SQL that are asked for one after another, whoever runs them: a driver that blocks, or one to await."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")


class Statement(NamedTuple):
    """One statement, with the placeholders of its engine, and their values."""

    sql: str
    values: Sequence[object] = ()


Rows: TypeAlias = Sequence[Any]
"""What a statement returned, each row a sequence of values; none for a statement that returns nothing."""

Steps: TypeAlias = Generator[Statement, Rows, T]
"""Asks for statements, is sent the rows of each, or thrown its error, and returns what came of all."""


class BlockingDriver(ABC):
    """A driver's connection whose calls block."""

    @abstractmethod
    def fetch(self, statement: Statement) -> Rows:
        """Run a statement."""


class AwaitingDriver(ABC):
    """A driver's connection whose calls are awaited."""

    async def inspect(self) -> None:
        """Look at what the connection is set to, where that takes a call too; awaited before anything else."""
        return

    @abstractmethod
    async def fetch(self, statement: Statement) -> Rows:
        """Run a statement."""


def run(steps: Steps[T], fetch: Callable[[Statement], Rows]) -> T:
    """Run every statement that `steps` asks for, and return what it returns."""
    try:
        statement = next(steps)
        while True:
            try:
                rows = fetch(statement)
            except BaseException as error:  # noqa: BLE001 - whoever asked knows what is to be undone
                statement = steps.throw(error)
            else:
                statement = steps.send(rows)
    except StopIteration as end:
        answer: T = end.value
        return answer


async def run_awaiting(steps: Steps[T], fetch: Callable[[Statement], Awaitable[Rows]]) -> T:
    """Do the same where running a statement is awaited."""
    try:
        statement = next(steps)
        while True:
            try:
                rows = await fetch(statement)
            except BaseException as error:  # noqa: BLE001 - as above; being cancelled is undone too
                statement = steps.throw(error)
            else:
                statement = steps.send(rows)
    except StopIteration as end:
        answer: T = end.value
        return answer
