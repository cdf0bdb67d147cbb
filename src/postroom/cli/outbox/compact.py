"""`postroom outbox compact`: the file gives back what removed messages took."""

from __future__ import annotations

import typer

from postroom.cli.arguments import AsJson, ConfigFile
from postroom.cli.outbox.opening import with_outbox
from postroom.cli.output import reporting_errors, show_json, show_text


def compact(context: typer.Context, as_json: AsJson = False, config_file: ConfigFile = None) -> None:
    """Give back to the disk what removed messages took; who writes meanwhile waits."""
    with reporting_errors(as_json=as_json):
        before, after = with_outbox(config_file or context.obj, lambda outbox: outbox.compact())
    if as_json:
        show_json({"before": before, "after": after})
    else:
        show_text(f"{before / 2**20:.1f} MiB before, {after / 2**20:.1f} MiB now")
