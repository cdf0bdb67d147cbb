"""Access storage in the SQLite outbox's own file: reads on a connection of its own, writes through the one writer."""

from __future__ import annotations

import json
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from postroom.gateway.access.keys import KEY_COLUMNS, key_of_row
from postroom.gateway.access.sliding_window import SlidingWindow, slots_of_text
from postroom.outbox.sqlite import damage
from postroom.outbox.sqlite.database import connect, explained
from postroom.outbox.sqlite.store import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from postroom.gateway.access.keys import ApiKey
    from postroom.gateway.access.storage import Counter, KeyMark, T
    from postroom.outbox.storage import Store

_INSERT_KEY = f"INSERT INTO api_keys ({KEY_COLUMNS}) VALUES (?, ?, ?, ?, ?, NULL, NULL, NULL)"  # noqa: S608 - our own column names
_SELECT_KEYS = f"SELECT {KEY_COLUMNS} FROM api_keys"  # noqa: S608 - as above
_MARK_KEY = {
    "flagged": "UPDATE api_keys SET flagged_at = ? WHERE id = ? AND flagged_at IS NULL",
    "suspended": "UPDATE api_keys SET suspended_at = ? WHERE id = ? AND suspended_at IS NULL",
}


class SqliteAccessStorage:
    """See `postroom.gateway.access.storage.AccessStorage`."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self._connection: sqlite3.Connection | None = None
        self._cached: dict[str, ApiKey] = {}
        self._data_version = -1

    @classmethod
    def beside(cls, store: Store) -> Self | None:
        """Return the storage in an outbox's file, or None when that is no file of SQLite."""
        return cls(store) if isinstance(store, SqliteStore) else None

    async def open(self) -> None:
        if self._connection is None:
            await self._store.open()
            self._connection = connect(self._store.path)

    async def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @property
    def secret(self) -> bytes:
        return self._store.secret

    async def ping(self) -> None:
        await self._store.check()

    async def find_key(self, digest: str) -> ApiKey | None:
        # Read on the event loop: a few microseconds each, where a thread would cost a hundred.
        with self._explained():
            version = self._reader.execute("PRAGMA data_version").fetchone()[0]
            if version != self._data_version:  # somebody wrote, maybe about a key
                self._cached.clear()
                self._data_version = version
            found = self._cached.get(digest)
            if found is None:
                with damage.tolerated(self._reader):
                    row = self._reader.execute(f"{_SELECT_KEYS} WHERE digest = ?", [digest]).fetchone()
                found = key_of_row(row) if row else None
                if found is not None:
                    self._cached[digest] = found
            return found

    async def list_keys(self) -> list[ApiKey]:
        with self._explained(), damage.tolerated(self._reader):
            rows = self._reader.execute(f"{_SELECT_KEYS} ORDER BY created_at, id").fetchall()
        return [key for row in rows if (key := key_of_row(row))]

    async def add_key(self, key: ApiKey) -> None:
        row = (key.id, key.name, key.digest, key.scope.model_dump_json(), key.created_at.timestamp())
        await self._store.write(lambda connection: connection.execute(_INSERT_KEY, row))

    async def revoke_key(self, key_id: str, now: float) -> bool:
        return await self._changes("UPDATE api_keys SET revoked_at = ifnull(revoked_at, ?) WHERE id = ?", now, key_id)

    async def unsuspend_key(self, key_id: str) -> bool:
        def unsuspend(connection: sqlite3.Connection) -> bool:
            lift = "UPDATE api_keys SET flagged_at = NULL, suspended_at = NULL WHERE id = ?"
            found = connection.execute(lift, [key_id]).rowcount > 0
            connection.execute("DELETE FROM api_counts WHERE key_id = ?", [key_id])
            return found

        return await self._store.write(unsuspend)

    async def mark_key(self, key_id: str, mark: KeyMark, now: float) -> bool:
        return await self._changes(_MARK_KEY[mark], now, key_id)

    async def update_windows(
        self, key_id: str, counters: Sequence[Counter], update: Callable[[list[SlidingWindow]], T]
    ) -> T:
        def transaction(connection: sqlite3.Connection) -> T:
            windows = [_read_window(connection, key_id, counter) for counter in counters]
            result = update(windows)
            rows = [
                (key_id, counter.label, json.dumps([*window.slots.items()]), window.stale_at())
                for counter, window in zip(counters, windows, strict=True)
                if window.changed
            ]
            connection.executemany("INSERT OR REPLACE INTO api_counts VALUES (?, ?, ?, ?)", rows)
            return result

        return await self._store.write(transaction, synced=False)  # with the message that is counted, at the latest

    async def delete_stale_windows(self, now: float) -> None:
        await self._store.write(lambda c: c.execute("DELETE FROM api_counts WHERE stale_at < ?", [now]))

    @property
    def _reader(self) -> sqlite3.Connection:
        assert self._connection is not None, "the access storage is not open"
        return self._connection

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise explained(error, self._store.path) from error

    async def _changes(self, statement: str, *values: object) -> bool:
        return await self._store.write(lambda connection: connection.execute(statement, values).rowcount > 0)


def _read_window(connection: sqlite3.Connection, key_id: str, counter: Counter) -> SlidingWindow:
    query = "SELECT slots FROM api_counts WHERE key_id = ? AND name = ?"
    with damage.tolerated(connection):
        row = connection.execute(query, (key_id, counter.label)).fetchone()
    return SlidingWindow(counter.limit, slots_of_text(row[0]) if row else {})
