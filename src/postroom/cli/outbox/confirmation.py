"""A person confirms what is done to many messages."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from postroom.cli.output import UsageError

Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def confirm(verb: str, count: int, *, yes: bool) -> None:
    """Ask whether so many messages are meant. Raises UsageError where nobody can be asked."""
    if yes:
        return
    what = f"{verb} {count} message{'s' if count > 1 else ''}"
    if sys.stdin is None or not sys.stdin.isatty():
        raise UsageError(f"is needed to {what} without being asked; nothing was changed", option="--yes")
    typer.confirm(f"{what}?", abort=True, err=True)
