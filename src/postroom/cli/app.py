"""The `postroom` command: its subcommands, the options all share, and commands that extensions add."""

from __future__ import annotations

import os
import sys
import tomllib
from pathlib import Path
from typing import Annotated

import typer

from postroom.cli import check, config, demo, init, providers, send, send_many
from postroom.cli.exits import warn


def build() -> typer.Typer:
    """Return the application with every command, those of configured extensions included."""
    app = typer.Typer(
        name="postroom",
        help="One front desk for e-mail and SMS.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
        rich_markup_mode=None,
    )
    app.callback()(_shared_options)
    for module in (send, config):
        app.add_typer(module.app)
    for command in (send_many.send_many, providers.providers, check.check, init.init, demo.demo):
        app.command()(command)
    _add_extensions(app)
    return app


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"postroom {version('postroom')}")
        raise typer.Exit


def _shared_options(
    context: typer.Context,
    config_file: Annotated[
        Path | None, typer.Option("--config", help="Configuration file; else POSTROOM_CONFIG, else ./postroom.toml.")
    ] = None,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    context.obj = config_file


def _add_extensions(app: typer.Typer) -> None:
    """Let the extensions that the configuration names add commands; one that fails is told and left out."""
    names = _extension_names()
    if not names:
        return
    from postroom.errors import PostroomError
    from postroom.registry import Registry

    registry = Registry()
    for name in names:
        try:
            loaded = registry.load_extensions([name])
            for _, add_commands in registry.implementations("postroom_commands", loaded):
                add_commands(app=app)
        except PostroomError as error:
            warn(str(error))
        except Exception as error:  # noqa: BLE001 - an extension may raise anything
            warn(f"extension {name!r} adds no commands: {type(error).__name__}: {error}")


def _extension_names() -> list[str]:
    """Read just the names; a file that cannot be read is the running command's to explain."""
    file = _config_argument() or os.environ.get("POSTROOM_CONFIG") or "postroom.toml"
    try:
        found = tomllib.loads(Path(file).read_text(encoding="utf-8"))["plugins"]["extensions"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [found] if isinstance(found, str) else [str(name) for name in found]


def _config_argument() -> str | None:
    for position, argument in enumerate(sys.argv):
        if argument.startswith("--config="):
            return argument.removeprefix("--config=")
        if argument == "--config":
            return next(iter(sys.argv[position + 1 : position + 2]), None)
    return None
