"""One bulk run of `postroom send-many`: sends the rows that are due, and records the result of each."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from postroom.cli.output import (
    ACCEPTED,
    FAILED,
    INTERRUPTED,
    UNKNOWN,
    ResultsFileError,
    UsageError,
    exit_code_of,
    show_json,
    show_text,
    warn,
)
from postroom.cli.send_many.results_file import ResultsFile, state_of_result
from postroom.cli.send_many.rows import open_rows
from postroom.errors import MessageError, OutboxError, PostroomError
from postroom.messages import new_id

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from postroom.cli.send_many.results_file import State
    from postroom.cli.send_many.rows import Row
    from postroom.client import Postroom
    from postroom.delivery.bulk import Result
    from postroom.messages import Email, Sms

KINDS = ("accepted", "failed", "unknown", "skipped")


def states_to_retry(*, failed: bool, unknown: bool) -> list[State]:
    """Return the states whose rows are sent again."""
    wanted: dict[State, bool] = {"failed": failed, "unknown": unknown}
    return [state for state, again in wanted.items() if again]


@contextmanager
def open_results(file: str, results: Path | None, again: Collection[State]) -> Iterator[ResultsFile]:
    """Open the results file that belongs to `file`. Raises UsageError when either cannot be used."""
    path = results or Path("results.jsonl" if file == "-" else f"{file}.results.jsonl")
    if not Path(file).is_fifo():
        with open_rows(file):  # a mistyped name must not leave an empty results file behind
            pass
    if file != "-" and path.exists() and path.samefile(file):
        raise UsageError(f"{path} is the input; name another file for the results", option="--results")
    opened = ResultsFile(path, again)
    try:
        yield opened
    finally:
        opened.close()


class BulkRun:
    """One run over a file: what it counts, and what it leaves alone."""

    def __init__(self, results: ResultsFile, *, quiet: bool) -> None:
        self.counts: Counter[str] = Counter()
        self._results = results
        self._quiet = quiet
        self._advance: Callable[[], None] = lambda: None
        self._under_way: dict[int, Row] = {}
        self._interrupted = False
        self._problem: PostroomError | None = None

    @property
    def code(self) -> int:
        if self.counts["unknown"]:
            return UNKNOWN
        if self._interrupted:
            return INTERRUPTED
        if self._problem:
            return exit_code_of(self._problem)
        return FAILED if self.counts["failed"] else ACCEPTED

    def send(self, room: Postroom, file: str, at_once: int, *, enqueue: bool = False) -> None:
        """Send the rows that are due, or put them into the outbox, at most `at_once` together.

        Raises UsageError, before any, for a changed row.
        """
        total = self._check_rows(file)
        try:
            with open_rows(file) as rows, progress_bar(total, quiet=self._quiet) as self._advance:
                asyncio.run((self._enqueue if enqueue else self._send)(room, rows, at_once))
        except KeyboardInterrupt:
            self._interrupted = True
            warn(f"interrupted; run it again to go on, the results so far are in {self._results.path}")
            self._doubt_what_is_under_way()

    def report(self, *, as_json: bool) -> None:
        """Say how many rows ended how."""
        problem = self._problem
        if problem and not as_json:
            warn(f"error: {problem}")
        if as_json:
            error = {"error": problem.code, "message": str(problem)} if problem else {}
            show_json({**{kind: self.counts[kind] for kind in KINDS}, "results": str(self._results.path), **error})
            return
        counted = ", ".join(f"{self.counts[kind]} {kind}" for kind in KINDS)
        show_text(f"{counted}; results in {self._results.path}")

    def _check_rows(self, file: str) -> int | None:
        """Hold every row to the earlier results before any is sent; return how many there are, if that can be known."""
        if not Path(file).is_file():
            return None
        count = 0
        with open_rows(file) as rows:
            for row in rows:
                self._results.before(row)
                count += 1
        return count

    async def _send(self, room: Postroom, rows: Iterator[Row], at_once: int) -> None:
        async with room:
            await room.send_each(self._due(rows), self._done, at_once=at_once)

    async def _enqueue(self, room: Postroom, rows: Iterator[Row], at_once: int) -> None:
        """Accept the rows that are due, `at_once` in one transaction; ends where the outbox takes no more."""
        async with room:
            numbered = enumerate(self._due(rows))
            while batch := list(islice(numbered, at_once)):
                for (index, _), result in zip(batch, await self._accepted(room, [m for _, m in batch]), strict=True):
                    self._done(index, result)
                if self._problem:
                    return

    async def _accepted(self, room: Postroom, messages: list[Email | Sms]) -> list[Result]:
        try:
            return await room.enqueue_many(messages)
        except OutboxError as problem:
            self._problem = problem
            return [problem] * len(messages)

    def _due(self, rows: Iterator[Row]) -> Iterator[Email | Sms]:
        """Yield the messages to send, each marked as begun before it is handed over.

        A problem with the results file, or a changed row that no check could find before, ends this: what is under way
        still gets its result.
        """
        index = 0
        try:
            for row in rows:
                message = self._begun(row)
                if self._problem:
                    return
                if message is not None:
                    self._under_way[index] = row
                    index += 1
                    yield message
        except (UsageError, ResultsFileError) as problem:
            self._problem = problem

    def _begun(self, row: Row) -> Email | Sms | None:
        before = self._results.before(row)
        if before:
            self._skip(row, before)
            return None
        try:
            message = row.message()
        except MessageError as error:
            self._end(row, error)
            return None
        message = message if message.id else message.stamped(id=new_id())
        self._results.begin(row, str(message.id))
        return message

    def _skip(self, row: Row, before: State) -> None:
        self.counts["skipped"] += 1
        if before != "accepted":
            self.counts[before] += 1
        if before == "unknown":
            warn(f"{row} may have been sent before and is left alone; --retry-unknown sends it again")
        self._advance()

    def _done(self, index: int, result: Result) -> None:
        row = self._under_way.pop(index)
        try:
            self._end(row, result)
        except ResultsFileError as problem:
            self._problem = problem
            self.counts[state_of_result(result)] += 1
            warn(f"{row} ended as {state_of_result(result)}, which could not be written down")

    def _end(self, row: Row, result: Result) -> None:
        state = self._results.end(row, result)
        self.counts[state] += 1
        if state != "accepted":
            warn(f"{row}: {result}")
        self._advance()

    def _doubt_what_is_under_way(self) -> None:
        for row in self._under_way.values():
            self.counts["unknown"] += 1
            warn(f"{row} was under way and may have been sent")


@contextmanager
def progress_bar(total: int | None, *, quiet: bool) -> Iterator[Callable[[], None]]:
    """Show progress on a terminal's standard error; yields what to call after each row."""
    if quiet or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

    columns = BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("sending", total=total)
        yield lambda: bar.advance(task)
