"""A person confirms what is done to many messages."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from postroom.cli.output import UsageError

Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def confirm(verb: str, count: int, *, yes: bool) -> None:
    """Ask whether so many messages are meant. Raises UsageError where nobody can be asked."""
    what = f"{verb} {count} message{'s' if count > 1 else ''}"
    ask(f"{what}?", f"{what} without being asked", yes=yes)


def ask(question: str, needed_to: str, *, yes: bool) -> None:
    """Ask, and go on only after a yes. Raises UsageError where nobody can be asked: --yes is `needed_to` do it."""
    if yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise UsageError(f"is needed to {needed_to}; nothing was changed", option="--yes")
    typer.confirm(question, abort=True, err=True)
