"""`postroom outbox watch`: the counts, as they change."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer

from postroom.cli.arguments import AsJson, ConfigFile
from postroom.cli.outbox.opening import with_outbox
from postroom.cli.outbox.text import time_text
from postroom.cli.output import reporting_errors, show_text
from postroom.terminal import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.table import Table

    from postroom.outbox import Outbox, OutboxStats

POLL_INTERVAL = 0.5
"""Seconds between two readings."""


def watch(context: typer.Context, as_json: AsJson = False, config_file: ConfigFile = None) -> None:
    """Show how many messages are in each state, until Ctrl-C: live on a terminal, else a line for each change."""
    with reporting_errors(as_json=as_json), suppress(KeyboardInterrupt), _display(as_json=as_json) as display:
        with_outbox(config_file or context.obj, lambda outbox: _watch(outbox, display))


async def _watch(outbox: Outbox, display: Callable[[OutboxStats], None]) -> None:
    from asyncio import sleep

    before = None
    while True:
        stats = await outbox.stats()
        if stats != before:
            display(stats)
        before = stats
        await sleep(POLL_INTERVAL)


@contextmanager
def _display(*, as_json: bool) -> Iterator[Callable[[OutboxStats], None]]:
    if as_json:
        yield lambda stats: _line(json.dumps(stats.model_dump(mode="json")))
    elif not sys.stdout.isatty():
        yield lambda stats: _line(_counts(stats, datetime.now(UTC)))
    else:
        from rich.live import Live

        with Live(auto_refresh=False) as live:
            yield lambda stats: live.update(_table(stats), refresh=True)


def _counts(stats: OutboxStats, now: datetime) -> str:
    """Return one line with the counts, for a log."""
    counts = " ".join(f"{status}={count}" for status, count in sorted(stats.states.items()))
    return f"{time_text(now)} workers={stats.workers} {counts}".rstrip()


def _line(text: str) -> None:
    show_text(text)
    sys.stdout.flush()


def _table(stats: OutboxStats) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("status")
    table.add_column("messages", justify="right")
    for status, count in sorted(stats.states.items()):
        table.add_row(status, str(count))
    for backlog in stats.waiting:
        table.add_row(f"waiting for {escape(printable(backlog.queue, lines=False))}", str(backlog.messages))
    table.add_row("workers", str(stats.workers))
    return table
