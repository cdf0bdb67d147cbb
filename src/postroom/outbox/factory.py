"""Outbox factory: configuration -> `Outbox`; the only place that names an engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from postroom.outbox.executor import MessageExecutor
from postroom.outbox.outbox import Outbox
from postroom.outbox.sqlite.store import SqliteStore
from postroom.outbox.suppression import SuppressionList

if TYPE_CHECKING:
    from postroom.config.outbox import OutboxSettings
    from postroom.delivery.accounts import Accounts
    from postroom.delivery.observers import Observers
    from postroom.delivery.routing import Router


def open_outbox(settings: OutboxSettings, accounts: Accounts, router: Router, observers: Observers) -> Outbox:
    """Return the outbox of this configuration; its store opens when it is first used."""
    store = SqliteStore(settings)
    suppressions = SuppressionList(store)
    executor = MessageExecutor(accounts, router, settings, observers=observers, screen=suppressions.among)
    return Outbox(store, executor, suppressions)
