"""What every access storage promises, whatever its engine."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from postroom import OutboxError
from postroom.config.gateway import Limit
from postroom.config.outbox import OutboxSettings
from postroom.gateway.access.factory import access_storage_of
from postroom.gateway.access.keys import KeyScope
from postroom.gateway.access.sliding_window import SlidingWindow
from postroom.gateway.access.storage import AccessStorage, Counter
from postroom.outbox.factory import open_store

if TYPE_CHECKING:
    from tests.unit.gateway.access.conftest import MakeKey

NOW = 1_800_000_000.0
AT_NOW = datetime.fromtimestamp(NOW, UTC)
MINUTE = Counter("requests", Limit(10, 60))


async def used(storage: AccessStorage, counter: Counter, key_id: str = "key_1", now: float = NOW) -> int:
    return await storage.update_windows(key_id, [counter], lambda windows: windows[0].used(now))


async def add(storage: AccessStorage, counter: Counter, cost: int = 1, key_id: str = "key_1") -> None:
    await storage.update_windows(key_id, [counter], lambda windows: windows[0].add(NOW, cost))


async def test_a_key_is_found_by_its_digest_as_it_was_added(storage: AccessStorage, make_key: MakeKey) -> None:
    key = make_key(scope=KeyScope(channels=("sms",), accounts=("a",), senders=("S",), suppressions=True))
    await storage.add_key(key)
    await storage.add_key(make_key("other"))
    assert await storage.find_key(key.digest) == key
    assert await storage.find_key("0" * 64) is None


async def test_keys_are_listed_the_oldest_first(storage: AccessStorage, make_key: MakeKey) -> None:
    young, old = make_key("young"), make_key("old", created_at=datetime(2025, 1, 1, tzinfo=UTC))
    await storage.add_key(young)
    await storage.add_key(old)
    assert [key.name for key in await storage.list_keys()] == ["old", "young"]


async def test_a_revoked_key_is_so_at_once_and_keeps_its_first_time(storage: AccessStorage, make_key: MakeKey) -> None:
    key = make_key()
    await storage.add_key(key)
    assert await storage.find_key(key.digest) == key
    assert await storage.revoke_key(key.id, NOW)
    assert await storage.revoke_key(key.id, NOW + 60)
    revoked = await storage.find_key(key.digest)
    assert revoked
    assert revoked.revoked_at == AT_NOW
    assert not await storage.revoke_key("key_0", NOW)


async def test_a_mark_is_set_once_and_lifted_with_what_led_to_it(storage: AccessStorage, make_key: MakeKey) -> None:
    key, other = make_key(), make_key()
    await storage.add_key(key)
    await storage.add_key(other)
    assert await storage.mark_key(key.id, "flagged", NOW)
    assert not await storage.mark_key(key.id, "flagged", NOW + 1)
    assert await storage.mark_key(key.id, "suspended", NOW + 2)
    assert not await storage.mark_key("key_0", "flagged", NOW)
    marked = await storage.find_key(key.digest)
    assert marked
    assert (marked.flagged_at, marked.suspended_at) == (AT_NOW, datetime.fromtimestamp(NOW + 2, UTC))
    for each in (key, other):
        await add(storage, MINUTE, 3, each.id)
    assert await storage.unsuspend_key(key.id)
    assert await storage.find_key(key.digest) == key
    assert await used(storage, MINUTE, key.id) == 0
    assert await used(storage, MINUTE, other.id) == 3
    assert not await storage.unsuspend_key("key_0")


async def test_what_is_counted_is_kept_by_key_name_and_window_of_time(storage: AccessStorage) -> None:
    await add(storage, MINUTE, 2)
    await add(storage, MINUTE, 3)
    assert await used(storage, MINUTE) == 5
    assert await used(storage, MINUTE._replace(limit=Limit(99, 60))) == 5  # another number, the same window
    assert await used(storage, MINUTE._replace(limit=Limit(10, 61))) == 0
    assert await used(storage, MINUTE._replace(name="messages")) == 0
    assert await used(storage, MINUTE, "key_2") == 0


async def test_several_windows_are_read_and_kept_together_in_their_order(storage: AccessStorage) -> None:
    hour = Counter("requests", Limit(100, 3600))
    await add(storage, MINUTE, 2)

    def change(windows: list[SlidingWindow]) -> list[int]:
        found = [window.used(NOW) for window in windows]
        windows[0].add(NOW, 4)
        return found

    assert await storage.update_windows("key_1", [hour, MINUTE], change) == [0, 2]
    assert (await used(storage, hour), await used(storage, MINUTE)) == (4, 2)


async def test_what_an_update_raises_keeps_nothing(storage: AccessStorage) -> None:
    def fail(windows: list[SlidingWindow]) -> None:
        windows[0].add(NOW)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await storage.update_windows("key_1", [MINUTE], fail)
    assert await used(storage, MINUTE) == 0


async def test_only_windows_that_count_no_more_are_deleted(storage: AccessStorage) -> None:
    hour = Counter("requests", Limit(100, 3600))
    await add(storage, MINUTE)
    await add(storage, hour)
    await storage.delete_stale_windows(NOW + 600)
    assert await used(storage, MINUTE) == 0
    assert await used(storage, hour) == 1


async def test_it_answers_a_ping_and_has_a_secret(storage: AccessStorage) -> None:
    await storage.ping()
    assert len(storage.secret) >= 16
    await storage.open()  # again


async def test_a_file_that_cannot_be_read_is_an_error_of_the_outbox(tmp_path: Path) -> None:
    path = tmp_path / "postroom.db"
    store = open_store(OutboxSettings.model_validate({"url": f"sqlite:///{path}"}))
    storage = access_storage_of(store)
    await storage.open()
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("DROP TABLE api_keys")
    for asked in (storage.find_key("digest"), storage.list_keys()):
        with pytest.raises(OutboxError):
            await asked
    await storage.close()
    await store.close()


@pytest.mark.parametrize("value", ["CAST(x'80ff' AS TEXT)", "x'00'"])
@pytest.mark.parametrize("column", ["id", "name", "scope", "created_at", "revoked_at", "flagged_at", "suspended_at"])
async def test_a_damaged_key_opens_nothing_and_costs_no_other(
    tmp_path: Path, make_key: MakeKey, column: str, value: str
) -> None:
    path = tmp_path / "postroom.db"
    store = open_store(OutboxSettings.model_validate({"url": f"sqlite:///{path}"}))
    storage = access_storage_of(store)
    await storage.open()
    bad, good = make_key("bad"), make_key("good")
    await storage.add_key(bad)
    await storage.add_key(good)
    with closing(sqlite3.connect(path)) as other, other:
        other.execute(f"UPDATE api_keys SET {column} = {value} WHERE id = ?", [bad.id])
    assert await storage.find_key(bad.digest) is None
    assert await storage.find_key(good.digest) == good
    assert await storage.list_keys() == [good]
    await storage.close()
    await store.close()


@pytest.mark.parametrize("value", ["'x'", "'[1]'", "CAST(x'80ff' AS TEXT)", "x'00'"])
async def test_a_damaged_count_begins_anew(tmp_path: Path, value: str) -> None:
    path = tmp_path / "postroom.db"
    store = open_store(OutboxSettings.model_validate({"url": f"sqlite:///{path}"}))
    storage = access_storage_of(store)
    await storage.open()
    await add(storage, MINUTE, 3)
    with closing(sqlite3.connect(path)) as other, other:
        other.execute(f"UPDATE api_counts SET slots = {value}")
    await add(storage, MINUTE)
    assert await used(storage, MINUTE) == 1
    await storage.close()
    await store.close()
