"""Options that filter messages, and the messages that they let through."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import typer

from postroom.cli.arguments import moment
from postroom.cli.output import UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from postroom.outbox import MessageFilter, MessageSummary, Outbox
    from postroom.receipts import Channel, Status

PAGE = 500
"""Messages read at a time."""


@dataclass(frozen=True, kw_only=True)
class FilterOptions:
    """The options of `list`, `retry`, `cancel`, `hold` and `purge` that say which messages are meant."""

    status: Annotated[list[str], typer.Option(help="Only in this state; repeatable.")] = field(default_factory=list)
    channel: Annotated[str | None, typer.Option(help="Only email, or only sms.")] = None
    account: Annotated[str | None, typer.Option(help="Only of this account.")] = None
    to: Annotated[str | None, typer.Option(help="Only to an address that contains this.")] = None
    since: Annotated[str | None, typer.Option(help="Only accepted at or after this ISO 8601 time.")] = None
    until: Annotated[str | None, typer.Option(help="Only accepted before this ISO 8601 time.")] = None

    def __bool__(self) -> bool:
        """Whether any of them was given."""
        return any((self.status, self.channel, self.account, self.to, self.since, self.until))

    def message_filter(self) -> MessageFilter:
        """Return the filter. Raises UsageError for a value that cannot be meant."""
        from postroom.outbox.views import MessageFilter

        return MessageFilter(
            status=tuple(_status(word) for word in self.status),
            channel=_channel(self.channel),
            account=self.account,
            to=self.to,
            since=_seconds(self.since, "--since"),
            until=_seconds(self.until, "--until"),
            limit=PAGE,
        )


async def matching(outbox: Outbox, which: MessageFilter, limit: int | None = None) -> AsyncIterator[MessageSummary]:
    """Yield the messages that `which` lets through, the newest first and at most `limit`, read page by page."""
    from dataclasses import replace

    while limit is None or limit > 0:
        lines = await outbox.list(replace(which, limit=PAGE if limit is None else min(PAGE, limit)))
        for line in lines:
            yield line
        if len(lines) < PAGE:
            return
        which = replace(which, before_seq=lines[-1].seq)
        limit = None if limit is None else limit - len(lines)


def _status(word: str) -> Status:
    from postroom.receipts import Status

    try:
        return Status(word.replace("-", "_"))
    except ValueError:
        raise UsageError(f"must be one of {', '.join(Status)}", option="--status") from None


def _channel(word: str | None) -> Channel | None:
    from postroom.receipts import Channel

    try:
        return None if word is None else Channel(word)
    except ValueError:
        raise UsageError("must be email or sms", option="--channel") from None


def _seconds(given: str | None, option: str) -> float | None:
    found = moment(given, option)
    return found.timestamp() if found else None
