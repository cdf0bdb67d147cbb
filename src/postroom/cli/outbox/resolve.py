"""`postroom outbox resolve`: a person settles a message in doubt."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from postroom.cli.arguments import AsJson, ConfigFile
from postroom.cli.outbox.opening import with_outbox
from postroom.cli.outbox.show import MessageId
from postroom.cli.output import receipt_json, reporting_errors, show_json, show_text


class Outcome(StrEnum):
    """What a person found out about a message in doubt."""

    SENT = "sent"
    FAILED = "failed"
    RETRY = "retry"


def resolve(
    context: typer.Context,
    message_id: MessageId,
    outcome: Annotated[Outcome, typer.Argument(help="What became of it, or retry to send it again.")],
    note: Annotated[str, typer.Option(help="Why; kept with the message.")] = "",
    as_json: AsJson = False,
    config_file: ConfigFile = None,
) -> None:
    """Settle a message in doubt: it was sent, it was not, or it is to be sent again."""
    with reporting_errors(as_json=as_json):
        receipt = with_outbox(
            config_file or context.obj, lambda outbox: outbox.resolve(message_id, outcome.value, note=note)
        )
    if as_json:
        show_json(receipt_json(receipt))
    else:
        show_text(f"{receipt.status}: {receipt.id}")
