"""Tables: drawn on a terminal, tab-separated in a pipe."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from postroom.cli.output import show_text
from postroom.terminal import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def show_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows under their column names."""
    rows = [[printable(cell, lines=False) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for row in (columns, *rows):
            show_text("\t".join(row))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Column, Table

    table = Table(*(Column(name, overflow="fold") for name in columns), box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    Console().print(table)
