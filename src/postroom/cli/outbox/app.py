"""`postroom outbox`: the group of its commands."""

from __future__ import annotations

import typer

from postroom.cli.outbox.changes import cancel, hold, retry
from postroom.cli.outbox.compact import compact
from postroom.cli.outbox.copy import copy
from postroom.cli.outbox.list import list_messages
from postroom.cli.outbox.migrate import migrate
from postroom.cli.outbox.purge import purge
from postroom.cli.outbox.reopen import reopen
from postroom.cli.outbox.resolve import resolve
from postroom.cli.outbox.resume import resume
from postroom.cli.outbox.show import show
from postroom.cli.outbox.stats import stats
from postroom.cli.outbox.watch import watch

app = typer.Typer(name="outbox", help="Look at the outbox, and settle what is in it.", no_args_is_help=True)
app.command("list")(list_messages)
for command in (show, stats, watch, retry, cancel, hold, purge, compact, migrate, copy, reopen, resolve, resume):
    app.command()(command)
