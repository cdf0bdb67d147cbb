"""The SQLite store: what others see of it."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from postroom.errors import OutboxError, PostroomError
from postroom.outbox.encryption import CredentialCipher
from postroom.outbox.sqlite import insert, query, update
from postroom.outbox.sqlite.database import BUSY_TIMEOUT, Writer, connect, explained
from postroom.outbox.sqlite.schema import prepare
from postroom.outbox.states import SETTLED
from postroom.outbox.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from postroom.config.outbox import OutboxSettings
    from postroom.events import Event
    from postroom.outbox.executor import MessageExecutor
    from postroom.outbox.records import (
        AccountHealth,
        EnqueueResult,
        MessageDetails,
        MessageFilter,
        MessageSummary,
        NewMessage,
        OutboxStats,
    )
    from postroom.outbox.sqlite import suppressions
    from postroom.outbox.states import Transition
    from postroom.outbox.storage import StopSignal
    from postroom.receipts import Receipt

T = TypeVar("T")

MOST_AT_ONCE = 500
"""Messages removed in one transaction, so that others get their hop."""


class SqliteStore:
    """Messages in one SQLite file; see `postroom.outbox.storage.Store`.

    Everything is opened when first needed. `clock` gives seconds since 1970; `busy_timeout` is how many seconds to
    wait for another process that keeps the file locked.
    """

    def __init__(
        self, settings: OutboxSettings, *, clock: Callable[[], float] = time.time, busy_timeout: float = BUSY_TIMEOUT
    ) -> None:
        self.settings = settings
        self.path = settings.path
        self.clock = clock
        self._busy_timeout = busy_timeout
        self.seal = CredentialCipher(self.path)
        self.added = asyncio.Event()
        self._opening = asyncio.Lock()
        self._reading = threading.Lock()
        self._reader: sqlite3.Connection | None = None
        self._writer: Writer | None = None
        self.secret = b""

    @property
    def transactions(self) -> int:
        """How many transactions were written since it was opened."""
        return self._writer.transactions if self._writer else 0

    async def open(self) -> None:
        """Make the file and its tables if need be."""
        async with self._opening:
            if self._writer is None:
                await asyncio.to_thread(self._open)

    async def close(self) -> None:
        """Write what was asked for, and close the file."""
        async with self._opening:
            writer, self._writer = self._writer, None
            if writer is not None:
                await asyncio.to_thread(writer.close)
            if self._reader is not None:
                self._reader.close()
                self._reader = None

    async def write(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """Run `operation` in a transaction of the writer; see `Writer.run`."""
        if self._writer is None:
            await self.open()
        assert self._writer
        return await self._writer.run(operation)

    async def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Run a query that may take long, in a thread."""
        await self.open()
        return await asyncio.to_thread(self._read, query)

    async def add(self, entries: Sequence[NewMessage]) -> list[EnqueueResult | PostroomError]:
        """See `Store.add`."""
        if self._writer is None:
            await self.open()
        prepared = [insert.prepare_entry(entry, self.seal, self.secret) for entry in entries]
        now = self.clock()
        answers = await self.write(lambda connection: insert.add(connection, prepared, now))
        self.added.set()
        return answers

    async def run(self, executor: MessageExecutor, *, stop: StopSignal, until_empty: bool = False) -> None:
        """See `Store.run`."""
        await self.open()
        await Worker(self, executor, until_empty=until_empty).run(stop)

    async def change(self, id_: str, move: Transition, *, tenant: str | None = None, note: str = "") -> Receipt:
        """See `Store.change`."""
        now = self.clock()
        receipt = await self.write(lambda c: update.change(c, id_, move, now, tenant=tenant, note=note))
        self.added.set()
        return receipt

    async def record(self, event: Event, suppression: suppressions.Row | None = None) -> Receipt | None:
        """See `Store.record`."""
        now = self.clock()
        return await self.write(lambda c: update.record(c, event, now, suppression))

    async def find(self, id_: str, *, tenant: str | None = None) -> MessageDetails | None:
        """See `Store.find`."""
        return await self.read(lambda c: query.find(c, id_, tenant))

    async def list(self, where: MessageFilter) -> list[MessageSummary]:
        """See `Store.list`."""
        return await self.read(lambda c: query.listed(c, where))

    async def stats(self) -> OutboxStats:
        """See `Store.stats`."""
        return await self.read(query.stats)

    async def health(self) -> dict[str, AccountHealth]:
        """See `Store.health`."""
        return await self.read(query.health)

    async def resume(self, account: str) -> bool:
        """See `Store.resume`."""
        ended = await self.write(lambda c: update.resume(c, account))
        self.added.set()
        return ended

    async def purge(self, where: MessageFilter) -> int:
        """See `Store.purge`."""
        removed = 0
        while True:
            page = replace(where, limit=MOST_AT_ONCE)
            lines = await self.list(page)
            seqs = [line.seq for line in lines if line.status in SETTLED]
            if seqs:
                removed += await self.write(partial(update.purge, seqs=seqs))
            if len(lines) < MOST_AT_ONCE:
                return removed
            where = replace(where, before_seq=lines[-1].seq)

    def _read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        with self._reading:
            if self._reader is None:
                self._reader = connect(self.path, any_thread=True)
                self._reader.execute("PRAGMA query_only = ON")
            try:
                return query(self._reader)
            except sqlite3.Error as error:
                raise explained(error, self.path) from error

    def _make_private(self) -> None:
        """Make the file readable by its owner only; what SQLite puts beside it takes the same rights."""
        with suppress(OSError):
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL, 0o600))

    def _open(self) -> None:
        if not self.path.parent.is_dir():
            raise OutboxError(f"{self.path}: its folder does not exist; make it, or name another in [outbox] url")
        self._make_private()
        connection = connect(self.path, any_thread=True, busy_timeout=self._busy_timeout)
        try:
            prepare(connection, self.path)
            self.secret = insert.salt(connection)
        except sqlite3.Error as error:
            connection.close()
            raise explained(error, self.path) from error
        except BaseException:
            connection.close()
            raise
        self._writer = Writer(connection, self.path)
