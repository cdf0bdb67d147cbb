"""Access storage in the PostgreSQL outbox's own schema, through its connections: every gateway sees the same."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Self

from postroom.gateway.access.keys import KEY_COLUMNS, key_of_row
from postroom.gateway.access.sliding_window import SlidingWindow, slots_of_text
from postroom.outbox.postgres.store import PostgresStore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from asyncpg import Connection

    from postroom.gateway.access.keys import ApiKey
    from postroom.gateway.access.storage import Counter, KeyMark, T
    from postroom.outbox.storage import Store


class PostgresAccessStorage:
    """See `postroom.gateway.access.storage.AccessStorage`."""

    def __init__(self, store: PostgresStore) -> None:
        self._store = store

    @classmethod
    def beside(cls, store: Store) -> Self | None:
        """Return the storage in an outbox's database, or None when that is none of PostgreSQL."""
        return cls(store) if isinstance(store, PostgresStore) else None

    async def open(self) -> None:
        await self._store.open()

    async def close(self) -> None:
        """Nothing here is its own."""

    @property
    def secret(self) -> bytes:
        return self._store.secret

    async def ping(self) -> None:
        await self._changes("INSERT INTO meta VALUES ('pinged', '') ON CONFLICT (name) DO UPDATE SET value = ''")

    async def find_key(self, digest: str) -> ApiKey | None:
        async def look(connection: Connection) -> ApiKey | None:
            row = await connection.fetchrow(_FIND, digest)
            return key_of_row(tuple(row)) if row else None

        return await self._store.read(look)

    async def list_keys(self) -> list[ApiKey]:
        async def look(connection: Connection) -> list[ApiKey]:
            return [key for row in await connection.fetch(_LIST) if (key := key_of_row(tuple(row)))]

        return await self._store.read(look)

    async def add_key(self, key: ApiKey) -> None:
        await self._changes(
            "INSERT INTO api_keys (id, name, digest, scope, created_at) VALUES ($1, $2, $3, $4, $5) RETURNING 1",
            key.id,
            key.name,
            key.digest,
            key.scope.model_dump_json(),
            key.created_at.timestamp(),
        )

    async def revoke_key(self, key_id: str, now: float) -> bool:
        return await self._changes(
            "UPDATE api_keys SET revoked_at = coalesce(revoked_at, $2) WHERE id = $1 RETURNING 1", key_id, now
        )

    async def unsuspend_key(self, key_id: str) -> bool:
        async def unsuspend(connection: Connection) -> bool:
            await connection.execute("DELETE FROM api_counts WHERE key_id = $1", key_id)
            lift = "UPDATE api_keys SET flagged_at = NULL, suspended_at = NULL WHERE id = $1 RETURNING 1"
            return await connection.fetchval(lift, key_id) is not None

        return await self._store.write(unsuspend)

    async def mark_key(self, key_id: str, mark: KeyMark, now: float) -> bool:
        return await self._changes(_MARK[mark], key_id, now)

    async def update_windows(
        self, key_id: str, counters: Sequence[Counter], update: Callable[[list[SlidingWindow]], T]
    ) -> T:
        async def transaction(connection: Connection) -> T:
            # No row may be there yet, so that it is not rows that are locked.
            await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"api_counts {key_id}")
            labels = [counter.label for counter in counters]
            rows = await connection.fetch(
                "SELECT name, slots FROM api_counts WHERE key_id = $1 AND name = ANY ($2::text[])", key_id, labels
            )
            slots: dict[str, dict[int, int]] = {name: slots_of_text(text) for name, text in rows}
            windows = [
                SlidingWindow(counter.limit, dict(slots.get(label, {})))
                for counter, label in zip(counters, labels, strict=True)
            ]
            result = update(windows)
            changed = [pair for pair in zip(labels, windows, strict=True) if pair[1].changed]
            await connection.execute(
                _KEEP_WINDOWS,
                key_id,
                [label for label, _ in changed],
                [json.dumps([*window.slots.items()]) for _, window in changed],
                [window.stale_at() for _, window in changed],
            )
            return result

        return await self._store.write(transaction)

    async def delete_stale_windows(self, now: float) -> None:
        await self._changes("DELETE FROM api_counts WHERE stale_at < $1", now)

    async def _changes(self, statement: str, *values: object) -> bool:
        async def change(connection: Connection) -> bool:
            return await connection.fetchval(statement, *values) is not None

        return await self._store.write(change)


_FIND = f"SELECT {KEY_COLUMNS} FROM api_keys WHERE digest = $1"  # noqa: S608 - our own column names
_LIST = f"SELECT {KEY_COLUMNS} FROM api_keys ORDER BY created_at, id"  # noqa: S608 - as above
_MARK = {
    "flagged": "UPDATE api_keys SET flagged_at = $2 WHERE id = $1 AND flagged_at IS NULL RETURNING 1",
    "suspended": "UPDATE api_keys SET suspended_at = $2 WHERE id = $1 AND suspended_at IS NULL RETURNING 1",
}
_KEEP_WINDOWS = (
    "INSERT INTO api_counts SELECT $1, w.* FROM unnest($2::text[], $3::text[], $4::float8[]) AS w (name, slots, stale) "
    "ON CONFLICT (key_id, name) DO UPDATE SET slots = excluded.slots, stale_at = excluded.stale_at"
)
