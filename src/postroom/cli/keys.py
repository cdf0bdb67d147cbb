"""`postroom keys`: who may use the service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from postroom.cli.arguments import AsJson, ConfigFile
from postroom.cli.output import reporting_errors, show_json, show_text, warn
from postroom.cli.tables import show_table

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from postroom.config.model import Config
    from postroom.gateway.access.keys import ApiKey, KeyScope
    from postroom.gateway.access.storage import AccessStorage

T = TypeVar("T")

app = typer.Typer(name="keys", help="Make, list and revoke API keys.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(help="The key's id, as `postroom keys list` shows it.")]


@app.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Whose key it is, for your own eyes.")] = "",
    channel: Annotated[list[str], typer.Option(help="Only this channel (email, sms); may be given twice.")] = [],
    account: Annotated[list[str], typer.Option(help="Only this account or route; may be given several times.")] = [],
    sender: Annotated[list[str], typer.Option(help="Only this sender; may be given several times.")] = [],
    suppressions: Annotated[bool, typer.Option("--suppressions", help="May change who is not written to.")] = False,
    as_json: AsJson = False,
    config_file: ConfigFile = None,
) -> None:
    """Make a key and show it, once: only its hash is kept."""
    with reporting_errors(as_json=as_json):
        scope = _scope(channel, account, sender, suppressions=suppressions)
        key, text = _new_key(_loaded(config_file or context.obj), name, scope)
    if as_json:
        show_json({"key": text, "id": key.id})
        return
    show_text(text)
    warn(f"this is key {key.id}; it is not shown again")


@app.command("list")
def list_keys(context: typer.Context, as_json: AsJson = False, config_file: ConfigFile = None) -> None:
    """List keys, and what became of them."""
    with reporting_errors(as_json=as_json):
        found = _with_storage(_loaded(config_file or context.obj), lambda storage: storage.list_keys())
    listed = [_key_json(key) for key in found]
    if as_json:
        show_json(listed)
        return
    rows = [(t["id"], t["name"], t["status"], t["created_at"], _words(t["scope"])) for t in listed]
    show_table(("id", "name", "status", "created", "only"), rows)


@app.command()
def revoke(context: typer.Context, key_id: Id, config_file: ConfigFile = None) -> None:
    """Revoke a key for good, at once; its messages stay."""
    import time

    _change(config_file or context.obj, key_id, lambda storage: storage.revoke_key(key_id, time.time()))


@app.command()
def unsuspend(context: typer.Context, key_id: Id, config_file: ConfigFile = None) -> None:
    """Lift the flag and the suspension of a key that went on over its limit."""
    _change(config_file or context.obj, key_id, lambda storage: storage.unsuspend_key(key_id))


def _change(config_file: Path | None, key_id: str, change: Callable[[AccessStorage], Awaitable[bool]]) -> None:
    with reporting_errors():
        from postroom.errors import ConfigError

        if not _with_storage(_loaded(config_file), change):
            raise ConfigError(f"no key {key_id}; `postroom keys list` shows them")


def _loaded(config_file: Path | None) -> Config:
    from postroom.config import load_config

    return load_config(config_file)


def _with_storage(config: Config, use: Callable[[AccessStorage], Awaitable[T]]) -> T:
    import asyncio

    from postroom.gateway.access.factory import open_access_storage

    async def used() -> T:
        async with open_access_storage(config.outbox) as storage:
            return await use(storage)

    return asyncio.run(used())


def _new_key(config: Config, name: str, scope: KeyScope) -> tuple[ApiKey, str]:
    from datetime import UTC, datetime

    from postroom.gateway.access.keys import ApiKey

    key, text = ApiKey.generate(config.gateway.region, name=name, scope=scope, now=datetime.now(UTC))
    _with_storage(config, lambda storage: storage.add_key(key))
    return key, text


def _scope(channels: list[str], accounts: list[str], senders: list[str], *, suppressions: bool) -> KeyScope:
    from pydantic import ValidationError

    from postroom.errors import InvalidOption
    from postroom.gateway.access.keys import KeyScope

    try:
        return KeyScope.model_validate(
            {"channels": channels, "accounts": accounts, "senders": senders, "suppressions": suppressions}
        )
    except ValidationError:
        raise InvalidOption("must be email or sms", path="--channel") from None


def _key_json(key: ApiKey) -> dict[str, Any]:
    marks = {"revoked": key.revoked_at, "suspended": key.suspended_at, "flagged": key.flagged_at}
    status = next((mark for mark, when in marks.items() if when), "good")
    fields: dict[str, Any] = key.model_dump(mode="json", exclude={"digest"})
    return {**fields, "status": status}


def _words(scope: dict[str, Any]) -> str:
    lists = (values for values in scope.values() if isinstance(values, list))
    words = [value for values in lists for value in values]
    return " ".join([*words, "suppressions"] if scope["suppressions"] else words)
