"""`postroom outbox list`: messages, the newest first, without their texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from postroom.cli.arguments import AsJson, ConfigFile, with_option_groups
from postroom.cli.outbox.filters import FilterOptions, matching
from postroom.cli.outbox.opening import with_outbox
from postroom.cli.outbox.text import plain, time_text
from postroom.cli.output import reporting_errors, show_json
from postroom.cli.tables import show_table

if TYPE_CHECKING:
    from postroom.outbox import MessageSummary, Outbox

COLUMNS = ("id", "status", "channel", "account", "to", "subject", "accepted", "due", "attempts", "error")


@with_option_groups
def list_messages(
    context: typer.Context,
    options: FilterOptions,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100,
    as_json: AsJson = False,
    config_file: ConfigFile = None,
) -> None:
    """List messages, the newest first, without their texts."""
    with reporting_errors(as_json=as_json):
        which = options.message_filter()

        async def read(outbox: Outbox) -> list[MessageSummary]:
            return [line async for line in matching(outbox, which, limit)]

        lines = with_outbox(config_file or context.obj, read)
    if as_json:
        show_json([_json(line) for line in lines])
    else:
        show_table(COLUMNS, (_row(line) for line in lines))


def _json(line: MessageSummary) -> dict[str, Any]:
    """Return a line; an SMS has no subject, and its text is not shown."""
    return {**line.model_dump(mode="json"), "subject": _subject(line)}


def _row(line: MessageSummary) -> tuple[str, ...]:
    due = time_text(line.due_at) if line.due_at else ""
    cells = (line.id, line.status, line.channel, line.account, ", ".join(line.to), _subject(line))
    return tuple(
        plain(cell) for cell in (*cells, time_text(line.created_at), due, str(line.attempts), line.error or "")
    )


def _subject(line: MessageSummary) -> str:
    return line.subject if line.channel == "email" else ""
