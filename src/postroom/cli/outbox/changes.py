"""`postroom outbox retry`, `cancel`, `hold`: one message by its id, or many by what they have in common."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

from postroom.cli.arguments import AsJson, ConfigFile, with_option_groups
from postroom.cli.outbox.confirmation import Yes, confirm
from postroom.cli.outbox.filters import PAGE, FilterOptions, matching
from postroom.cli.outbox.opening import with_outbox
from postroom.cli.output import ACCEPTED, FAILED, UsageError, reporting_errors, show_json, show_text, warn

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence
    from pathlib import Path

    from postroom.errors import PostroomError
    from postroom.outbox import Outbox
    from postroom.outbox.states import Transition
    from postroom.receipts import Receipt, Status

Ids = Annotated[list[str] | None, typer.Argument(help="Messages by id; else those that the options choose.")]


@dataclass(frozen=True, kw_only=True)
class ChangeOptions(FilterOptions):
    """Which messages to change, how many of them, and whether a person is asked first."""

    limit: Annotated[int | None, typer.Option(min=1, help="At most so many, the newest.")] = None
    yes: Yes = False


@with_option_groups
def retry(
    context: typer.Context,
    options: ChangeOptions,
    message_ids: Ids = None,
    as_json: AsJson = False,
    config_file: ConfigFile = None,
) -> None:
    """Send messages again, now: those named, or of those chosen the ones that failed.

    Recipients who were accepted are left out. What was cancelled, is held, waits, or is in doubt is sent by its id, or
    with --status.
    """
    with reporting_errors(as_json=as_json):
        from postroom.outbox.states import Transition
        from postroom.receipts import Status

        usual = {Status.FAILED}
        change = Change("retry", Transition.REQUEUE, usual, message_ids or [], options)
        change.run(config_file or context.obj, as_json=as_json)


@with_option_groups
def cancel(
    context: typer.Context,
    options: ChangeOptions,
    message_ids: Ids = None,
    as_json: AsJson = False,
    config_file: ConfigFile = None,
) -> None:
    """Stop messages that still wait."""
    with reporting_errors(as_json=as_json):
        from postroom.outbox.states import WAITING, Transition

        change = Change("cancel", Transition.CANCEL, WAITING, message_ids or [], options)
        change.run(config_file or context.obj, as_json=as_json)


@with_option_groups
def hold(
    context: typer.Context,
    options: ChangeOptions,
    message_ids: Ids = None,
    as_json: AsJson = False,
    config_file: ConfigFile = None,
) -> None:
    """Keep messages that still wait, until `postroom outbox retry` lets them go."""
    with reporting_errors(as_json=as_json):
        from postroom.outbox.states import WAITING, Transition

        change = Change("hold", Transition.HOLD, WAITING, message_ids or [], options)
        change.run(config_file or context.obj, as_json=as_json)


@dataclass(frozen=True)
class Change:
    """A transition of the messages with `ids`, or of those that `options` choose; by default those that are `usual`."""

    verb: str
    transition: Transition
    usual: Collection[Status]
    ids: Sequence[str]
    options: ChangeOptions

    def run(self, config_file: Path | None, *, as_json: bool) -> None:
        """Make it, report it, and exit with 1 when some messages refused."""
        self._check()
        changed, refused = with_outbox(config_file, self._make)
        if as_json:
            errors = [{"id": id_, "error": error.code, "message": str(error)} for id_, error in refused]
            show_json({"changed": [receipt.id for receipt in changed], "refused": errors})
        else:
            _report(changed, refused)
        raise typer.Exit(FAILED if refused else ACCEPTED)

    def _check(self) -> None:
        from postroom.outbox.states import allowed_from

        if self.ids and self.options:
            raise UsageError("name messages by id, or choose them by options, but not both")
        if not (self.ids or self.options):
            raise UsageError("name messages by id, or choose them: --status, --account, --to, --since and so on")
        if wrong := set(self.options.message_filter().status) - allowed_from(self.transition):
            raise UsageError(f"cannot {self.verb} what is {min(wrong)}", option="--status")

    async def _make(self, outbox: Outbox) -> tuple[list[Receipt], list[tuple[str, PostroomError]]]:
        from asyncio import gather

        change = {"retry": outbox.retry, "cancel": outbox.cancel, "hold": outbox.hold}[self.verb]
        ids = self.ids or await self._chosen(outbox)
        changed: list[Receipt] = []
        refused: list[tuple[str, PostroomError]] = []
        for at in range(0, len(ids), PAGE):
            page = ids[at : at + PAGE]
            for id_, result in zip(page, await gather(*(_result(change, id_) for id_ in page)), strict=True):
                if isinstance(result, Exception):
                    refused.append((id_, result))
                else:
                    changed.append(result)
        return changed, refused

    async def _chosen(self, outbox: Outbox) -> list[str]:
        which = self.options.message_filter()
        which = which if which.status else replace(which, status=tuple(self.usual))
        ids = [line.id async for line in matching(outbox, which, self.options.limit)]
        if ids:
            confirm(self.verb, len(ids), yes=self.options.yes)
        return ids


async def _result(change: Callable[[str], Awaitable[Receipt]], message_id: str) -> Receipt | PostroomError:
    from postroom.errors import PostroomError

    try:
        return await change(message_id)
    except PostroomError as error:
        return error


def _report(changed: Sequence[Receipt], refused: Sequence[tuple[str, PostroomError]]) -> None:
    for receipt in changed:
        show_text(f"{receipt.status}: {receipt.id}")
    for id_, error in refused:
        warn(f"{id_}: {error}")
    if not (changed or refused):
        warn("no message is meant by that; `postroom outbox list` with the same options shows what there is")
