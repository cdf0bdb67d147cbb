"""A schema's rows as they are, for a copy of the whole outbox: read in the order of their keys, written, and fenced."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from postroom.errors import OutboxError
from postroom.outbox.copy_mark import CopyMark
from postroom.outbox.tables import BEGUN, BYTES_AT_ONCE, NUMBERED, TABLES, Kind
from postroom.receipts import Status

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from asyncpg import Connection

    from postroom.outbox.encryption import CredentialCipher
    from postroom.outbox.postgres.store import PostgresStore
    from postroom.outbox.tables import Row, Table

LONG = 3600.0
"""Seconds for a statement that looks at a whole table."""

ENDING = 30.0
"""Seconds in which the server notices that a process has ended, and with it what its connections had begun."""

Workers = dict[int, tuple[str, int]]


class PostgresCopyStorage:
    """See `postroom.outbox.storage.CopyStorage`."""

    # Every write of anybody runs into the triggers of a fenced schema, also those of a process that was connected
    # before. The copy's own transactions say who they are by a setting that ends with them.

    def __init__(self, store: PostgresStore) -> None:
        self._store = store

    @property
    def place(self) -> str:
        return self._store.location.shown

    @property
    def cipher(self) -> CredentialCipher:
        return self._store.cipher

    async def mark(self) -> CopyMark | None:
        return await self._store.read(_mark)

    async def open(self) -> None:
        await self._store.open()
        until = time.monotonic() + ENDING
        while others := await self._store.read(lambda c: c.fetchval(_OTHERS)):
            if time.monotonic() > until:
                raise OutboxError(
                    f"{self.place} is in use by {others} other connections; end every worker, gateway and program that "
                    "uses it, and copy then"
                )
            await asyncio.sleep(0.1)

    async def close(self) -> None:
        await self._store.close()

    async def salt(self) -> bytes:
        salt: bytes = await self._store.read(lambda c: c.fetchval("SELECT value FROM meta WHERE name = 'salt'"))
        return salt

    async def workers(self) -> Workers:
        return await self._store.read(_workers)

    async def counts(self) -> dict[str, int]:
        return await self._store.read(_counts)

    async def numbers(self) -> dict[str, int]:
        return await self._store.read(_numbers)

    async def credentials(self, limit: int) -> list[tuple[str, bytes]]:
        select = "SELECT id, options FROM bodies JOIN messages USING (seq) WHERE options IS NOT NULL LIMIT $1"
        return [tuple(row) for row in await self._store.read(lambda c: c.fetch(select, limit))]

    async def rows(self, table: Table, after: Sequence[Any], limit: int) -> list[Row]:
        return await self._store.read(lambda c: _rows(c, table, after, limit))

    async def fill(self, before: CopyMark | None, mark: CopyMark, salt: bytes) -> None:
        async def fill(connection: Connection) -> None:
            if before is not None and before.is_fenced:
                await connection.execute(f"TRUNCATE {', '.join(table.name for table in TABLES)}")
            elif held := [f"{count} {name}" for name, count in (await _counts(connection)).items() if count]:
                raise OutboxError(
                    f"{self.place} is not empty ({', '.join(held)}); name a schema that is not there (`?schema=`), "
                    "or empty"
                )
            await connection.execute("UPDATE meta SET value = $1 WHERE name = 'salt'", salt)

        await self._step(before, mark, fill)
        self._store.secret = salt

    async def add(self, before: CopyMark, mark: CopyMark, table: Table, rows: Sequence[Row]) -> None:
        records = [_typed(table, row) for row in rows]

        async def add(connection: Connection) -> None:
            await connection.copy_records_to_table(
                table.name, records=records, columns=[*table.columns], schema_name=self._store.location.schema
            )

        await self._step(before, mark, add)

    async def complete(self, before: CopyMark, mark: CopyMark, numbers: Mapping[str, int]) -> None:
        async def number(connection: Connection) -> None:
            # So that a worker takes over what is in the hands of one that was not even on the list.
            await connection.execute(_LIST_OWNERS)
            for table, column in NUMBERED.items():
                last = max(numbers[table], await connection.fetchval(f"SELECT coalesce(max({column}), 0) FROM {table}"))
                await connection.execute(_SET_NUMBER, table, column, max(last, 1), last > 0)
            # The server would notice after a minute what the tables hold, and until then plan claims for empty ones.
            await connection.execute(f"ANALYZE {', '.join(table.name for table in TABLES)}", timeout=LONG)

        await self._step(before, mark, number)

    async def leave(self, before: CopyMark | None, mark: CopyMark, workers: Mapping[int, tuple[str, int]]) -> None:
        async def check(connection: Connection) -> None:
            if await _workers(connection) != workers:
                raise OutboxError(f"{self.place}: a worker came meanwhile; end it, and copy then")

        await self._step(before, mark, check)

    async def put_mark(self, before: CopyMark, mark: CopyMark) -> None:
        await self._step(before, mark, _nothing)

    async def _step(
        self, before: CopyMark | None, mark: CopyMark, change: Callable[[Connection], Awaitable[None]]
    ) -> None:
        async def step(connection: Connection) -> None:
            await connection.execute("SELECT set_config('postroom.copying', 'yes', true)")
            await connection.execute("LOCK TABLE meta IN SHARE ROW EXCLUSIVE MODE")
            if await _mark(connection) != before:
                raise OutboxError(f"{self.place}: somebody else copies it at this moment; let that one end")
            if before is None or before.notice != mark.notice:
                await connection.execute(_fence(mark))  # first: it waits for whoever writes, and then nobody does
            await change(connection)
            await connection.execute(_PUT_MARK, mark.dump())

        await self._store.write(step)


async def _nothing(_: Connection) -> None:
    """Change nothing but the mark."""


def _fence(mark: CopyMark) -> str:
    """Refuse every write but those of a copy, or no more."""
    notice = mark.notice.replace("'", "''")
    names = [table.name for table in TABLES] + ["meta"]
    if not mark.is_fenced:
        return ";".join(f"DROP TRIGGER IF EXISTS fence ON {name}" for name in names)
    function = (
        "CREATE OR REPLACE FUNCTION refuse_writes() RETURNS trigger LANGUAGE plpgsql AS $fence$ BEGIN "
        "IF current_setting('postroom.copying', true) IS DISTINCT FROM 'yes' THEN "
        f"RAISE EXCEPTION USING MESSAGE = '{notice}'; END IF; RETURN NULL; END $fence$"
    )
    triggers = [
        f"CREATE OR REPLACE TRIGGER fence BEFORE INSERT OR UPDATE OR DELETE ON {name} "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_writes()"
        for name in names
    ]
    return ";".join([function, *triggers])


async def _mark(connection: Connection) -> CopyMark | None:
    return CopyMark.load(await connection.fetchval("SELECT value FROM meta WHERE name = 'copy'"))


async def _workers(connection: Connection) -> Workers:
    rows = await connection.fetch("SELECT number, name, heartbeats FROM workers")
    return {number: (name, heartbeats) for number, name, heartbeats in rows}


async def _counts(connection: Connection) -> dict[str, int]:
    return {
        table.name: await connection.fetchval(
            f"SELECT count(*) FROM {_SOURCES.get(table.name, table.name)}", timeout=LONG
        )
        for table in TABLES
    }


async def _numbers(connection: Connection) -> dict[str, int]:
    return {table: await connection.fetchval(_LAST_NUMBER, table, column) or 0 for table, column in NUMBERED.items()}


async def _rows(connection: Connection, table: Table, after: Sequence[Any], limit: int) -> list[Row]:
    key = ", ".join(table.key)
    behind = f"WHERE ({key}) > ({', '.join(f'${place + 2}' for place, _ in enumerate(after))}) " if after else ""
    select = f"SELECT {table.listed} FROM {_SOURCES.get(table.name, table.name)} {behind}ORDER BY {key} LIMIT $1"
    found: list[Row] = []
    size = 0
    async with connection.transaction(readonly=True):
        async for row in connection.cursor(select, limit, *after, prefetch=4 if table.has_files else 200):
            found.append(tuple(row))
            size += sum(len(value) for value in row if isinstance(value, bytes | str))
            if size >= BYTES_AT_ONCE:
                break
    return found


def _typed(table: Table, row: Row) -> Row:
    return tuple(
        value if value is None else _TYPES[kind](value) if kind in _TYPES else value
        for kind, value in zip(table.columns.values(), row, strict=True)
    )


_TYPES: dict[Kind, Callable[[Any], Any]] = {Kind.REAL: float, Kind.BOOLEAN: bool}
_SOURCES = {
    BEGUN.name: (
        "(SELECT b.seq, b.attempts FROM begun b JOIN messages m ON m.seq = b.seq AND m.attempts = b.attempts "
        f"WHERE m.status = '{Status.SENDING}') AS begun"
    )
}
"""What is read in place of a table: marks stay until their message is begun anew."""

_OTHERS = (
    "SELECT count(*) FROM pg_stat_activity a, pg_stat_activity me WHERE me.pid = pg_backend_pid() AND a.pid <> me.pid "
    "AND a.datname = me.datname AND a.application_name = me.application_name"
)
_PUT_MARK = "INSERT INTO meta VALUES ('copy', $1) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
_LIST_OWNERS = (
    "INSERT INTO workers (number, name) OVERRIDING SYSTEM VALUE SELECT DISTINCT owner, 'gone' FROM messages "
    f"WHERE status = '{Status.SENDING}' ON CONFLICT DO NOTHING"
)
_SEQUENCE = "pg_get_serial_sequence(quote_ident(current_schema()) || '.' || $1, $2)::regclass"
_LAST_NUMBER = f"SELECT pg_sequence_last_value({_SEQUENCE})"
_SET_NUMBER = f"SELECT setval({_SEQUENCE}, $3, $4)"
