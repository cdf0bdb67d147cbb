"""`postroom outbox migrate`: the tables as this version needs them, before anybody works with it."""

from __future__ import annotations

import typer

from postroom.cli.arguments import AsJson, ConfigFile
from postroom.cli.outbox.opening import with_outbox
from postroom.cli.output import reporting_errors, show_json, show_text


def migrate(context: typer.Context, as_json: AsJson = False, config_file: ConfigFile = None) -> None:
    """Make the outbox, or bring its tables to this version; whoever opens it does so too, if they may."""
    with reporting_errors(as_json=as_json):
        from postroom.config.load import load_config
        from postroom.outbox.factory import location

        with_outbox(config_file or context.obj, lambda outbox: outbox.migrate(), create=True)
        place = location(load_config(config_file or context.obj).outbox)
    if as_json:
        show_json({"outbox": place})
    else:
        show_text(f"{place} is as this version needs it")
