"""The configured outbox, and which of its messages a command is about."""

from __future__ import annotations

import os.path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from postroom.cli.arguments import moment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from postroom.outbox import MessageFilter, MessageSummary, Outbox
    from postroom.receipts import Channel, Status

T = TypeVar("T")

PAGE = 500
"""Messages read at a time."""

Statuses = Annotated[list[str], typer.Option("--status", help="Only in this state; repeatable.")]
ChannelName = Annotated[str | None, typer.Option("--channel", help="Only email, or only sms.")]
Account = Annotated[str | None, typer.Option("--account", help="Only of this account.")]
To = Annotated[str | None, typer.Option("--to", help="Only to an address that contains this.")]
Since = Annotated[str | None, typer.Option("--since", help="Only accepted at or after this ISO 8601 time.")]
Until = Annotated[str | None, typer.Option("--until", help="Only accepted before this ISO 8601 time.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def asked(config_file: Path | None, question: Callable[[Outbox], Awaitable[T]], *, make: bool = False) -> T:
    """Put a question to the outbox of the configuration. Raises OutboxError when there is none, unless to `make` it."""
    import asyncio

    from postroom.client import Postroom
    from postroom.errors import OutboxError

    room = Postroom.from_config(config_file)
    path = room.config.outbox.path
    if not make and not os.path.exists(path):  # noqa: PTH110 - Path.exists raises where this user may not look
        raise OutboxError(
            f"there is no outbox at {path}; the first message that is enqueued makes it. For another, name its file in "
            "[outbox] url, or the configuration with --config"
        )

    async def answered() -> T:
        async with room:
            return await question(room.outbox)

    return asyncio.run(answered())


def choice_of(
    *,
    status: list[str],
    channel: str | None,
    account: str | None,
    to: str | None,
    since: str | None,
    until: str | None,
) -> MessageFilter:
    """Return what the options choose. Raises InvalidOption or MessageError for a value that cannot be meant."""
    from postroom.outbox.records import MessageFilter

    return MessageFilter(
        status=tuple(_status(word) for word in status),
        channel=_channel(channel),
        account=account,
        to=to,
        since=_seconds(since, "--since"),
        until=_seconds(until, "--until"),
        limit=PAGE,
    )


async def chosen(outbox: Outbox, choice: MessageFilter, most: int | None = None) -> AsyncIterator[MessageSummary]:
    """Yield the chosen messages, the newest first, page by page."""
    from dataclasses import replace

    while most is None or most > 0:
        lines = await outbox.list(replace(choice, limit=PAGE if most is None else min(PAGE, most)))
        for line in lines:
            yield line
        if len(lines) < PAGE:
            return
        choice = replace(choice, before_seq=lines[-1].seq)
        most = None if most is None else most - len(lines)


def _status(word: str) -> Status:
    from postroom.errors import InvalidOption
    from postroom.receipts import Status

    try:
        return Status(word.replace("-", "_"))
    except ValueError:
        raise InvalidOption(f"must be one of {', '.join(Status)}", path="--status") from None


def _channel(word: str | None) -> Channel | None:
    from postroom.errors import InvalidOption
    from postroom.receipts import Channel

    try:
        return None if word is None else Channel(word)
    except ValueError:
        raise InvalidOption("must be email or sms", path="--channel") from None


def _seconds(given: str | None, option: str) -> float | None:
    found = moment(given, option)
    return found.timestamp() if found else None
