"""The `postroom` command: its subcommands, the options all share, and commands that extensions add."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from postroom.cli import check, config, init, keys, new_provider, providers, send, serve, suppressions, worker
from postroom.cli.demo.command import demo
from postroom.cli.extensions import ExtensibleGroup
from postroom.cli.outbox import app as outbox
from postroom.cli.output import show_text
from postroom.cli.send_many.command import send_many

EagerConfigFile = Annotated[
    Path | None,
    typer.Option("--config", is_eager=True, help="Configuration file; else POSTROOM_CONFIG, else ./postroom.toml."),
]
"""Known before `--help` is answered, since the extensions that the file names add commands."""


def build() -> typer.Typer:
    """Return the application with every command; those of extensions join once the configuration is known."""
    app = typer.Typer(
        cls=ExtensibleGroup,
        name="postroom",
        help="One client for e-mail and SMS, by any provider.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
        rich_markup_mode=None,
    )
    app.callback()(_shared_options)
    for module in (send, outbox, suppressions, config, keys):
        app.add_typer(module.app)
    commands = (
        send_many,
        worker.worker,
        providers.providers,
        check.check,
        init.init,
        demo,
        serve.serve,
    )
    for command in commands:
        app.command()(command)
    app.command()(new_provider.new_provider)
    return app


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        show_text(f"postroom {version('postroom')}")
        raise typer.Exit


def _shared_options(
    context: typer.Context,
    config_file: Annotated[
        Path | None,
        typer.Option("--config", is_eager=True, help="Configuration file; else POSTROOM_CONFIG, else ./postroom.toml."),
    ] = None,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    context.obj = config_file
