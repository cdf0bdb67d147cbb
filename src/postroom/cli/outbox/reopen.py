"""`postroom outbox reopen`: an outbox that was moved is used again, since the other place is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from postroom.cli.arguments import AsJson, ConfigFile
from postroom.cli.outbox.confirmation import Yes, ask
from postroom.cli.output import reporting_errors, show_json, show_text

if TYPE_CHECKING:
    from pathlib import Path

    from postroom.outbox.copy_mark import CopyMark
    from postroom.outbox.storage import CopyStorage


def reopen(context: typer.Context, yes: Yes = False, as_json: AsJson = False, config_file: ConfigFile = None) -> None:
    """Use an outbox again that was moved, where the place it was moved to is lost for good.

    What was sent from there is sent a second time. As long as that place is there, `postroom outbox copy` brings
    everything back without that.
    """
    with reporting_errors(as_json=as_json):
        import asyncio

        place = asyncio.run(_reopen(config_file or context.obj, yes=yes))
    if as_json:
        show_json({"reopened": place})
    else:
        show_text(f"reopened: {place}")


async def _reopen(config_file: Path | None, *, yes: bool) -> str:
    from postroom.config.load import load_config
    from postroom.errors import OutboxError
    from postroom.outbox.copy_mark import CopyState
    from postroom.outbox.factory import location, open_copy_storage, presence

    settings = load_config(config_file).outbox
    if not presence(settings)():
        raise OutboxError(f"there is no outbox at {location(settings)}; name its place in [outbox] url")
    storage = open_copy_storage(settings)
    try:
        mark = await storage.mark()
        if mark is None or mark.state is not CopyState.LEFT:
            raise OutboxError(f"{storage.place} was not moved; there is nothing to reopen")
        _confirm(storage, mark, yes=yes)
        await storage.put_mark(mark, mark.became(CopyState.WHOLE))
    finally:
        await storage.close()
    return storage.place


def _confirm(storage: CopyStorage, mark: CopyMark, *, yes: bool) -> None:
    what = f"what was sent from {mark.other} is sent again from {storage.place}"
    ask(f"{what}. Is {mark.other} lost for good?", f"reopen without being asked: {what}", yes=yes)
