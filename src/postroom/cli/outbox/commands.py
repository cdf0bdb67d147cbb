"""`postroom outbox`: what is on its way, what became of it, and what a person decides."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from postroom.cli.outbox.changes import cancel, hold, purge, retry
from postroom.cli.outbox.filters import Account, ChannelName, Since, Statuses, To, Until, asked, choice_of, chosen
from postroom.cli.outbox.rows import message_json, message_lines, next_step, row_json, show_rows, show_stats
from postroom.cli.outbox.watch import watch
from postroom.cli.output import AsJson, ConfigFile, reporting_errors, show_json, success, warn

if TYPE_CHECKING:
    from postroom.outbox import MessageSummary, Outbox

app = typer.Typer(name="outbox", help="Look at the outbox, and settle what is in it.", no_args_is_help=True)
for command in (retry, cancel, hold, purge, watch):
    app.command()(command)

Id = Annotated[str, typer.Argument(help="The message's id, as `postroom outbox list` shows it.")]


class Outcome(StrEnum):
    """What a person found out about a message in doubt."""

    SENT = "sent"
    FAILED = "failed"
    RETRY = "retry"


@app.command("list")
def list_messages(
    context: typer.Context,
    status: Statuses = [],
    channel: ChannelName = None,
    account: Account = None,
    to: To = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100,
    as_json: AsJson = False,
    config_file: ConfigFile = None,
) -> None:
    """List messages, the newest first, without their texts."""
    with reporting_errors(as_json=as_json):
        choice = choice_of(status=status, channel=channel, account=account, to=to, since=since, until=until)

        async def found(outbox: Outbox) -> list[MessageSummary]:
            return [line async for line in chosen(outbox, choice, limit)]

        lines = asked(config_file or context.obj, found)
    if as_json:
        show_json([row_json(line) for line in lines])
    else:
        show_rows(lines)


@app.command()
def show(context: typer.Context, message_id: Id, as_json: AsJson = False, config_file: ConfigFile = None) -> None:
    """Show all that is known of one message, without its text."""
    with reporting_errors(as_json=as_json):
        shown = asked(config_file or context.obj, lambda outbox: outbox.get(message_id))
    if as_json:
        show_json(message_json(shown))
        return
    for line in message_lines(shown):
        typer.echo(line)
    if advice := next_step(shown.receipt):
        warn(advice)


@app.command()
def resolve(
    context: typer.Context,
    message_id: Id,
    outcome: Annotated[Outcome, typer.Argument(help="What became of it, or retry to send it again.")],
    note: Annotated[str, typer.Option(help="Why; kept with the message.")] = "",
    as_json: AsJson = False,
    config_file: ConfigFile = None,
) -> None:
    """Settle a message in doubt: it was sent, it was not, or it is to be sent again."""
    with reporting_errors(as_json=as_json):
        receipt = asked(config_file or context.obj, lambda outbox: outbox.resolve(message_id, outcome.value, note=note))
    if as_json:
        show_json(success(receipt))
    else:
        typer.echo(f"{receipt.status}: {receipt.id}")


@app.command()
def resume(
    context: typer.Context,
    account: Annotated[str, typer.Argument(help="The account.")],
    as_json: AsJson = False,
    config_file: ConfigFile = None,
) -> None:
    """Try a paused account again at once, after its credentials or credit were put right."""
    with reporting_errors(as_json=as_json):
        resumed = asked(config_file or context.obj, lambda outbox: outbox.resume(account))
    if as_json:
        show_json({"account": account, "resumed": resumed})
    else:
        typer.echo(f"{account} is tried again now" if resumed else f"{account} was not paused")


@app.command()
def stats(context: typer.Context, as_json: AsJson = False, config_file: ConfigFile = None) -> None:
    """Count messages by state and account, and tell how accounts do."""
    with reporting_errors(as_json=as_json):
        found = asked(config_file or context.obj, lambda outbox: outbox.stats())
    if as_json:
        show_json(found.model_dump(mode="json"))
    else:
        show_stats(found)
