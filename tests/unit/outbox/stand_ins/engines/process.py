"""A process with an outbox, whatever engine keeps its messages, and its time in the test's hands."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

from postroom import Email, Receipt, Sms
from postroom.config.model import parse_config
from postroom.config.outbox import OutboxSettings
from postroom.delivery.accounts import Accounts
from postroom.delivery.middleware import SendMiddleware
from postroom.delivery.routing import Router
from postroom.outbox.factory import open_outbox
from postroom.outbox.sqlite.store import SqliteStore
from postroom.outbox.storage import Store
from postroom.registry.registry import Registry

START = 1_800_000_000.0


@dataclass
class Clock:
    """Seconds since 1970, as the test says."""

    now: float = START

    def __call__(self) -> float:
        return self.now


class Engine(Protocol):
    """Where messages are kept: makes the storage that a process would open."""

    def store(self, settings: OutboxSettings, clock: Callable[[], float]) -> Store: ...


@dataclass
class SqliteEngine:
    """A file; `busy_timeout` is how many seconds to wait for another process that keeps it locked."""

    busy_timeout: float = 30.0

    def store(self, settings: OutboxSettings, clock: Callable[[], float]) -> Store:
        return SqliteStore(settings, clock=clock, busy_timeout=self.busy_timeout)


@dataclass
class Process:
    """One process with an outbox; another one with the same engine sees the same messages.

    `work` delivers whatever is due by the clock.
    """

    config: dict[str, Any]
    engine: Engine
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        config, registry = parse_config(self.config), Registry()
        self.settings = config.outbox
        self.accounts = Accounts(config, registry, SendMiddleware())
        self.router = Router(config, registry)
        self.store: Any = self.engine.store(config.outbox, self.clock)
        self.outbox = open_outbox(
            config.outbox, self.accounts, self.router, store=self.store, clock=self.clock, rng=random.Random(1)
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.outbox.close()
        await self.accounts.close()

    async def add(self, message: Email | Sms, **more: Any) -> Receipt:
        [answer] = await self.outbox.add([message], **more)
        if isinstance(answer, Exception):
            raise answer
        return answer.receipt

    async def work(self, after: float = 0.0) -> None:
        self.clock.now += after
        await self.outbox.work(until_empty=True)

    async def receipt(self, receipt: Receipt) -> Receipt:
        return (await self.outbox.get(receipt.id)).receipt


class MakeOutbox(Protocol):
    """Makes a `Process` for scripts: of the accounts a0, a1 and so on, which with `accounts` make up the one route.

    `accounts` are more of them by name; `outbox` are settings of the outbox, `clock` its time; what else is given are
    settings of every account.
    """

    def __call__(
        self,
        *scripts: Any,
        accounts: dict[str, Any] | None = None,
        rules: list[dict[str, str]] | None = None,
        outbox: dict[str, Any] | None = None,
        clock: Clock | None = None,
        **settings: Any,
    ) -> Process: ...
