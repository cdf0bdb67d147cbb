"""Commands that extensions add: those the configuration names, each on its own, so that none breaks another."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from postroom.cli.output import warn

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from postroom.registry.registry import Registry

VARIABLE = "POSTROOM_PLUGINS__EXTENSIONS"


class ExtensibleGroup(TyperGroup):
    """The root of the command line. It asks extensions for commands once `--config` is known, before any runs."""

    _extended = False

    # The contexts and commands here are typer's own or click's, by the version of typer.
    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all commands, as `--help` shows them."""
        self._extend(ctx)
        return super().list_commands(ctx)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command, or None."""
        self._extend(ctx)
        return super().get_command(ctx, cmd_name)

    def _extend(self, context: Any) -> None:
        if self._extended:
            return
        self._extended = True
        names = _extension_names(context.params.get("config_file"))
        if not names:
            return
        from postroom.registry.registry import Registry

        registry = Registry()
        for name in names:
            try:
                self.commands.update(_commands_of(registry, name, taken=self.commands))
            except (Exception, SystemExit) as error:  # noqa: BLE001 - an extension may raise anything
                warn(f"extension {name!r} adds no commands: {type(error).__name__}: {error}")


def _commands_of(registry: Registry, name: str, *, taken: Container[str]) -> Mapping[str, Any]:
    """Return the commands of one extension, by name. Raises what it raises, and ValueError for a name `taken`."""
    app = typer.Typer()
    for _, hook in registry.hooks.commands(registry.load_extensions([name])):
        hook(app=app)
    if not (app.registered_commands or app.registered_groups):
        return {}
    app.callback()(lambda: None)  # so that even one command makes a group, with its name
    commands: Mapping[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined] # a group
    if clash := next((name for name in commands if name in taken), None):
        raise ValueError(f"there is a command {clash!r} already")
    return commands


def _extension_names(config_file: Path | None) -> list[str]:
    """Read just the names, without pydantic; what cannot be read is the running command's to explain."""
    if os.environ.get(VARIABLE):
        from postroom.config.load import load_config
        from postroom.errors import ConfigError

        try:
            return list(load_config(config_file).plugins.extensions)
        except ConfigError:
            return []
    file = Path(config_file or os.environ.get("POSTROOM_CONFIG") or "postroom.toml")
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8"))["plugins"]["extensions"]
        return [found] if isinstance(found, str) else [str(name) for name in found]
    except (OSError, ValueError, KeyError, TypeError):
        return []
