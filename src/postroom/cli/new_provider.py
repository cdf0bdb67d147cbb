"""`postroom new-provider`: a distribution to begin a provider with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from postroom.cli.output import reporting_errors, show_text


def new_provider(
    name: Annotated[str, typer.Argument(help="The provider's name, as users will write it.")],
    channel: Annotated[Literal["email", "sms"], typer.Option(help="What it carries.")],
) -> None:
    """Write a provider to begin with: a distribution that installs and passes its tests as it is."""
    from postroom.receipts import Channel
    from postroom.scaffold import MARK, open_places, write_provider

    with reporting_errors():
        folder = write_provider(name, Channel(channel), Path())
    show_text(f"wrote {folder}; it works as it is, over an invented API. Where it says {MARK} is your part:")
    for file, count in open_places(folder).items():
        show_text(f"  {folder / file}: {count}")
    show_text(f"begin with: pip install --group dev -e {folder}; pytest {folder}")
