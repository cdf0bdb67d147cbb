"""An outbox in a folder of the test's own, with its time in the test's hands."""

from __future__ import annotations

from pathlib import Path
import random

import pytest

from postroom.delivery.accounts import Accounts
from postroom.config.model import parse_config
from postroom.delivery.middleware import SendMiddleware
from postroom.outbox.executor import MessageExecutor
from postroom.outbox.outbox import Outbox
from postroom.outbox.sqlite.store import SqliteStore
from postroom.outbox.suppression import SuppressionList
from postroom.registry.registry import Registry
from postroom.delivery.routing import Router

START = 1_800_000_000.0


class Clock:
    def __init__(self, now=START) -> None:
        self.now = now

    def __call__(self):
        return self.now


class Desk:
    """An outbox over scripted accounts; `work` delivers whatever is due by the clock."""

    def __init__(
        self,
        stage,
        path,
        scripts,
        *,
        routes=None,
        defaults=None,
        rules=(),
        outbox=None,
        clock=None,
        busy_timeout=30.0,
        **settings,
    ) -> None:
        self.stage = stage
        self.clock = clock or Clock()
        given = {
            name: script if isinstance(script, stage.StageSettings) else stage.StageSettings(script=script, **settings)
            for name, script in scripts.items()
        }
        via = list(given)
        config = parse_config(
            {
                "accounts": given,
                "routes": {"r": {"via": via}} if routes is None else routes,
                "defaults": defaults or {"email": "r", "sms": "r"},
                "rules": list(rules),
                "outbox": {"url": f"sqlite:///{path}", "retry_first": 10, **(outbox or {})},
            }
        )
        registry = Registry()
        self.accounts = Accounts(config, registry, SendMiddleware())
        self.router = Router(config, registry)
        self.courier = MessageExecutor(
            self.accounts, self.router, config.outbox, clock=self.clock, rng=random.Random(1)
        )
        self.store = SqliteStore(config.outbox, clock=self.clock, busy_timeout=busy_timeout)
        self.outbox = Outbox(self.store, self.courier, SuppressionList(self.store))

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self.outbox.close()
        await self.accounts.close()

    async def add(self, message, **more):
        [answer] = await self.outbox.add([message], **more)
        if isinstance(answer, Exception):
            raise answer
        return answer.receipt

    async def work(self, after=0.0) -> None:
        self.clock.now += after
        await self.outbox.work(until_empty=True)

    async def receipt(self, receipt):
        return (await self.outbox.get(receipt.id)).receipt


@pytest.fixture
def desk(stage, tmp_path: Path):
    """Makes a `Desk` for scripts by account name."""

    def make(*scripts, **more):
        named = {f"a{number}": script for number, script in enumerate(scripts or [stage.Script()])}
        named |= more.pop("accounts", {})
        more.setdefault("from_", "post@example.org")
        return Desk(stage, tmp_path / "outbox.db", named, **more)

    return make
