"""The gateway's records: read at once, written through the outbox's one writer."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from postroom.gateway.access import rate_limits, reservations, sqlite
from postroom.gateway.access.keys import digest
from postroom.gateway.access.rate_limits import Ask, Counted, Denied, Granted, TokenBatches
from postroom.outbox.sqlite.database import connect
from postroom.outbox.sqlite.store import SqliteStore

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncIterator, Sequence

    from postroom.config.gateway import GatewaySettings
    from postroom.config.model import Config
    from postroom.gateway.access.keys import Key
    from postroom.gateway.access.reservations import Booking


class AccessStorage:
    """Keys and what they used. Times are Unix seconds of the store's clock."""

    def __init__(self, store: SqliteStore, settings: GatewaySettings) -> None:
        self._store = store
        self._settings = settings
        self.region = settings.region
        self._clock = store.clock
        self._lots = TokenBatches(store.clock)
        self._connection: sqlite3.Connection | None = None
        self._known: dict[str, Key] = {}
        self._version = -1

    async def open(self) -> None:
        """Open the store, and a connection for what is read while a request waits: a few microseconds each."""
        if self._connection is None:
            await self._store.open()
            self._connection = connect(self._store.path)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @property
    def secret(self) -> bytes:
        """The random key of this outbox, for signatures only it needs to know."""
        return self._store.secret

    @property
    def _reader(self) -> sqlite3.Connection:
        assert self._connection is not None, "the ledger is not open"
        return self._connection

    def key(self, text: str) -> Key | None:
        """Return the key whose text this is, as it is at this moment in the file: a revocation counts at once."""
        version = self._reader.execute("PRAGMA data_version").fetchone()[0]
        if version != self._version:  # somebody wrote, maybe about a key
            self._known.clear()
            self._version = version
        looked_for = digest(text)
        found = self._known.get(looked_for) or sqlite.key_with_digest(self._reader, looked_for)
        if found is None or not found.fits(text):
            return None
        self._known[looked_for] = found
        return found

    def all_keys(self) -> list[Key]:
        return sqlite.all_keys(self._reader)

    async def add(self, key: Key) -> None:
        await self._store.write(lambda connection: sqlite.add_key(connection, key))

    async def revoke(self, key_id: str) -> bool:
        return await self._store.write(lambda connection: sqlite.revoke_key(connection, key_id, self._clock()))

    async def lift(self, key_id: str) -> bool:
        return await self._store.write(lambda connection: sqlite.lift_suspension(connection, key_id))

    async def take(self, key_id: str, counted: Counted, cost: int = 1) -> Granted | Denied | None:
        """Count `cost` requests or messages of a key; None when nothing limits them."""
        if not rate_limits.limits_of(self._settings, counted):
            return None
        if granted := self._lots.use(key_id, counted, cost):
            return granted
        async with self._lots.turn(key_id, counted):
            return self._lots.use(key_id, counted, cost) or await self._take(Ask(key_id, counted, cost, self._clock()))

    async def book(self, key_id: str, wanted: Sequence[Sequence[Booking]]) -> list[float]:
        """Count messages of a key that are accepted in any case; see `reservations.book`."""
        now = self._clock()
        return await self._store.write(lambda connection: reservations.book(connection, key_id, wanted, now))

    async def _take(self, ask: Ask) -> Granted | Denied:
        answer = await self._store.write(lambda connection: rate_limits.take(connection, ask, self._settings))
        if isinstance(answer, Granted):
            self._lots.keep(ask, answer)
        return answer


@asynccontextmanager
async def open_access_storage(config: Config) -> AsyncIterator[AccessStorage]:
    """Open the records of a configuration's outbox alone, for a command."""
    store = SqliteStore(config.outbox)
    access_storage = AccessStorage(store, config.gateway)
    try:
        await access_storage.open()
        yield access_storage
    finally:
        access_storage.close()
        await store.close()
