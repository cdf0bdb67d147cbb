"""Messages, counts and accounts of the outbox as lines and as JSON; never their texts, never a credential."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer

from postroom.cli.tables import show_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from postroom.outbox import AccountHealth, MessageDetails, MessageSummary, OutboxStats
    from postroom.receipts import Receipt

COLUMNS = ("id", "status", "channel", "account", "to", "subject", "accepted", "due", "attempts", "error")
ATTEMPT = ("started_at", "account", "outcome", "error", "provider_code", "status", "duration", "detail")
RECIPIENT = ("address", "outcome", "code", "provider_code", "provider_message_id", "detail")
EVENT = ("occurred_at", "type", "recipient", "code", "detail")


def row_json(line: MessageSummary) -> dict[str, Any]:
    """Return a line of a listing; an SMS has no subject, and its text is not shown."""
    told: dict[str, Any] = line.model_dump(mode="json")
    return told if line.channel == "email" else {**told, "subject": ""}


def show_rows(lines: Sequence[MessageSummary]) -> None:
    """Print a listing."""
    show_table(COLUMNS, (_row(line) for line in lines))


def message_json(shown: MessageDetails) -> dict[str, Any]:
    """Return all that is known of one message, with `to` and `subject` in place of the message."""
    told: dict[str, Any] = shown.model_dump(mode="json", exclude={"message"})
    return {**told, "to": list(_recipients(shown)), "subject": _subject(shown)}


def message_lines(shown: MessageDetails) -> Iterator[str]:
    """Yield all that is known of one message as lines: times, then recipients, attempts and events."""
    receipt = shown.receipt
    yield f"id: {receipt.id}"
    yield f"status: {receipt.status}"
    yield f"channel: {receipt.channel}"
    yield f"to: {', '.join(_recipients(shown))}"
    if subject := _subject(shown):
        yield f"subject: {plain(subject)}"
    yield f"account: {shown.account}"
    for name in ("route", "priority", "crashes"):
        yield f"{name}: {getattr(shown, name)}"
    for name in ("provider_message_id", "message_id"):
        if getattr(receipt, name):
            yield f"{name}: {plain(getattr(receipt, name))}"
    for name in ("created_at", "due_at", "begun_at", "settled_at", "expires_at"):
        if found := getattr(shown, name):
            yield f"{name}: {_time(found)}"
    yield from _section("recipients", RECIPIENT, receipt.recipients)
    yield from _section("attempts", ATTEMPT, receipt.attempts)
    yield from _section("events", EVENT, shown.events)


def next_step(receipt: Receipt) -> str | None:
    """Return what a person may do about a message, or None when there is nothing."""
    return {
        "in_doubt": f"look for it at the provider, then: postroom outbox resolve {receipt.id} sent|failed|retry",
        "failed": f"to send it again: postroom outbox retry {receipt.id}",
        "expired": f"to send it again: postroom outbox retry {receipt.id}",
        "held": f"to let it go: postroom outbox retry {receipt.id}",
    }.get(receipt.status)


def show_stats(stats: OutboxStats) -> None:
    """Print counts by state, then what waits for each account and how it does."""
    show_table(("status", "messages"), ((status, str(count)) for status, count in sorted(stats.states.items())))
    typer.echo("")
    waiting = {backlog.queue: backlog.messages for backlog in stats.waiting}
    health = {account.queue: account for account in stats.accounts}
    rows = [(queue, str(waiting.get(queue, 0)), _state(health.get(queue))) for queue in sorted({*waiting, *health})]
    show_table(("account", "waiting", "state"), rows)
    typer.echo("")
    oldest = f"; the oldest waiting was accepted at {_time(stats.oldest_waiting)}" if stats.oldest_waiting else ""
    typer.echo(f"workers: {stats.workers}{oldest}")


def counts_line(stats: OutboxStats, now: datetime) -> str:
    """Return one line with the counts, for a log."""
    counts = " ".join(f"{status}={count}" for status, count in sorted(stats.states.items()))
    return f"{_time(now)} workers={stats.workers} {counts}".rstrip()


def plain(text: str) -> str:
    """Return text on one line, without what a terminal would act on."""
    return "".join(character if character.isprintable() else " " for character in text)


def _row(line: MessageSummary) -> tuple[str, ...]:
    subject = line.subject if line.channel == "email" else ""
    due = _time(line.due_at) if line.due_at else ""
    to = ", ".join(line.to)
    cells = (line.id, line.status, line.channel, line.account, to, subject, _time(line.created_at), due)
    return tuple(plain(cell) for cell in (*cells, str(line.attempts), line.error or ""))


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
        return _time(value)
    return f"{value:.3f}" if isinstance(value, float) else plain(str(value))


def _state(health: AccountHealth | None) -> str:
    if health is None:
        return ""
    resting = health.cooldown_until > datetime.now(UTC).timestamp()
    if resting or health.paused:
        until = _time(datetime.fromtimestamp(health.cooldown_until, UTC))
        word = "paused" if health.paused else "resting"
        return plain(f"{word} until {until}: {health.reason or 'trouble'}")
    return "good" if not health.consecutive_failures else plain(f"in trouble: {health.reason or 'no answer'}")


def _recipients(shown: MessageDetails) -> tuple[str, ...]:
    if shown.message is not None:
        return shown.message.recipients
    return tuple(result.address for result in shown.receipt.recipients)


def _subject(shown: MessageDetails) -> str:
    return getattr(shown.message, "subject", "") or ""


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
