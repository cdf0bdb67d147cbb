"""Copying an outbox to another place, whatever engine keeps either: everything, once, at most one of them workable."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from postroom.errors import ConfigError, OutboxError, PostroomError
from postroom.outbox.copy_mark import CopyMark, CopyState
from postroom.outbox.encryption import KEY_VARIABLE
from postroom.outbox.tables import BEGUN, ROWS_AT_ONCE, TABLES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from postroom.outbox.storage import CopyStorage

MARKS = "marks"
"""What progress calls the two marks that are put before the first row."""

LOOKS = 20
"""How often in the time of a lease it is looked whether a worker has shown a heartbeat."""

CREDENTIALS_TRIED = 100
"""How many messages' credentials are decrypted before anything is copied, to see that the other place has the key."""


class Step(StrEnum):
    """What is to be done, by the marks of both places."""

    FILL = "fill"
    """The new place is marked first: from then on nobody may write there."""
    LEAVE = "leave"
    """Then the old one: from then on nobody may write at either."""
    GO_ON = "go on"
    """Then rows are copied, and the new place opens."""
    TAKE_BACK = "take back"
    """Or a copy that was never completed ends, and the old place opens again."""
    NOTHING = "nothing"


class CopyResult(StrEnum):
    """How a copy ended."""

    COPIED = "copied"
    WAS_COPIED = "was copied before"
    TAKEN_BACK = "taken back"


@dataclass(frozen=True)
class CopyProgress:
    """One transaction that was made: how many rows of a table are there, of how many."""

    table: str
    rows: int
    total: int


@dataclass
class OutboxCopy:
    """Moves everything of `source` to `target`; run it again after whatever has interrupted it.

    `lease` is how long a worker may be silent until it counts as dead.
    """

    # The order of the marks is the promise. Target fenced, source fenced, rows, target open: whenever this dies, at
    # most one place takes writes, and what another run has to do follows from the two marks alone.

    source: CopyStorage
    target: CopyStorage
    lease: float
    at_once: int = ROWS_AT_ONCE
    result: CopyResult = CopyResult.COPIED
    counts: dict[str, int] = field(default_factory=dict)

    async def run(self) -> AsyncIterator[CopyProgress]:
        """Copy, and yield after each transaction. Raises OutboxError, with what to do, when it cannot go on."""
        source, target = await self.source.mark(), await self.target.mark()
        step = next_step(source, target, self.source.place, self.target.place)
        if step is Step.NOTHING:
            assert source
            self.result = CopyResult.WAS_COPIED if source.state is CopyState.LEFT else CopyResult.TAKEN_BACK
            return
        await self.source.open()
        await self.target.open()
        if step is Step.TAKE_BACK:
            assert source
            assert target
            async for progress in self._taken_back(source, target):
                yield progress
            return
        if step is not Step.GO_ON:
            workers = await self._ready()
            target = await self._filling(step, target)
            if step is Step.FILL:
                yield CopyProgress(MARKS, 1, 2)
            left = CopyMark(target.id, CopyState.LEFT, self.target.place)
            await self.source.leave(source, left, workers)
            yield CopyProgress(MARKS, 2, 2)
        assert target
        async for progress in self._copied(target):
            yield progress

    async def close(self) -> None:
        """Close both places."""
        await self.source.close()
        await self.target.close()

    async def _ready(self) -> Mapping[int, tuple[str, int]]:
        """See that all is as a copy needs it, and return the workers that are dead."""
        await self._check_key()
        return await self._silent_workers()

    async def _filling(self, step: Step, before: CopyMark | None) -> CopyMark:
        """Mark the new place, if it is not, and return its mark."""
        if step is Step.LEAVE:
            assert before
            if await self.source.salt() != await self.target.salt():
                raise OutboxError(f"{self.target.place}: {before.notice}; to copy another one, name an empty place")
            return before
        mark = CopyMark(os.urandom(16).hex(), CopyState.FILLING, self.source.place)
        await self.target.fill(before, mark, await self.source.salt())
        if await self.source.mark() == mark:
            await self.target.put_mark(mark, mark.became(CopyState.WHOLE))
            raise ConfigError(f"{self.source.place} and {self.target.place} are one and the same outbox")
        return mark

    async def _check_key(self) -> None:
        """See that the new place can decrypt what messages bring."""
        for message_id, encrypted in await self.source.credentials(CREDENTIALS_TRIED):
            try:
                self.target.cipher.decrypt(encrypted, message_id)
            except PostroomError as error:
                raise ConfigError(
                    "messages here bring credentials, and the other place needs the key with which they are encrypted: "
                    f"set {KEY_VARIABLE} to the value it has where {self.source.place} is used, or, where it has none, "
                    f"to the text of the file with the key beside the outbox ({error})"
                ) from error

    async def _silent_workers(self) -> Mapping[int, tuple[str, int]]:
        """Return the workers that have not signed off, and show no life for a lease. Raises OutboxError for others."""
        workers = await self.source.workers()
        until = time.monotonic() + self.lease
        while workers and time.monotonic() < until:
            await asyncio.sleep(self.lease / LOOKS)
            now = await self.source.workers()
            if alive := {name for number, (name, beats) in now.items() if workers.get(number) != (name, beats)}:
                raise OutboxError(
                    f"{self.source.place} is being worked ({', '.join(sorted(alive))}); end every worker, gateway and "
                    "program that uses it, and copy then"
                )
            workers = now
        return workers

    async def _copied(self, mark: CopyMark) -> AsyncIterator[CopyProgress]:
        totals = await self.source.counts()
        names = [table.name for table in TABLES]
        done = await self.target.counts()
        for table in TABLES[names.index(mark.table) if mark.table else 0 :]:
            after = table.loaded(mark.after) if mark.table == table.name else ()
            rows = done[table.name] if after else 0
            while found := await self.source.rows(table, after, self.at_once):
                after = table.key_of(found[-1])
                before, mark = mark, mark.at(table.name, table.dumped(after))
                await self.target.add(before, mark, table, found)
                rows += len(found)
                yield CopyProgress(table.name, rows, totals[table.name])
        await self._verify()
        await self.target.complete(mark, mark.became(CopyState.WHOLE), await self.source.numbers())

    async def _verify(self) -> None:
        """See that as many rows are there as here."""
        here, there = dict(await self.source.counts()), dict(await self.target.counts())
        # Where an engine cannot keep what was begun, all that was claimed counts as begun there.
        there[BEGUN.name] = min(here[BEGUN.name], there[BEGUN.name])
        wrong = [f"{there[name]} of {count} {name}" for name, count in here.items() if there[name] != count]
        if wrong:
            raise OutboxError(
                f"{self.target.place} has {', '.join(wrong)}; it stays closed. Take it back with `postroom outbox "
                "copy` in the other direction, and copy it again"
            )
        self.counts = here

    async def _taken_back(self, source: CopyMark, target: CopyMark) -> AsyncIterator[CopyProgress]:
        if source.state is CopyState.FILLING:
            await self.source.put_mark(source, source.became(CopyState.UNDONE))
            yield CopyProgress(MARKS, 1, 2)
        await self.target.put_mark(target, target.became(CopyState.WHOLE))
        self.result = CopyResult.TAKEN_BACK
        yield CopyProgress(MARKS, 2, 2)


