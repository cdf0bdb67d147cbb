"""Commands that extensions add: those the configuration names, each on its own, so that none breaks another."""

from __future__ import annotations

import os
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from postroom.cli.output import warn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from postroom.registry.registry import Registry

VARIABLE = "POSTROOM_PLUGINS__EXTENSIONS"


def add_commands(app: typer.Typer) -> None:
    """Let each extension add commands; one that fails is told and left out."""
    names = _extension_names()
    if not names:
        return
    from postroom.registry.registry import Registry

    registry = Registry()
    taken = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined] # several commands make a group
    for name in names:
        try:
            own = _commands_of(registry, name)
            taken |= _merge(app, own, taken)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - an extension may raise anything
            warn(f"extension {name!r} adds no commands: {type(error).__name__}: {error}")


def _commands_of(registry: Registry, name: str) -> typer.Typer:
    own = typer.Typer()
    for _, hook in registry.implementations("postroom_commands", registry.load_extensions([name])):
        hook(app=own)
    return own


def _merge(app: typer.Typer, own: typer.Typer, taken: set[str]) -> set[str]:
    """Add the commands of `own` to `app`; return their names. Raises whatever typer finds wrong with them."""
    if not (own.registered_commands or own.registered_groups):
        return set()
    own.callback()(lambda: None)  # so that even one command makes a group, with its name
    names = set(typer.main.get_command(own).commands)  # type: ignore[attr-defined] # a group, as just said
    if names & taken:
        raise ValueError(f"there is a command {min(names & taken)!r} already")
    app.registered_commands += own.registered_commands
    app.registered_groups += own.registered_groups
    return names


def _extension_names() -> list[str]:
    """Read just the names; a configuration that cannot be read is the running command's to explain."""
    if os.environ.get(VARIABLE):
        from postroom.config.load import load_config
        from postroom.errors import ConfigError

        try:
            return list(load_config(_named_file()).plugins.extensions)
        except ConfigError:
            return []
    try:
        file = _named_file() or os.environ.get("POSTROOM_CONFIG") or "postroom.toml"
        found = tomllib.loads(Path(file).read_text(encoding="utf-8"))["plugins"]["extensions"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [found] if isinstance(found, str) else [str(name) for name in found]


def _named_file() -> str | None:
    """Return what --config names; it is needed before the arguments are parsed, since commands come from it."""
    return next(_config_arguments(sys.argv[1:]), None)


def _config_arguments(arguments: list[str]) -> Iterator[str]:
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if argument == "--config":
            yield following
        elif argument.startswith("--config="):
            yield argument.removeprefix("--config=")
