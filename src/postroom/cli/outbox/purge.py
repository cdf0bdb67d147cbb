"""`postroom outbox purge`: settled messages are removed for good."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import typer

from postroom.cli.arguments import AsJson, ConfigFile, with_option_groups
from postroom.cli.outbox.confirmation import Yes, confirm
from postroom.cli.outbox.filters import FilterOptions, matching
from postroom.cli.outbox.opening import with_outbox
from postroom.cli.output import UsageError, reporting_errors, show_json, show_text

if TYPE_CHECKING:
    from postroom.outbox import MessageFilter, Outbox


@with_option_groups
def purge(
    context: typer.Context,
    options: FilterOptions,
    yes: Yes = False,
    as_json: AsJson = False,
    config_file: ConfigFile = None,
) -> None:
    """Remove settled messages and all that is known of them, for good."""
    with reporting_errors(as_json=as_json):
        from postroom.outbox.states import SETTLED

        which = options.message_filter()
        if unsettled := set(which.status) - SETTLED:
            raise UsageError(
                f"{min(unsettled)} messages are not settled; cancel or resolve them before", option="--status"
            )
        settled = which if which.status else replace(which, status=tuple(SETTLED))
        removed = with_outbox(config_file or context.obj, lambda outbox: _purge(outbox, settled, yes=yes))
    if as_json:
        show_json({"removed": removed})
    else:
        show_text(f"removed: {removed}")


async def _purge(outbox: Outbox, settled: MessageFilter, *, yes: bool) -> int:
    count = sum([1 async for _ in matching(outbox, settled)])
    if not count:
        return 0
    confirm("purge", count, yes=yes)
    return await outbox.purge(settled)
