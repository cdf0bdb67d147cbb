"""The tables in a PostgreSQL schema: made once, whoever comes first, and never over somebody else's."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import asyncpg
import pytest
from tests.postgres_server import server

from postroom import Email, OutboxError, Status
from postroom.outbox.postgres import Location

if TYPE_CHECKING:
    from engines.postgres import PostgresEngine
    from engines.process import MakeOutbox
    from tests.unit.outbox.postgres.conftest import OpenStore


async def run(statement: str) -> None:
    connection = await asyncpg.connect(server())
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def test_of_many_that_start_at_once_one_makes_the_tables(open_store: OpenStore) -> None:
    stores = [open_store() for _ in range(6)]
    await asyncio.gather(*(store.open() for store in stores))
    assert len({store.secret for store in stores}) == 1


async def test_a_role_without_the_right_to_make_tables_works_with_those_that_are_there(
    make_outbox: MakeOutbox, engine: PostgresEngine, url: str
) -> None:
    schema, role = Location(url).schema, f"limited_{Location(url).schema}"
    await run(f"CREATE ROLE {role} LOGIN")
    engine.url = url.replace("postroom@", f"{role}@")
    async with make_outbox() as early:
        with pytest.raises(OutboxError, match="the right to use and make tables in the schema, or run"):
            await early.add(Email(to="ann@example.org", text="x"))
    engine.url = url
    async with make_outbox() as owner:
        await owner.outbox.migrate()
    await run(f'GRANT USAGE ON SCHEMA "{schema}" TO {role}')
    await run(f'GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA "{schema}" TO {role}')
    engine.url = url.replace("postroom@", f"{role}@")
    async with make_outbox() as limited:
        receipt = await limited.add(Email(to="ann@example.org", text="x"))
        await limited.work()
        assert (await limited.outbox.get(receipt.id)).receipt.status is Status.SENT


async def test_a_schema_of_another_program_is_left_alone(open_store: OpenStore, url: str) -> None:
    schema = Location(url).schema
    await run(f'CREATE SCHEMA "{schema}"; CREATE TABLE "{schema}".customers (name text)')
    with pytest.raises(OutboxError, match="belongs to another program; name another one"):
        await open_store().open()


async def test_a_schema_of_a_newer_version_is_left_alone(open_store: OpenStore, url: str) -> None:
    await open_store().open()
    await run(f"UPDATE \"{Location(url).schema}\".meta SET value = '99' WHERE name = 'version'")
    with pytest.raises(OutboxError, match="written by a newer postroom .outbox version 99"):
        await open_store().open()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE messages SET status = 'lost'",
        "UPDATE messages SET status = 'sending'",
        "UPDATE messages SET priority = 3",
        "UPDATE messages SET size = NULL",
        "INSERT INTO suppressions VALUES ('fax', 'a', '', 'manual', NULL, 0, false)",
        "INSERT INTO suppressions VALUES ('email', 'a', '', 'whim', NULL, 0, false)",
    ],
)
async def test_what_no_claim_or_look_up_would_understand_the_database_refuses(
    make_outbox: MakeOutbox, engine: PostgresEngine, statement: str
) -> None:
    async with make_outbox() as post:
        await post.add(Email(to="ann@example.org", text="x"))
        with pytest.raises(asyncpg.IntegrityConstraintViolationError):
            await run(f'SET search_path = "{Location(engine.url).schema}"; {statement}')


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://ann:secret@db.example.org/mail", "postgresql://db.example.org/mail, schema postroom"),
        (
            "postgresql://db.example.org:6432/mail?schema=a&sslmode=require",
            "postgresql://db.example.org:6432/mail, schema a",
        ),
        ("postgresql:///mail?host=/run/postgresql", "postgresql:///mail, schema postroom"),
    ],
)
def test_what_is_shown_of_a_place_holds_no_password(url: str, shown: str) -> None:
    assert Location(url).shown == shown


def test_all_but_the_schema_is_left_to_the_driver() -> None:
    location = Location("postgresql://ann@db/mail?sslmode=verify-full&schema=post&target_session_attrs=read-write")
    assert location.schema == "post"
    assert urlsplit(location.dsn).query == "sslmode=verify-full&target_session_attrs=read-write"


async def test_a_database_that_is_not_there_is_said_with_what_to_do(open_store: OpenStore) -> None:
    missing = server().replace("/postgres", "/nowhere")
    with pytest.raises(OutboxError, match="make the database, or name another one in .outbox. url"):
        await open_store(missing).open()


async def test_a_server_that_is_not_there_is_said_with_what_to_do(open_store: OpenStore) -> None:
    with pytest.raises(OutboxError, match="cannot be reached now; what was accepted is safe"):
        await open_store("postgresql://postroom@127.0.0.1:9/mail").open()
