"""Accepting messages in small transactions: large contents are stored in transactions of their own, before the message.

Whoever writes waits for the transaction that is being written: one of 25 MB takes a fifth of a second. The transaction
that accepts a message looks whether its contents are there, and stores those that are not; so nothing depends on those
that came early. Where a message never came, since its process died or its disk was full, they are removed.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from postroom.errors import OutboxError
from postroom.outbox.sqlite import insert
from postroom.outbox.sqlite.update import DROP_FILE
from postroom.outbox.statements import run

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from postroom.errors import PostroomError
    from postroom.outbox.records import EnqueueResult
    from postroom.outbox.serialization import SerializedMessage

    Answers = list[EnqueueResult | PostroomError]

T = TypeVar("T")

MOST_TOGETHER = 2_097_152
"""Bytes of bodies and contents in one transaction: some ten milliseconds of everybody who writes."""

PIECES_TOGETHER = 4
"""Pieces of contents in one transaction before their message: a mebibyte, or four of texts outside ASCII."""

WAITED_FOR = 3600.0
"""Seconds after which the message of early contents will not come any more; if it does, it brings them again."""

_IN_ONE_STATEMENT = 1000
"""Hashes that one statement names."""

MOST_REMOVED = 32
"""Contents of messages that never came, removed in one transaction."""


class Write(Protocol):
    """Runs an operation in a transaction; see `SqliteStore.write`."""

    async def __call__(self, operation: Callable[[sqlite3.Connection], T], /) -> T: ...


async def insert_all(write: Write, messages: Sequence[SerializedMessage], now: float) -> Answers:
    """Store messages, and answer each. Raises OutboxError when none could be stored.

    Where the storage fails in the middle, those before it are accepted, and the others are answered with the error.
    """
    if len(messages) == 1 and messages[0].size <= MOST_TOGETHER:  # what most callers do, and pay for each message
        return await write(partial(_insert, messages=messages, now=now))
    answers: Answers = []
    for together in _transactions(messages):
        files = [file for message in together if message.size > MOST_TOGETHER for file in message.files]
        early = [hash_ for hash_, _ in files]
        try:
            for at in range(0, len(files), PIECES_TOGETHER):
                await write(partial(_keep, files=files[at : at + PIECES_TOGETHER], now=now))
            answers += await write(partial(_insert, messages=together, now=now, early=early))
        except OutboxError as error:
            if files:
                with suppress(OutboxError):
                    await write(partial(remove, hashes=early))
            if not answers:
                raise
            return answers + [error] * (len(messages) - len(answers))
    return answers


def stranded(connection: sqlite3.Connection, now: float) -> list[bytes]:
    """Return hashes of early contents whose messages never came; some of them."""
    return [hash_ for (hash_,) in connection.execute(_STRANDED, (now - WAITED_FOR, MOST_REMOVED))]


def remove(connection: sqlite3.Connection, hashes: Iterable[bytes]) -> None:
    """Remove early contents that no message has."""
    values = [(hash_,) for hash_ in hashes]
    connection.executemany(_ARRIVED, values)
    connection.executemany(DROP_FILE, values)


def _transactions(messages: Iterable[SerializedMessage]) -> Iterator[list[SerializedMessage]]:
    """Put messages together, in their order, as far as they are few bytes."""
    together: list[SerializedMessage] = []
    size = 0
    for message in messages:
        if together and size + message.size > MOST_TOGETHER:
            yield together
            together, size = [], 0
        together.append(message)
        size += message.size
    if together:
        yield together


def _keep(connection: sqlite3.Connection, files: Sequence[tuple[bytes, bytes]], now: float) -> None:
    connection.executemany(insert.KEEP_FILE, files)
    connection.executemany("INSERT OR REPLACE INTO early_files VALUES (?, ?)", [(hash_, now) for hash_, _ in files])


def _insert(
    connection: sqlite3.Connection, messages: Sequence[SerializedMessage], now: float, early: Sequence[bytes] = ()
) -> Answers:
    execute = connection.execute
    # A large message has a hundred pieces, and each statement lets other threads run: as few as can be.
    parts = [early[at : at + _IN_ONE_STATEMENT] for at in range(0, len(early), _IN_ONE_STATEMENT)]
    kept = {hash_ for part in parts for (hash_,) in execute(_ARE_KEPT + _among(part), part)}
    answers = run(insert.insert(messages, now, kept=kept), lambda statement: execute(*statement).fetchall())
    for part in parts:
        execute(_HAVE_ARRIVED + _among(part), part)
    return answers


def _among(values: Sequence[object]) -> str:
    return f" IN ({', '.join('?' * len(values))})"


_STRANDED = "SELECT hash FROM early_files WHERE since <= ? LIMIT ?"
_ARE_KEPT = "SELECT hash FROM files WHERE hash"
_HAVE_ARRIVED = "DELETE FROM early_files WHERE hash"
_ARRIVED = f"{_HAVE_ARRIVED} = ?"
