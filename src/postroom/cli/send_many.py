"""`postroom send-many`: a file of messages, resumable."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from postroom.cli.exits import ACCEPTED, FAILED, UNKNOWN, AsJson, ConfigFile, errors_told, show_json, warn

if TYPE_CHECKING:
    from postroom.cli.journal import Journal
    from postroom.cli.rows import Row
    from postroom.messages import Email, Sms
    from postroom.room import Postroom, Result


def send_many(
    context: typer.Context,
    file: Annotated[str, typer.Argument(help="JSON lines, or CSV when it ends in .csv; '-' reads JSON lines.")],
    results: Annotated[Path | None, typer.Option(help="Results file; else FILE.results.jsonl.")] = None,
    at_once: Annotated[int, typer.Option(min=1, max=10_000, help="Messages under way together.")] = 100,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Send rows again that failed before.")] = False,
    retry_unknown: Annotated[
        bool, typer.Option("--retry-unknown", help="Send rows again that may have been sent before.")
    ] = False,
    as_json: AsJson = False,
    config_file: ConfigFile = None,
) -> None:
    """Send every message of a file, and write a result for each row.

    Run it again with the same results file to go on after an interruption: rows that were accepted, refused or may
    have been sent are left alone.
    """
    import asyncio

    with errors_told(as_json=as_json):
        from postroom.cli.journal import Journal
        from postroom.cli.rows import open_rows
        from postroom.room import Postroom

        again = {name for name, wanted in (("failed", retry_failed), ("unknown", retry_unknown)) if wanted}
        room = Postroom.from_config(config_file or context.obj)
        journal = Journal(results or Path("results.jsonl" if file == "-" else f"{file}.results.jsonl"))
        run = Run(journal, again)
        try:
            with open_rows(file) as rows, progress_bar(quiet=as_json) as advance:
                run.advance = advance
                asyncio.run(run.send(room, rows, at_once))
        except KeyboardInterrupt:
            warn(f"interrupted; run it again to go on, the results so far are in {journal.path}")
        finally:
            journal.close()
    run.report(as_json=as_json)
    raise typer.Exit(run.code)


class Run:
    """One run over a file: what it counts, and what it leaves alone."""

    def __init__(self, journal: Journal, again: set[str]) -> None:
        self.advance: Callable[[], None] = lambda: None
        self.counts: Counter[str] = Counter()
        self._journal = journal
        self._again = again
        self._under_way: dict[int, Row] = {}

    @property
    def code(self) -> int:
        if self.counts["unknown"]:
            return UNKNOWN
        return FAILED if self.counts["failed"] else ACCEPTED

    async def send(self, room: Postroom, rows: Iterator[Row], at_once: int) -> None:
        """Send the rows that are due, at most `at_once` together."""
        async with room:
            await room.send_each(self._due(rows), self._done, at_once=at_once)

    def report(self, *, as_json: bool) -> None:
        """Say how many rows ended how."""
        kinds = ("accepted", "failed", "unknown", "skipped")
        if as_json:
            show_json({**{kind: self.counts[kind] for kind in kinds}, "results": str(self._journal.path)})
            return
        counted = ", ".join(f"{self.counts[kind]} {kind}" for kind in kinds)
        typer.echo(f"{counted}; results in {self._journal.path}")

    def _due(self, rows: Iterator[Row]) -> Iterator[Email | Sms]:
        """Yield the messages to send, each marked as begun before it is handed over."""
        index = 0
        for row in rows:
            before = self._journal.state_of(row)
            if before and before not in self._again:
                self._skip(row, before)
                continue
            message = self._built(row)
            if message is not None:
                self._under_way[index] = row
                index += 1
                self._journal.begin(row)
                yield message

    def _skip(self, row: Row, before: str) -> None:
        self.counts["skipped"] += 1
        if before != "accepted":
            self.counts[before] += 1
        if before == "unknown":
            warn(f"row {row.number} may have been sent before and is left alone; --retry-unknown sends it again")
        self.advance()

    def _built(self, row: Row) -> Email | Sms | None:
        from postroom.errors import MessageError

        try:
            return row.message()
        except MessageError as error:
            self._end(row, error)
            return None

    def _done(self, index: int, result: Result) -> None:
        self._end(self._under_way.pop(index), result)

    def _end(self, row: Row, result: Result) -> None:
        state = self._journal.end(row, result)
        self.counts[state] += 1
        if state != "accepted":
            said = str(result)
            warn(said if said.startswith(f"row {row.number}:") else f"row {row.number}: {said}")
        self.advance()


@contextmanager
def progress_bar(*, quiet: bool) -> Iterator[Callable[[], None]]:
    """Show progress on a terminal's standard error; yields what to call after each row."""
    if quiet or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

    with Progress(BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task("sending", total=None)
        yield lambda: bar.advance(task)
