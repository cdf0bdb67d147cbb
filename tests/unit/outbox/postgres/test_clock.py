"""The database's clock as a machine beside it reads it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from postroom.outbox.postgres.clock import ServerClock

if TYPE_CHECKING:
    from tests.unit.outbox.postgres.conftest import OpenStore


class Machine:
    """A machine whose own clock anybody may set, and whose seconds go forward all the same."""

    def __init__(self) -> None:
        self.up, self.local = 100.0, 5_000.0

    def passes(self, seconds: float) -> None:
        self.up += seconds
        self.local += seconds


def test_before_the_first_answer_it_is_the_machines_own_time_and_then_the_databases() -> None:
    machine = Machine()
    clock = ServerClock(elapsed=lambda: machine.up, local=lambda: machine.local)
    assert clock() == 5_000.0
    clock.set(9_000.0, clock.now)
    machine.passes(7)
    assert clock() == 9_007.0
    assert clock.difference == 4_000.0


def test_an_answer_is_of_the_middle_between_question_and_receipt() -> None:
    machine = Machine()
    clock = ServerClock(elapsed=lambda: machine.up, local=lambda: machine.local)
    asked_at = clock.now
    machine.passes(2)
    clock.set(9_000.0, asked_at)
    assert clock() == 9_001.0


def test_setting_the_machines_clock_changes_nothing() -> None:
    machine = Machine()
    clock = ServerClock(elapsed=lambda: machine.up, local=lambda: machine.local)
    clock.set(9_000.0, clock.now)
    machine.local -= 86_400
    machine.passes(1)
    assert clock() == 9_001.0


async def test_a_store_without_a_clock_of_its_own_has_the_databases(url: str) -> None:
    from postroom.config.outbox import OutboxSettings
    from postroom.outbox.postgres.store import PostgresStore

    store = PostgresStore(OutboxSettings.model_validate({"url": url}))
    await store.open()
    there = await store.read(lambda c: c.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8"))
    assert abs(store.clock() - there) < 60
    await store.close()


async def test_a_clock_that_differs_much_is_said_once(open_store: OpenStore, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "postroom.outbox")
    store = open_store()
    store._server_clock = ServerClock(local=lambda: 0.0)
    await store.open()
    await store.heartbeat(await store.register("w"))
    [record] = caplog.records
    assert "this machine's clock differs from the database's by" in record.getMessage()
