"""`postroom outbox stats`: messages by state, the backlog of each queue, and the health of its account."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer

from postroom.cli.arguments import AsJson, ConfigFile
from postroom.cli.outbox.opening import with_outbox
from postroom.cli.outbox.text import plain, time_text
from postroom.cli.output import reporting_errors, show_json, show_text
from postroom.cli.tables import show_table

if TYPE_CHECKING:
    from postroom.outbox import AccountHealth, OutboxStats


def stats(context: typer.Context, as_json: AsJson = False, config_file: ConfigFile = None) -> None:
    """Count messages by state and account, and show how accounts do."""
    with reporting_errors(as_json=as_json):
        found = with_outbox(config_file or context.obj, lambda outbox: outbox.stats())
    if as_json:
        show_json(found.model_dump(mode="json"))
    else:
        _show(found)


def _show(stats: OutboxStats) -> None:
    show_table(("status", "messages"), ((status, str(count)) for status, count in sorted(stats.states.items())))
    show_text()
    waiting = {backlog.queue: backlog.messages for backlog in stats.waiting}
    health = {account.queue: account for account in stats.accounts}
    rows = [(queue, str(waiting.get(queue, 0)), _state(health.get(queue))) for queue in sorted({*waiting, *health})]
    show_table(("account", "waiting", "state"), rows)
    show_text()
    oldest = f"; the oldest waiting was accepted at {time_text(stats.oldest_waiting)}" if stats.oldest_waiting else ""
    show_text(f"workers: {stats.workers}{oldest}")


def _state(health: AccountHealth | None) -> str:
    if health is None:
        return ""
    cooling = health.cooldown_until > datetime.now(UTC).timestamp()
    if cooling or health.paused:
        until = time_text(datetime.fromtimestamp(health.cooldown_until, UTC))
        word = "paused" if health.paused else "cooldown"
        return plain(f"{word} until {until}: {health.reason or 'trouble'}")
    return "good" if not health.consecutive_failures else plain(f"in trouble: {health.reason or 'no answer'}")
