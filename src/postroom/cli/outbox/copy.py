"""`postroom outbox copy`: everything moves to another place, from one engine to another or within one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from postroom.cli.arguments import AsJson, ConfigFile
from postroom.cli.output import UsageError, reporting_errors, show_json, show_progress, show_text
from postroom.cli.tables import show_table
from postroom.outbox.tables import ROWS_AT_ONCE

if TYPE_CHECKING:
    from pathlib import Path

    from postroom.config.outbox import OutboxSettings
    from postroom.outbox.copying import CopyProgress, OutboxCopy


def copy(
    context: typer.Context,
    to: Annotated[str, typer.Option("--to", help="Where to, as [outbox] url says it.")],
    from_: Annotated[str | None, typer.Option("--from", help="Where from; else the configured outbox.")] = None,
    at_once: Annotated[int, typer.Option("--at-once", min=1, help="Rows written in one transaction.")] = ROWS_AT_ONCE,
    as_json: AsJson = False,
    config_file: ConfigFile = None,
) -> None:
    """Move the outbox to another place, while nobody uses it: messages, keys, suppressions and all else, once.

    From then on the old place refuses every write. What is interrupted goes on when this is run again.
    """
    with reporting_errors(as_json=as_json):
        import asyncio

        made = _copy_of(config_file or context.obj, from_, to, at_once)
        asyncio.run(_run(made))
    if as_json:
        show_json({"from": made.source.place, "to": made.target.place, "result": made.result, "rows": made.counts})
        return
    show_text(f"{made.result}: {made.source.place} to {made.target.place}")
    if made.counts:
        show_table(("table", "rows"), [(name, str(count)) for name, count in made.counts.items()])


def _copy_of(config_file: Path | None, from_: str | None, to: str, at_once: int) -> OutboxCopy:
    from postroom.config.load import load_config
    from postroom.errors import OutboxError
    from postroom.outbox.copying import OutboxCopy
    from postroom.outbox.factory import location, open_copy_storage, presence

    settings = load_config(config_file).outbox
    source = settings if from_ is None else _settings(from_, "--from")
    target = _settings(to, "--to")
    if not presence(source)():
        raise OutboxError(f"there is no outbox at {location(source)}; name the one to copy with --from")
    made = OutboxCopy(open_copy_storage(source), open_copy_storage(target), settings.lease, at_once)
    if made.source.place == made.target.place:
        raise UsageError("names the place that is copied", option="--to")
    return made


def _settings(url: str, option: str) -> OutboxSettings:
    from postroom.config.outbox import OutboxSettings
    from postroom.config.validation import validated
    from postroom.errors import ConfigError

    try:
        return validated(OutboxSettings, {"url": url})
    except ConfigError as error:
        raise UsageError(str(error).removeprefix("url: "), option=option) from error


async def _run(made: OutboxCopy) -> None:
    try:
        async for progress in made.run():
            _show(progress)
    finally:
        await made.close()


def _show(progress: CopyProgress) -> None:
    """Write a line for each transaction, on a terminal over the one before of its table."""
    line = f"{progress.table}: {progress.rows} of {progress.total}"
    show_progress(line, last=progress.rows >= progress.total)
