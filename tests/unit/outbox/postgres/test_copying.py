"""What a schema is told beside its rows when an outbox has moved there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.postgres_server import fresh_schema

from postroom import Email
from postroom.config.outbox import OutboxSettings
from postroom.outbox.copying import OutboxCopy
from postroom.outbox.factory import open_copy_storage

if TYPE_CHECKING:
    from engines.postgres import PostgresEngine
    from engines.process import MakeOutbox
    from tests.unit.outbox.postgres.conftest import OpenStore

    from postroom.outbox.storage import CopyStorage

SIZE = "SELECT reltuples::bigint FROM pg_class WHERE oid = 'messages'::regclass"


def rows_at(url: str) -> CopyStorage:
    return open_copy_storage(OutboxSettings.model_validate({"url": url}))


async def test_claims_are_planned_at_once_for_what_is_there(
    make_outbox: MakeOutbox, engine: PostgresEngine, open_store: OpenStore
) -> None:
    async with make_outbox() as post:
        await post.outbox.add([Email(to="ann@example.org", text="x") for _ in range(20)])
    target = fresh_schema()
    copy = OutboxCopy(rows_at(engine.url), rows_at(target), lease=0.05)
    async for _ in copy.run():
        pass
    await copy.close()
    assert await open_store(target).read(lambda c: c.fetchval(SIZE)) == 20
