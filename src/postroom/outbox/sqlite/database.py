"""One thread that writes: what is asked for at the same time shares one transaction, and one fsync."""

from __future__ import annotations

import asyncio
import os
import queue
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from postroom.errors import OutboxError, PostroomError
from postroom.outbox.deadline import deadline
from postroom.outbox.encryption import sync_folder
from postroom.outbox.private_files import ensure_private

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from postroom.outbox.statements import Statement

T = TypeVar("T")

BUSY_TIMEOUT = 30.0
"""Seconds to wait for another process that holds the file locked."""

STUCK_AFTER = 5.0
"""Seconds that a transaction waits for another process's before this is told to whoever asks how things stand."""

_LOOK_AGAIN_MS = 100
"""How long SQLite waits for a lock by itself, until it is looked who may wait no longer."""

_WAL_BYTES = 67_108_864
"""What the WAL is cut back to after a checkpoint; without it, it stays as large as it ever was."""

_WRITER_CACHE_KIB = 16_384
_READER_CACHE_KIB = 2_048
"""What a connection keeps of the file in memory. A reader's is thrown away whenever another connection has written."""


@dataclass(slots=True)
class _Request:
    operation: Callable[[sqlite3.Connection], Any]
    then: Callable[[sqlite3.Connection, Any], Any] | None
    future: asyncio.Future[Any]
    until: float
    synced: bool = True
    answer: Any = None
    error: BaseException | None = None


def connect(
    path: Path, *, any_thread: bool = False, busy_timeout: float = BUSY_TIMEOUT, writes: bool = False
) -> sqlite3.Connection:
    """Open the file: WAL, and every commit on disk before it returns (synchronous=FULL).

    `writes` says that this is the connection through which this process writes.
    """
    with ExitStack() as opened:
        try:
            connection = sqlite3.connect(
                path, timeout=busy_timeout, isolation_level=None, check_same_thread=not any_thread
            )
            opened.callback(connection.close)
            if writes and not connection.execute("PRAGMA page_count").fetchone()[0]:
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # `space.give_back`; settled with the first page
            [mode] = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute(f"PRAGMA cache_size = -{_WRITER_CACHE_KIB if writes else _READER_CACHE_KIB}")
        except sqlite3.Error as error:
            raise not_ready(error, path) from error
        if mode != "wal":
            raise OutboxError(
                f"{path}: its journal mode stays {mode!r} where WAL is needed; put the outbox on a local disk whose "
                "file system has shared memory"
            )
        opened.pop_all()
    return connection


def create(path: Path) -> None:
    """Make the file its owner's alone, or an older one so; what SQLite puts beside it takes the same rights."""
    with suppress(OSError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))
        sync_folder(path)
    for suffix in ("", "-wal", "-shm"):
        ensure_private(path.with_name(path.name + suffix))


def fetch(connection: sqlite3.Connection, statement: Statement) -> list[tuple[Any, ...]]:
    """Run a statement; its rows are tuples, whatever the connection makes of them otherwise."""
    with closing(connection.cursor()) as cursor:  # else one that failed keeps the file open as long as its error lives
        cursor.row_factory = None
        return cursor.execute(statement.sql, statement.values).fetchall()


