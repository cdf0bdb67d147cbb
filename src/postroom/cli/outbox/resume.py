"""`postroom outbox resume`: a paused account is tried again at once."""

from __future__ import annotations

from typing import Annotated

import typer

from postroom.cli.arguments import AsJson, ConfigFile
from postroom.cli.outbox.opening import with_outbox
from postroom.cli.output import reporting_errors, show_json, show_text


def resume(
    context: typer.Context,
    account: Annotated[str, typer.Argument(help="The account.")],
    as_json: AsJson = False,
    config_file: ConfigFile = None,
) -> None:
    """Try a paused account again at once, after its credentials or credit were put right."""
    with reporting_errors(as_json=as_json):
        resumed = with_outbox(config_file or context.obj, lambda outbox: outbox.resume(account))
    if as_json:
        show_json({"account": account, "resumed": resumed})
    else:
        show_text(f"{account} is tried again now" if resumed else f"{account} was not paused")
