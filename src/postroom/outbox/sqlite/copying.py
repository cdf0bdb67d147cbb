"""A file's rows as they are, for a copy of the whole outbox: read in the order of their keys, written, and fenced."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

from postroom.errors import OutboxError
from postroom.outbox.copy_mark import CopyMark
from postroom.outbox.sqlite import damage
from postroom.outbox.sqlite.begun import carry_over, path_of_worker, revoke
from postroom.outbox.sqlite.database import explained
from postroom.outbox.sqlite.schema import APPLICATION_ID
from postroom.outbox.tables import BEGUN, BYTES_AT_ONCE, NUMBERED, TABLES, Kind
from postroom.receipts import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from postroom.outbox.encryption import CredentialCipher
    from postroom.outbox.sqlite.store import SqliteStore
    from postroom.outbox.tables import Row, Table

_STORED = tuple(table for table in TABLES if table is not BEGUN)
_SENT_FILES = "(SELECT hash, content FROM files WHERE hash IN (SELECT hash FROM message_files)) AS files"

Workers = dict[int, tuple[str, int]]


class SqliteCopyStorage:
    """See `postroom.outbox.storage.CopyStorage`."""

    # Every write of anybody runs into the triggers of a fenced file, also those of a process that had it open before,
    # and of an older postroom that knows nothing of marks. The copy's own transactions say who they are by a row of
    # `meta` that no other connection ever sees, since they remove it before they end.

    def __init__(self, store: SqliteStore) -> None:
        self._store = store

    @property
    def place(self) -> str:
        return str(self._store.path.resolve())

    @property
    def cipher(self) -> CredentialCipher:
        return self._store.cipher

    async def mark(self) -> CopyMark | None:
        return await asyncio.to_thread(_mark_at, self._store.path)

    async def open(self) -> None:
        await asyncio.to_thread(_open_nowhere_else, self._store.path)
        await self._store.open()

    async def close(self) -> None:
        await self._store.close()

    async def salt(self) -> bytes:
        return await self._store.search(_salt)

    async def workers(self) -> Workers:
        return await self._store.search(_workers)

    async def counts(self) -> dict[str, int]:
        path = self._store.path
        return await self._store.search(lambda c: {**_counts(c), BEGUN.name: len(_begun(c, path))})

    async def numbers(self) -> dict[str, int]:
        return await self._store.search(_numbers)

    async def credentials(self, limit: int) -> list[tuple[str, bytes]]:
        select = "SELECT id, options FROM bodies JOIN messages USING (seq) WHERE typeof(options) = 'blob' LIMIT ?"
        return await self._store.search(lambda c: c.execute(select, (limit,)).fetchall())

    async def rows(self, table: Table, after: Sequence[Any], limit: int) -> list[Row]:
        path = self._store.path
        if table is BEGUN:
            return [] if after else await self._store.search(lambda c: _begun(c, path))
        return await self._store.search(lambda c: _rows(c, table, after, limit, path))

    async def fill(self, before: CopyMark | None, mark: CopyMark, salt: bytes) -> None:
        def fill(connection: sqlite3.Connection) -> None:
            if before is not None and before.is_fenced:
                for table in reversed(_STORED):
                    connection.execute(f"DELETE FROM {table.name}")
            elif held := [f"{count} {name}" for name, count in _counts(connection).items() if count]:
                raise OutboxError(
                    f"{self.place} is not empty ({', '.join(held)}); name a file that is not there, or empty"
                )
            for left in ("files", "early_files"):  # contents whose messages never came
                connection.execute(f"DELETE FROM {left}")
            connection.execute("UPDATE meta SET value = ? WHERE name = 'salt'", (salt,))

        await self._step(before, mark, fill)
        self._store.secret = salt

    async def add(self, before: CopyMark, mark: CopyMark, table: Table, rows: Sequence[Row]) -> None:
        values = ", ".join("?" for _ in table.columns)
        path = self._store.path

        def add(connection: sqlite3.Connection) -> None:
            if table is BEGUN:
                _keep_begun(connection, path, rows)
            else:
                connection.executemany(f"INSERT INTO {table.name} ({table.listed}) VALUES ({values})", rows)

        await self._step(before, mark, add)

    async def complete(self, before: CopyMark, mark: CopyMark, numbers: Mapping[str, int]) -> None:
        def number(connection: sqlite3.Connection) -> None:  # messages and events go on from their last by themselves
            connection.execute("DELETE FROM sqlite_sequence WHERE name = 'workers'")
            connection.execute("INSERT INTO sqlite_sequence VALUES ('workers', ?)", (numbers["workers"],))

        await self._step(before, mark, number)

    async def leave(self, before: CopyMark | None, mark: CopyMark, workers: Mapping[int, tuple[str, int]]) -> None:
        def check(connection: sqlite3.Connection) -> None:
            if _workers(connection) != workers:
                raise OutboxError(f"{self.place}: a worker came meanwhile; end it, and copy then")

        await self._step(before, mark, check)
        for number in workers:  # one that is frozen may wake: from now on it begins nothing more
            revoke(path_of_worker(self._store.path, number))

    async def put_mark(self, before: CopyMark, mark: CopyMark) -> None:
        await self._step(before, mark, lambda _: None)

    async def _step(
        self, before: CopyMark | None, mark: CopyMark, change: Callable[[sqlite3.Connection], None]
    ) -> None:
        def step(connection: sqlite3.Connection) -> None:
            if _mark(connection) != before:
                raise OutboxError(f"{self.place}: somebody else copies it at this moment; let that one end")
            connection.execute("INSERT INTO meta VALUES ('copying', NULL)")
            change(connection)
            connection.execute("REPLACE INTO meta VALUES ('copy', ?)", (mark.dump(),))
            if before is None or before.notice != mark.notice:
                _fence(connection, mark)
            connection.execute("DELETE FROM meta WHERE name = 'copying'")

        await self._store.write(step)


def _fence(connection: sqlite3.Connection, mark: CopyMark) -> None:
    """Refuse every write but those of a copy, or no more."""
    notice = mark.notice.replace("'", "''")
    for table in _STORED:
        for event in ("INSERT", "UPDATE", "DELETE"):
            name = f"fence_{table.name}_{event.lower()}"
            connection.execute(f"DROP TRIGGER IF EXISTS {name}")
            if mark.is_fenced:
                connection.execute(
                    f"CREATE TRIGGER {name} BEFORE {event} ON {table.name} "
                    "WHEN NOT EXISTS (SELECT 1 FROM meta WHERE name = 'copying') "
                    f"BEGIN SELECT RAISE(ABORT, '{notice}'); END"
                )


def _mark(connection: sqlite3.Connection) -> CopyMark | None:
    found = connection.execute("SELECT value FROM meta WHERE name = 'copy'").fetchone()
    return CopyMark.load(found[0]) if found else None


def _mark_at(path: Path) -> CopyMark | None:
    """The mark of a file that may not be there, nor be an outbox."""
    if not path.exists():
        return None
    try:
        with closing(sqlite3.connect(path)) as connection:
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
                return None
            return _mark(connection)
    except sqlite3.Error as error:
        raise explained(error, path) from error


def _open_nowhere_else(path: Path) -> None:
    """Raise OutboxError where another connection has the file: SQLite leaves the WAL mode only for the last one."""
    if not path.exists():
        return
    try:
        with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as connection:
            if connection.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID:
                connection.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
            raise OutboxError(
                f"{path} is open in another process; end every worker, gateway and program that uses it (`fuser "
                f"{path}` shows them), and copy then"
            ) from error
        raise explained(error, path) from error


def _salt(connection: sqlite3.Connection) -> bytes:
    found: bytes = connection.execute("SELECT value FROM meta WHERE name = 'salt'").fetchone()[0]
    return found


def _workers(connection: sqlite3.Connection) -> Workers:
    rows = connection.execute("SELECT number, name, heartbeats FROM workers").fetchall()
    return {number: (name, heartbeats) for number, name, heartbeats in rows}


def _counts(connection: sqlite3.Connection) -> dict[str, int]:
    return {table.name: connection.execute(f"SELECT count(*) FROM {_source(table)}").fetchone()[0] for table in _STORED}


def _source(table: Table) -> str:
    """What is read of a table: contents that came early, and whose messages are not here, stay."""
    return _SENT_FILES if table.name == "files" else table.name


def _numbers(connection: sqlite3.Connection) -> dict[str, int]:
    found = {
        table: connection.execute(f"SELECT coalesce(max({column}), 0) FROM {table}").fetchone()[0]
        for table, column in NUMBERED.items()
    }
    given = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'workers'").fetchone()
    return {**found, "workers": given[0] if given else 0}


def _rows(connection: sqlite3.Connection, table: Table, after: Sequence[Any], limit: int, path: Path) -> list[Row]:
    key = ", ".join(table.key)
    behind = f"WHERE ({key}) > ({', '.join('?' for _ in after)}) " if after else ""
    found: list[Row] = []
    size = 0
    with damage.tolerated(connection):
        rows = connection.execute(
            f"SELECT {table.listed} FROM {_source(table)} {behind}ORDER BY {key} LIMIT ?", (*after, limit)
        )
        for row in rows:
            found.append(_sound(table, row, path))
            size += sum(len(value) for value in row if isinstance(value, bytes | str))
            if size >= BYTES_AT_ONCE:
                break
    return found


def _sound(table: Table, row: Row, path: Path) -> Row:
    """Return a row as every engine can keep it: what is damaged stays unreadable, or keeps the copy from going on."""
    values = []
    for (column, kind), value in zip(table.columns.items(), row, strict=True):
        if value is None or isinstance(value, _TYPES[kind]):
            values.append(bool(value) if kind is Kind.BOOLEAN and value is not None else value)
        elif kind is Kind.JSON:
            values.append(f"\N{REPLACEMENT CHARACTER}{damage.text(value)}".replace("\0", ""))
        elif table.name == "files":
            values.append(b"")  # which is not what its hash says, and so counts as missing
        else:
            raise OutboxError(
                f"{path}: {column} of a row of {table.name} is damaged (its key is {table.key_of(row)}); take the "
                "outbox back with `postroom outbox copy` in the other direction, let a worker set the message aside, "
                "or purge it, and copy then"
            )
    return tuple(values)


def _begun(connection: sqlite3.Connection, path: Path) -> list[Row]:
    """What workers that are gone had begun, of what they have in hand; all of it where they left no marks."""
    found: list[Row] = []
    owned: dict[int, set[tuple[int, int]]] = {}
    for owner, seq, attempts in connection.execute(_IN_HAND):
        owned.setdefault(owner, set()).add((seq, attempts))
    for owner, claims in owned.items():
        begun = revoke(path_of_worker(path, owner))
        found += claims if begun is None else claims & begun
    return sorted(found)


def _keep_begun(connection: sqlite3.Connection, path: Path, rows: Iterable[Row]) -> None:
    begun = set(rows)
    owned: dict[int, set[tuple[int, int]]] = {}
    for owner, seq, attempts in connection.execute(_IN_HAND):
        owned.setdefault(owner, set()).update({(seq, attempts)} & begun)
    for owner, claims in owned.items():
        carry_over(path_of_worker(path, owner), claims)


_IN_HAND = f"SELECT owner, seq, attempts FROM messages WHERE status = '{Status.SENDING}' AND owner IS NOT NULL"
_TYPES: dict[Kind, type | tuple[type, ...]] = {
    Kind.TEXT: str,
    Kind.JSON: str,
    Kind.INTEGER: int,
    Kind.REAL: (float, int),
    Kind.BOOLEAN: int,
    Kind.BYTES: bytes,
}
