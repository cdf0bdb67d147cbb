"""`postroom config show` and `postroom config schema`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from postroom.cli.arguments import AsJson, ConfigFile
from postroom.cli.output import reporting_errors, show_json, show_text

if TYPE_CHECKING:
    from postroom.client import Postroom

MASK = "**********"

app = typer.Typer(name="config", help="Look at the configuration.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def show(context: typer.Context, as_json: AsJson = False, config_file: ConfigFile = None) -> None:
    """Show the configuration in force, environment included, every account checked, secrets masked."""
    with reporting_errors(as_json=as_json):
        from postroom.client import Postroom
        from postroom.config.load import config_file as found_file

        file = config_file or context.obj
        room = Postroom.from_config(file)
        room.validate()
        source = found_file(file)
        shown = {"file": str(source) if source else None, **_masked(room)}
    if as_json:
        show_json(shown)
        return
    for line in _lines(shown):
        show_text(line)


@app.command()
def schema(context: typer.Context) -> None:
    """Print the JSON Schema of the configuration file, with the settings of every provider that may load."""
    with reporting_errors():
        from postroom.cli.config_schema import config_schema
        from postroom.config import load_config
        from postroom.registry.registry import Registry

        show_json(config_schema(Registry(load_config(context.obj).plugins)))


def _masked(room: Postroom) -> dict[str, Any]:
    from pydantic_core import to_jsonable_python

    from postroom.delivery.accounts import Target
    from postroom.receipts import Channel

    config = room.config
    ours = config.model_dump(mode="json", exclude={"accounts"}, exclude_defaults=True)
    accounts: dict[str, Any] = {}
    for name in config.accounts:
        channels = room.registry.channels(config.provider_of(name))
        settings = room.settings(Target(name, config.provider_of(name)), channels[0] if channels else Channel.EMAIL)
        values = settings.model_dump(by_alias=True, exclude_none=True)
        accounts[name] = to_jsonable_python(values, fallback=lambda _: MASK)
    return {"accounts": accounts, **ours}


def _lines(value: dict[str, Any], path: str = "") -> list[str]:
    lines = []
    for key, inner in value.items():
        where = f"{path}.{key}" if path else key
        if isinstance(inner, dict):
            lines += _lines(inner, where)
        else:
            lines.append(f"{where} = {inner!r}")
    return lines
