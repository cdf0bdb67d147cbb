"""`postroom outbox retry`, `cancel`, `hold`, `purge`: one message by its id, or many by what they have in common."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from postroom.cli.outbox.filters import (
    PAGE,
    Account,
    ChannelName,
    Since,
    Statuses,
    To,
    Until,
    Yes,
    asked,
    choice_of,
    chosen,
)
from postroom.cli.output import ACCEPTED, FAILED, AsJson, ConfigFile, reporting_errors, show_json, warn

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from postroom.errors import PostroomError
    from postroom.outbox import MessageFilter, Outbox
    from postroom.outbox.states import Transition
    from postroom.receipts import Receipt, Status

Ids = Annotated[list[str] | None, typer.Argument(help="Messages by id; else those that the options choose.")]
Most = Annotated[int | None, typer.Option("--limit", min=1, help="At most so many, the newest.")]


def retry(
    context: typer.Context,
    message_ids: Ids = None,
    status: Statuses = [],
    channel: ChannelName = None,
    account: Account = None,
    to: To = None,
    since: Since = None,
    until: Until = None,
    limit: Most = None,
    yes: Yes = False,
    as_json: AsJson = False,
    config_file: ConfigFile = None,
) -> None:
    """Send messages again, now: those named, or of those chosen the ones that failed or expired.

    Recipients who were accepted are left out. What was cancelled, is held, waits, or is in doubt is sent by its id, or
    with --status.
    """
    with reporting_errors(as_json=as_json):
        from postroom.outbox.states import Transition
        from postroom.receipts import Status

        choice = choice_of(status=status, channel=channel, account=account, to=to, since=since, until=until)
        usual = {Status.FAILED, Status.EXPIRED}
        bulk = Bulk(Transition.REQUEUE, "retry", choice, usual, message_ids or [], limit, yes=yes, as_json=as_json)
        bulk.run(config_file or context.obj)


def cancel(
    context: typer.Context,
    message_ids: Ids = None,
    status: Statuses = [],
    channel: ChannelName = None,
    account: Account = None,
    to: To = None,
    since: Since = None,
    until: Until = None,
    limit: Most = None,
    yes: Yes = False,
    as_json: AsJson = False,
    config_file: ConfigFile = None,
) -> None:
    """Stop messages that still wait."""
    with reporting_errors(as_json=as_json):
        from postroom.outbox.states import WAITING, Transition

        choice = choice_of(status=status, channel=channel, account=account, to=to, since=since, until=until)
        bulk = Bulk(Transition.CANCEL, "cancel", choice, WAITING, message_ids or [], limit, yes=yes, as_json=as_json)
        bulk.run(config_file or context.obj)


def hold(
    context: typer.Context,
    message_ids: Ids = None,
    status: Statuses = [],
    channel: ChannelName = None,
    account: Account = None,
    to: To = None,
    since: Since = None,
    until: Until = None,
    limit: Most = None,
    yes: Yes = False,
    as_json: AsJson = False,
    config_file: ConfigFile = None,
) -> None:
    """Keep messages that still wait, until `postroom outbox retry` lets them go."""
    with reporting_errors(as_json=as_json):
        from postroom.outbox.states import WAITING, Transition

        choice = choice_of(status=status, channel=channel, account=account, to=to, since=since, until=until)
        bulk = Bulk(Transition.HOLD, "hold", choice, WAITING, message_ids or [], limit, yes=yes, as_json=as_json)
        bulk.run(config_file or context.obj)


def purge(
    context: typer.Context,
    status: Statuses = [],
    channel: ChannelName = None,
    account: Account = None,
    to: To = None,
    since: Since = None,
    until: Until = None,
    yes: Yes = False,
    as_json: AsJson = False,
    config_file: ConfigFile = None,
) -> None:
    """Remove settled messages and all that is known of them, for good."""
    with reporting_errors(as_json=as_json):
        from postroom.errors import InvalidOption
        from postroom.outbox.states import SETTLED

        choice = choice_of(status=status, channel=channel, account=account, to=to, since=since, until=until)
        if unsettled := set(choice.status) - SETTLED:
            raise InvalidOption(
                f"{min(unsettled)} messages are not settled; cancel or resolve them before", path="--status"
            )
        removed = asked(config_file or context.obj, lambda outbox: _purged(outbox, choice, yes=yes))
    if as_json:
        show_json({"removed": removed})
    else:
        typer.echo(f"removed: {removed}")


@dataclass(frozen=True)
class Bulk:
    """A move to be made with the messages named by `ids`, or with those of `choice`.

    Where `choice` says nothing of states, it means `usual`.
    """

    move: Transition
    verb: str
    choice: MessageFilter
    usual: Collection[Status]
    ids: Sequence[str]
    most: int | None
    yes: bool
    as_json: bool

    def run(self, config_file: Path | None) -> None:
        """Do it, tell it, and exit with 1 when some messages refused."""
        self._check()
        done, refused = asked(config_file, self._done)
        if self.as_json:
            told = [{"id": id_, "error": error.code, "message": str(error)} for id_, error in refused]
            show_json({"changed": [receipt.id for receipt in done], "refused": told})
        else:
            for receipt in done:
                typer.echo(f"{receipt.status}: {receipt.id}")
            for id_, error in refused:
                warn(f"{id_}: {error}")
            if not (done or refused):
                warn("no message is meant by that; `postroom outbox list` with the same options shows what there is")
        raise typer.Exit(FAILED if refused else ACCEPTED)

    def _check(self) -> None:
        from postroom.errors import InvalidOption, MessageError
        from postroom.outbox.states import allowed_from

        narrowed = self.choice != type(self.choice)(limit=PAGE)
        if self.ids and narrowed:
            raise MessageError("name messages by id, or choose them by options, but not both")
        if not (self.ids or narrowed):
            raise MessageError("name messages by id, or choose them: --status, --account, --to, --since and so on")
        if wrong := set(self.choice.status) - allowed_from(self.move):
            raise InvalidOption(f"cannot {self.verb} what is {min(wrong)}", path="--status")

    async def _done(self, outbox: Outbox) -> tuple[list[Receipt], list[tuple[str, PostroomError]]]:
        from asyncio import gather

        ids = self.ids or await self._chosen(outbox)
        done: list[Receipt] = []
        refused: list[tuple[str, PostroomError]] = []
        for at in range(0, len(ids), PAGE):
            page = ids[at : at + PAGE]
            for id_, result in zip(page, await gather(*(self._changed(outbox, i) for i in page)), strict=True):
                if isinstance(result, Exception):
                    refused.append((id_, result))
                else:
                    done.append(result)
        return done, refused

    async def _chosen(self, outbox: Outbox) -> list[str]:
        choice = self.choice if self.choice.status else replace(self.choice, status=tuple(self.usual))
        ids = [line.id async for line in chosen(outbox, choice, self.most)]
        if ids:
            confirm(self.verb, len(ids), yes=self.yes)
        return ids

    async def _changed(self, outbox: Outbox, message_id: str) -> Receipt | PostroomError:
        from postroom.errors import PostroomError

        change: Any = {"retry": outbox.retry, "cancel": outbox.cancel, "hold": outbox.hold}[self.verb]
        try:
            receipt: Receipt = await change(message_id)
        except PostroomError as error:
            return error
        return receipt


async def _purged(outbox: Outbox, choice: MessageFilter, *, yes: bool) -> int:
    from postroom.outbox.states import SETTLED

    settled = choice if choice.status else replace(choice, status=tuple(SETTLED))
    count = sum([1 async for _ in chosen(outbox, settled)])
    if not count:
        return 0
    confirm("purge", count, yes=yes)
    return await outbox.purge(settled)


def confirm(verb: str, count: int, *, yes: bool) -> None:
    """Ask whether so many messages are meant. Raises InvalidOption where nobody can be asked."""
    from postroom.errors import InvalidOption

    if yes:
        return
    what = f"{verb} {count} message{'s' if count > 1 else ''}"
    if sys.stdin is None or not sys.stdin.isatty():
        raise InvalidOption(f"is needed to {what} without being asked; nothing was changed", path="--yes")
    typer.confirm(f"{what}?", abort=True, err=True)