def next_step(source: CopyMark | None, target: CopyMark | None, source_place: str, target_place: str) -> Step:
    """Return what is to be done first. Raises OutboxError when these two places cannot be copied so."""
    same = source is not None and target is not None and source.id == target.id
    states = (source and source.state, target and target.state)
    if same and states in _ANSWERS:
        return _ANSWERS[states]
    if source is not None and source.is_fenced:
        raise OutboxError(f"{source_place}: {source.notice}")
    if target is None or target.state is CopyState.WHOLE:
        return Step.FILL
    if target.state is CopyState.FILLING:
        if target.table:
            raise OutboxError(f"{target_place}: {target.notice}; to copy another one, name an empty place")
        return Step.LEAVE
    raise OutboxError(f"{target_place}: {target.notice}; to copy into it, remove it before, or name an empty place")


_ANSWERS: dict[tuple[CopyState | None, CopyState | None], Step] = {
    (CopyState.LEFT, CopyState.FILLING): Step.GO_ON,
    (CopyState.LEFT, CopyState.WHOLE): Step.NOTHING,
    (CopyState.WHOLE, CopyState.LEFT): Step.FILL,
    (CopyState.WHOLE, CopyState.UNDONE): Step.FILL,
    (CopyState.FILLING, CopyState.LEFT): Step.TAKE_BACK,
    (CopyState.UNDONE, CopyState.LEFT): Step.TAKE_BACK,
    (CopyState.UNDONE, CopyState.WHOLE): Step.NOTHING,
}
"""By the marks of one copy: the place to copy from, and the one to copy to."""
