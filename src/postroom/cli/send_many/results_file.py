"""The results file of `send-many`: what became of each row, written so that a killed run can be resumed.

A row is marked as begun, on disk, before it is handed over. A row that was begun and has no result may have been
sent; it counts as unknown and is not sent again by itself. What a crash cut short in the middle of a line takes
nothing with it: the next line starts on its own, and the mark before a hand-over was whole before the hand-over began.
"""

from __future__ import annotations

import fcntl
import json
import os
from array import array
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from postroom.cli.output import ResultsFileError, UsageError, failure_json, receipt_json
from postroom.errors import DeliveryError, Outcome
from postroom.receipts import Receipt

if TYPE_CHECKING:
    from collections.abc import Collection

    from postroom.cli.send_many.rows import Row
    from postroom.delivery.bulk import Result

State = Literal["accepted", "failed", "unknown"]

_STATES: tuple[State | None, ...] = (None, "accepted", "failed", "unknown")
_LINE_START = '{"row": '
"""How every line starts; what starts otherwise was not written here."""


class ResultsFile:
    """Appends to the results file at `path`, and knows what earlier runs wrote there.

    Rows whose state is in `again` are due once more. One run at a time may hold the file. Raises UsageError when it
    cannot be used.
    """

    def __init__(self, path: Path, again: Collection[State] = ()) -> None:
        self.path = path
        self._again = again
        self._states = bytearray()  # one byte and eight for a row: a million rows take 9 MB
        self._fingerprints = array("Q")
        try:
            self._open()
        except OSError as error:
            raise UsageError(f"cannot write the results to {path}: {error.strerror}; name another --results") from error

    def close(self) -> None:
        self._file.close()

    def before(self, row: Row) -> State | None:
        """Return what earlier runs made of `row`, or None when it is due.

        Raises UsageError when the row has changed since; only one that failed, and is to be tried again, may.
        """
        state = _STATES[self._states[row.number]] if row.number < len(self._states) else None
        if state is None or (state == "failed" and state in self._again):
            return None
        if self._fingerprints[row.number] != row.fingerprint:
            raise UsageError(
                f"{row} is not the one that {self.path} has a result for; name a new --results file for a changed input"
            )
        return None if state in self._again else state

    def begin(self, row: Row, message_id: str) -> None:
        """Mark `row` as begun; on disk when this returns. Raises ResultsFileError when it cannot be: do not send it."""
        self._write({**_row_json(row), "state": "begun", "id": message_id}, sync=True)

    def end(self, row: Row, result: Result) -> State:
        """Record the result of `row`. Raises ResultsFileError when that fails; the row then stays begun."""
        state = state_of_result(result)
        answer = receipt_json(result) if isinstance(result, Receipt) else failure_json(result)
        self._write({**_row_json(row), "state": state, **answer})
        return state

    def _open(self) -> None:
        fresh = not self.path.exists()
        self._file = self.path.open("ab", buffering=0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._on_a_new_line = self._read()
        except BlockingIOError:
            self.close()
            raise UsageError(f"another run is writing {self.path}; wait for it, or name another --results") from None
        except BaseException:
            self.close()
            raise
        if fresh:
            _sync_folder(self.path.absolute().parent)

    def _write(self, record: dict[str, Any], *, sync: bool = False) -> None:
        line = json.dumps(record).encode() + b"\n"
        left = line if self._on_a_new_line else b"\n" + line
        self._on_a_new_line = False
        try:
            while left:
                left = left[self._file.write(left) :]
            if sync:
                os.fsync(self._file.fileno())
        except OSError as error:
            raise ResultsFileError(
                f"cannot write to {self.path}: {error.strerror}; make room for it, then run this again to go on"
            ) from error
        self._on_a_new_line = True

    def _read(self) -> bool:
        """Remember what is there; return whether it ends with a whole line."""
        line = "\n"
        with self.path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                self._remember(line.strip())
        return line.endswith("\n")

    def _remember(self, line: str) -> None:
        try:
            record = json.loads(line)
            number, fingerprint = int(record["row"]), int(record["fingerprint"], 16)
            state: State = "unknown" if record["state"] == "begun" else record["state"]
            self._keep(number, fingerprint, _STATES.index(state))
        except (ValueError, KeyError, TypeError):
            if not (line.startswith(_LINE_START) or _LINE_START.startswith(line)):
                raise UsageError(f"{self.path} is not a results file; name another --results") from None

    def _keep(self, number: int, fingerprint: int, state: int) -> None:
        missing = number + 1 - len(self._states)
        if missing > 0:
            self._states.extend(bytes(missing))
            self._fingerprints.extend([0] * missing)
        self._states[number] = state
        self._fingerprints[number] = fingerprint


def state_of_result(result: Result) -> State:
    """Return how a row ended."""
    if isinstance(result, Receipt):
        return "accepted"
    unknown = isinstance(result, DeliveryError) and result.outcome is Outcome.UNKNOWN
    return "unknown" if unknown else "failed"


def _row_json(row: Row) -> dict[str, Any]:
    return {"row": row.number, "line": row.line, "fingerprint": f"{row.fingerprint:016x}"}


def _sync_folder(folder: Path) -> None:
    """A new file survives a power cut only once its folder is on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