class Reader:
    """A connection that only reads, on a thread of its own: whoever reads through another one never waits for it."""

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, f"postroom {name}")
        self._connection: sqlite3.Connection | None = None

    async def run(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Return what `query` finds; it goes on in its thread when whoever asked is cancelled. Raises OutboxError."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, query)

    def close(self) -> None:
        """End once what was asked for is read."""
        self._thread.submit(self._close)
        self._thread.shutdown()

    def _run(self, query: Callable[[sqlite3.Connection], T]) -> T:
        try:
            if self._connection is None:
                self._connection = connect(self._path)
                self._connection.execute("PRAGMA query_only = ON")
            return query(self._connection)
        except sqlite3.Error as error:
            raise explained(error, self._path) from error

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Readers:
    """The readers of a process: searches, which may take seconds, and large messages keep nobody else waiting."""

    def __init__(self, path: Path) -> None:
        self.quick = Reader(path, "reads")
        self.searching = Reader(path, "searches")
        self.large = Reader(path, "large messages")

    def close(self) -> None:
        for reader in (self.quick, self.searching, self.large):
            reader.close()


class FileIdentity:
    """Whether the file at a path is still the one that was opened.

    A file that was removed or replaced takes writes as before, and all of them are lost: SQLite does not notice.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened = self._now()

    def check(self) -> None:
        """Raise OutboxError for another file, or none. Costs a microsecond."""
        if self._now() != self._opened:
            raise OutboxError(
                f"{self._path} was removed or replaced while this process had it open; nothing was accepted. End "
                "every process that uses it, put the right file there, and start them again"
            )

    def _now(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino


class Writer:
    """Runs operations on the one connection that writes. An operation may run twice, so it only touches that.

    What is asked for in one iteration of the loop, or while a transaction is being written, is in the next one
    together. When one operation fails the transaction is undone, and each runs in one of its own. A writer
    belongs to one event loop. The gateway's keys, counters and quotas are tables of the same file and are written
    through the same writer (`SqliteStore.write`), so that they share its transactions too.
    """

    # Why a batch is gathered: durability costs one fsync per transaction, whatever is in it. Callers who come while
    # one is being written would queue for the lock anyway; together they pay once. Why a thread of its own: the fsync
    # must not stop the loop, and SQLite allows one writer, so more threads would only wait for each other.

    def __init__(self, connection: sqlite3.Connection, path: Path, busy_timeout: float = BUSY_TIMEOUT) -> None:
        self._connection = connection
        self._path = path
        self._busy_timeout = busy_timeout
        connection.execute(f"PRAGMA busy_timeout = {_LOOK_AGAIN_MS}")
        self._identity = FileIdentity(path)
        self._asked: list[_Request] = []
        self._requests: queue.SimpleQueue[list[_Request] | None] = queue.SimpleQueue()
        self._waiting: list[_Request] = []
        self._ending = False
        self._thread = threading.Thread(target=self._serve, name="postroom outbox", daemon=True)
        self._thread.start()
        self._failure = ""
        self._begun = 0.0
        self._synced = True
        self.transactions = 0

    def check_file(self) -> None:
        """Raise OutboxError when the file was removed or replaced."""
        self._identity.check()

    @property
    def trouble(self) -> str:
        """Why nothing can be written now, as the last transaction found, or one that is still waiting; else empty."""
        waiting = time.monotonic() - self._begun if self._begun else 0.0
        if waiting > STUCK_AFTER:
            return f"{self._path}: a transaction has been waiting for {waiting:.0f} seconds; look who keeps it locked"
        return self._failure

    async def run(
        self,
        operation: Callable[[sqlite3.Connection], Any],
        then: Callable[[sqlite3.Connection, Any], Any] | None = None,
        *,
        synced: bool = True,
    ) -> Any:
        """Run `operation` in a transaction and return its answer once that is on disk; `then` makes more of it.

        What is not `synced` survives the end of the process, and the loss of power from the next transaction on that
        is: what is counted of a message is there at the latest when the message is.

        `then` gets the answer and reads what belongs to it, after the transaction: SQLite undoes one in which a damaged
        page was met, with all that it did for others. Raises what they raised, or OutboxError when the file cannot be
        written, or another process keeps it locked for longer than this task waits (`stored_within`) or BUSY_TIMEOUT.
        Being cancelled does not undo it.
        """
        loop = asyncio.get_running_loop()
        until = min(time.monotonic() + self._busy_timeout, deadline())
        request = _Request(operation, then, loop.create_future(), until, synced)
        if not self._asked:
            loop.call_soon(self._hand_on)
        self._asked.append(request)
        return await request.future

    def close(self) -> None:
        """End once everything asked for is written."""
        self._hand_on()
        self._requests.put(None)
        self._thread.join()
        self._connection.close()

    def _hand_on(self) -> None:
        asked, self._asked = self._asked, []
        if asked:
            self._requests.put(asked)

    def _serve(self) -> None:
        while True:
            self._waiting += self._more(block=not self._waiting)
            together, self._waiting = self._waiting, []
            if together:
                self._begun = time.monotonic()
                self._commit(together)
                self._begun = 0.0
            elif self._ending:
                return

    def _more(self, *, block: bool) -> list[_Request]:
        """Return what has been asked for meanwhile; with `block`, wait for it."""
        found: list[_Request] = []
        while not self._ending and ((block and not found) or not self._requests.empty()):
            more = self._requests.get()
            self._ending = more is None
            found += more or []
        return found

    def _commit(self, together: list[_Request]) -> None:
        try:
            self._transact(together)
        except BaseException as error:  # noqa: BLE001 - each caller gets its own error
            if len(together) > 1:
                for request in together:
                    self._commit([request])
                return
            together[0].error = error
        self._read_on(together)
        _answer(together)

    def _transact(self, together: list[_Request]) -> None:
        connection = self._connection
        try:
            self._sync(any(request.synced for request in together))
            self._begin(together)
            if not together:
                return
            for request in together:
                request.answer = request.operation(connection)
            self._identity.check()
            connection.execute("COMMIT")
            self.transactions += 1
            self._failure = ""
        except BaseException as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                mended = explained(error, self._path)
                self._failure = str(mended)
                raise mended from error
            raise

    def _sync(self, synced: bool) -> None:
        if synced != self._synced:
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if synced else 'NORMAL'}")
            self._synced = synced

    def _begin(self, together: list[_Request]) -> None:
        """Begin a transaction as soon as no other process has one, for those of `together` who wait that long.

        Whoever may wait no longer, and whoever asks meanwhile, has an error when their time is over, and nothing of
        theirs is done.
        """
        while together:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                    raise
                locked = str(explained(error, self._path))
            else:
                return
            self._waiting += self._more(block=False)
            for waiting in (together, self._waiting):
                self._give_up(waiting, locked)

    def _give_up(self, waiting: list[_Request], locked: str) -> None:
        """Answer those who may wait no longer, and leave the others in the list."""
        now = time.monotonic()
        overdue = [request for request in waiting if request.until <= now]
        waiting[:] = [request for request in waiting if request.until > now]
        for request in overdue:
            self._failure = locked
            request.error = OutboxError(locked)
        _answer(overdue)

    def _read_on(self, together: list[_Request]) -> None:
        for request in together:
            if request.then and request.error is None:
                try:
                    request.answer = request.then(self._connection, request.answer)
                except sqlite3.Error as error:
                    request.error = explained(error, self._path)
                except BaseException as error:  # noqa: BLE001 - each caller gets its own error
                    request.error = error


def explained(error: sqlite3.Error, path: Path) -> PostroomError:
    """Return the error a person can act on."""
    said, code = str(error), getattr(error, "sqlite_errorcode", None)
    if code == sqlite3.SQLITE_CONSTRAINT_TRIGGER:  # the outbox was copied, and the trigger says what to do
        return OutboxError(f"{path}: {said}")
    if code == sqlite3.SQLITE_BUSY:
        return OutboxError(f"{path}: {said}; another process kept it locked; nothing was accepted, end it or try again")
    for part, advice in _ADVICE.items():
        if part in said:
            return OutboxError(f"{path}: {said}; {advice}")
    return OutboxError(f"{path}: {said}; nothing was accepted, look at the file and try again")


def not_ready(error: sqlite3.Error, path: Path) -> PostroomError:
    """Return the error of a file that could not be opened, or its tables made."""
    if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_BUSY:
        return explained(error, path)
    return OutboxError(
        f"{path}: {error}; the outbox cannot be made ready while somebody keeps the file locked, maybe a "
        "transaction of this program; end that, or have the outbox made before, as `postroom worker --until-empty` does"
    )


_ADVICE = {
    "disk is full": "nothing was accepted; make room, and go on: what was accepted before is safe",
    "readonly": "nothing was accepted; give this user the right to write the file and its folder",
    "unable to open": "make its folder, and give this user the right to write there",
    "malformed": "the file is damaged; keep a copy, and restore a backup or run `sqlite3 FILE .recover`",
    "not a database": "name another file in [outbox] url",
    "disk I/O error": "nothing was accepted; look at the disk, and try again",
}


def _answer(together: list[_Request]) -> None:
    """Wake all who wait with one call into their loop."""
    if not together:
        return
    with suppress(RuntimeError):  # the loop has ended, and with it whoever waited
        together[0].future.get_loop().call_soon_threadsafe(_resolve, together)


def _resolve(requests: list[_Request]) -> None:
    for request in requests:
        if request.future.done():
            continue
        if request.error is not None:
            request.future.set_exception(request.error)
        else:
            request.future.set_result(request.answer)
