"""`postroom outbox show`: all that is known of one message, but its text and its credentials."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from postroom.cli.arguments import AsJson, ConfigFile
from postroom.cli.outbox.opening import with_outbox
from postroom.cli.outbox.text import plain, time_text
from postroom.cli.output import reporting_errors, show_json, show_text, warn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from postroom.outbox import MessageDetails
    from postroom.receipts import Receipt

ATTEMPT = ("started_at", "account", "outcome", "error", "provider_code", "status", "duration", "detail")
RECIPIENT = ("address", "outcome", "code", "provider_code", "provider_message_id", "detail")
EVENT = ("occurred_at", "type", "recipient", "code", "detail")

MessageId = Annotated[str, typer.Argument(help="The message's id, as `postroom outbox list` shows it.")]


def show(
    context: typer.Context, message_id: MessageId, as_json: AsJson = False, config_file: ConfigFile = None
) -> None:
    """Show all that is known of one message, without its text."""
    with reporting_errors(as_json=as_json):
        details = with_outbox(config_file or context.obj, lambda outbox: outbox.get(message_id))
    if as_json:
        show_json(_json(details))
        return
    for line in _lines(details):
        show_text(line)
    if advice := _next_step(details.receipt):
        warn(advice)


def _json(details: MessageDetails) -> dict[str, Any]:
    """Return everything, with `to` and `subject` in place of the message."""
    known = details.model_dump(mode="json", exclude={"message"})
    return {**known, "to": list(_recipients(details)), "subject": _subject(details)}


def _lines(details: MessageDetails) -> Iterator[str]:
    """Yield everything as lines: times, then recipients, attempts and events."""
    receipt = details.receipt
    yield f"id: {receipt.id}"
    yield f"status: {receipt.status}"
    yield f"channel: {receipt.channel}"
    yield f"to: {', '.join(_recipients(details))}"
    if subject := _subject(details):
        yield f"subject: {plain(subject)}"
    yield f"account: {details.account}"
    for name in ("route", "priority", "crashes"):
        yield f"{name}: {getattr(details, name)}"
    for name in ("provider_message_id", "message_id"):
        if getattr(receipt, name):
            yield f"{name}: {plain(getattr(receipt, name))}"
    for name in ("created_at", "due_at", "begun_at", "settled_at", "expires_at"):
        if found := getattr(details, name):
            yield f"{name}: {time_text(found)}"
    yield from _section("recipients", RECIPIENT, receipt.recipients)
    yield from _section("attempts", ATTEMPT, receipt.attempts)
    yield from _section("events", EVENT, details.events)


def _section(title: str, names: Sequence[str], records: Sequence[object]) -> Iterator[str]:
    if not records:
        return
    yield ""
    yield f"{title}:"
    for record in records:
        values = ((name, getattr(record, name)) for name in names)
        yield "  " + "  ".join(f"{name}={_value(value)}" for name, value in values if value is not None)


def _value(value: object) -> str:
    if isinstance(value, datetime):
        return time_text(value)
    return f"{value:.3f}" if isinstance(value, float) else plain(str(value))


def _next_step(receipt: Receipt) -> str | None:
    """Return what a person may do about a message, or None when there is nothing."""
    return {
        "in_doubt": f"look for it at the provider, then: postroom outbox resolve {receipt.id} sent|failed|retry",
        "failed": f"to send it again: postroom outbox retry {receipt.id}",
        "expired": "its time is over; send it as a new message",
        "held": f"to let it go: postroom outbox retry {receipt.id}",
    }.get(receipt.status)


def _recipients(details: MessageDetails) -> tuple[str, ...]:
    if details.message is not None:
        return details.message.recipients
    return tuple(result.address for result in details.receipt.recipients)


def _subject(details: MessageDetails) -> str:
    return getattr(details.message, "subject", "") or ""
