"""Access storage of any engine: SQLite's, and a stand-in in memory that proves the Protocol is enough."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest
from tests.postgres_server import fresh_schema

from postroom.config.outbox import OutboxSettings
from postroom.gateway.access.factory import access_storage_of
from postroom.gateway.access.keys import ApiKey, KeyScope
from postroom.gateway.access.sliding_window import SlidingWindow
from postroom.outbox.factory import open_store

if TYPE_CHECKING:
    from postroom.gateway.access.storage import AccessStorage, Counter, KeyMark

T = TypeVar("T")


class MemoryAccessStorage:
    """Keys and counters in dictionaries."""

    def __init__(self) -> None:
        self._keys: dict[str, ApiKey] = {}
        self._windows: dict[tuple[str, str, int], SlidingWindow] = {}

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    @property
    def secret(self) -> bytes:
        return b"s" * 32

    async def ping(self) -> None:
        pass

    async def find_key(self, digest: str) -> ApiKey | None:
        return next((key for key in self._keys.values() if key.digest == digest), None)

    async def list_keys(self) -> list[ApiKey]:
        return sorted(self._keys.values(), key=lambda key: (key.created_at, key.id))

    async def add_key(self, key: ApiKey) -> None:
        self._keys[key.id] = key

    async def revoke_key(self, key_id: str, now: float) -> bool:
        key = self._keys.get(key_id)
        if key and key.revoked_at is None:
            self._keys[key_id] = key.model_copy(update={"revoked_at": datetime.fromtimestamp(now, UTC)})
        return key is not None

    async def unsuspend_key(self, key_id: str) -> bool:
        self._windows = {place: window for place, window in self._windows.items() if place[0] != key_id}
        key = self._keys.get(key_id)
        if key:
            self._keys[key_id] = key.model_copy(update={"flagged_at": None, "suspended_at": None})
        return key is not None

    async def mark_key(self, key_id: str, mark: KeyMark, now: float) -> bool:
        key, field = self._keys.get(key_id), f"{mark}_at"
        if key is None or getattr(key, field):
            return False
        self._keys[key_id] = key.model_copy(update={field: datetime.fromtimestamp(now, UTC)})
        return True

    async def update_windows(
        self, key_id: str, counters: Sequence[Counter], update: Callable[[list[SlidingWindow]], T]
    ) -> T:
        places = [(key_id, counter.name, counter.limit.window) for counter in counters]
        windows = [
            SlidingWindow(counter.limit, dict(self._windows[place].slots) if place in self._windows else {})
            for counter, place in zip(counters, places, strict=True)
        ]
        result = update(windows)
        self._windows |= {place: window for place, window in zip(places, windows, strict=True) if window.changed}
        return result

    async def delete_stale_windows(self, now: float) -> None:
        self._windows = {place: window for place, window in self._windows.items() if window.stale_at() >= now}


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AccessStorage]:
    """An access storage that is open, of each engine."""
    if request.param == "memory":
        yield MemoryAccessStorage()
        return
    url = fresh_schema() if request.param == "postgres" else f"sqlite:///{tmp_path}/postroom.db"
    store = open_store(OutboxSettings.model_validate({"url": url}))
    beside = access_storage_of(store)
    await beside.open()
    yield beside
    await beside.close()
    await store.close()


MakeKey = Callable[..., ApiKey]


@pytest.fixture
def make_key() -> MakeKey:
    """Return a key that is kept nowhere yet, with any fields changed."""

    def make(name: str = "shop", **fields: object) -> ApiKey:
        key, _ = ApiKey.generate("eu", name=name, scope=KeyScope(), now=datetime(2026, 1, 1, tzinfo=UTC))
        return key.model_copy(update=fields)

    return make


class Clock:
    """Time that a test moves, in Unix seconds."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()
