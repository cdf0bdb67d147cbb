"""`postroom suppressions`: who is not written to."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from postroom.cli.arguments import AsJson, ConfigFile
from postroom.cli.outbox.opening import with_outbox
from postroom.cli.output import reporting_errors, show_json, show_text
from postroom.cli.tables import show_table

if TYPE_CHECKING:
    from postroom.outbox import Outbox
    from postroom.outbox.records import Suppression, SuppressionCategory

app = typer.Typer(name="suppressions", help="Show and change who is not written to.", no_args_is_help=True)

_PAGE = 500


class ChannelName(StrEnum):
    """What an address is for."""

    EMAIL = "email"
    SMS = "sms"


class CategoryName(StrEnum):
    """Which messages are meant."""

    ALL = "all"
    MARKETING = "marketing"
    TRANSACTIONAL = "transactional"


_SCOPES: dict[CategoryName, SuppressionCategory] = {
    CategoryName.ALL: "",
    CategoryName.MARKETING: "marketing",
    CategoryName.TRANSACTIONAL: "transactional",
}

Address = Annotated[str, typer.Argument(help="An e-mail address, or a number such as +442079460958.")]
Category = Annotated[CategoryName, typer.Option(help="Only messages of this category.")]


@app.command("list")
def list_suppressions(
    context: typer.Context,
    channel: Annotated[ChannelName | None, typer.Option(help="Only this channel.")] = None,
    as_json: AsJson = False,
    config_file: ConfigFile = None,
) -> None:
    """List who is not written to, by address."""
    with reporting_errors(as_json=as_json):
        found = with_outbox(config_file or context.obj, lambda outbox: _all(outbox, channel))
    if as_json:
        show_json([entry.model_dump(mode="json") for entry in found])
        return
    rows = [
        (entry.address, entry.channel, entry.category or "all", entry.reason, f"{entry.since:%Y-%m-%d}")
        for entry in found
    ]
    show_table(("address", "channel", "category", "reason", "since"), rows)


@app.command()
def add(
    context: typer.Context,
    address: Address,
    category: Category = CategoryName.ALL,
    note: Annotated[str, typer.Option(help="Why; kept with the entry.")] = "",
    as_json: AsJson = False,
    config_file: ConfigFile = None,
) -> None:
    """Write no more to an address."""
    _change(context, address, category, note, config_file, lifted=False, as_json=as_json)


@app.command()
def remove(
    context: typer.Context,
    address: Address,
    category: Category = CategoryName.ALL,
    note: Annotated[str, typer.Option(help="Why; kept with the entry.")] = "",
    as_json: AsJson = False,
    config_file: ConfigFile = None,
) -> None:
    """Write to an address again."""
    _change(context, address, category, note, config_file, lifted=True, as_json=as_json)


def _change(
    context: typer.Context,
    address: str,
    category: CategoryName,
    note: str,
    config_file: Any,
    *,
    lifted: bool,
    as_json: bool,
) -> None:
    with reporting_errors(as_json=as_json):
        entry = _entry(address, category, note, lifted=lifted)
        with_outbox(config_file or context.obj, lambda outbox: outbox.suppressions.add(entry), create=True)
    if as_json:
        show_json(entry.model_dump(mode="json"))
    else:
        show_text(f"{entry.address} is written to again" if lifted else str(entry))


def _entry(address: str, category: CategoryName, note: str, *, lifted: bool) -> Suppression:
    from postroom.outbox.suppression import by_hand
    from postroom.receipts import Channel

    channel = Channel.EMAIL if "@" in address else Channel.SMS
    return by_hand(channel, address, _SCOPES[category], note or None, lifted=lifted)


async def _all(outbox: Outbox, channel: ChannelName | None) -> list[Suppression]:
    from postroom.receipts import Channel

    found: list[Suppression] = []
    wanted = Channel(channel.value) if channel else None
    while page := await outbox.suppressions.list(channel=wanted, after=found[-1].place if found else "", limit=_PAGE):
        found += page
    return found
