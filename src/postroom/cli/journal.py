"""The results file of `send-many`: what became of each row, written so that a killed run can be resumed.

A row is marked as begun, on disk, before it is handed over. A row that was begun and has no result may have been
sent; it counts as unknown and is not sent again by itself.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from postroom.cli.exits import failure, success
from postroom.errors import ConfigError, DeliveryError, Outcome
from postroom.receipts import Receipt

if TYPE_CHECKING:
    from postroom.cli.rows import Row
    from postroom.room import Result

State = Literal["accepted", "failed", "unknown"]


class Journal:
    """Appends to the results file at `path`, and knows what earlier runs wrote there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[int, tuple[str, State]] = {}
        try:
            self._read()
            self._file = path.open("a", encoding="utf-8")
        except OSError as error:
            raise ConfigError(
                f"cannot write the results to {path}: {error.strerror}; name another --results"
            ) from error

    def close(self) -> None:
        self._file.close()

    def state_of(self, row: Row) -> State | None:
        """Return what earlier runs made of `row`, or None. Raises ConfigError when the row has changed since."""
        known = self._known.get(row.number)
        if known is None:
            return None
        if known[0] != row.fingerprint:
            raise ConfigError(
                f"row {row.number} is not the one that {self.path} has a result for; name a new --results file for a "
                "changed input"
            )
        return known[1]

    def begin(self, row: Row) -> None:
        """Mark `row` as begun; on disk when this returns."""
        self._write({"row": row.number, "fingerprint": row.fingerprint, "state": "begun"})
        os.fsync(self._file.fileno())

    def end(self, row: Row, result: Result) -> State:
        """Record the result of `row`."""
        state = state_of_result(result)
        told = success(result) if isinstance(result, Receipt) else failure(result)
        self._write({"row": row.number, "fingerprint": row.fingerprint, "state": state, **told})
        return state

    def _write(self, record: dict[str, Any]) -> None:
        self._file.write(json.dumps(record, ensure_ascii=False) + "\n")
        self._file.flush()

    def _read(self) -> None:
        if not self.path.exists():
            return
        with self.path.open(encoding="utf-8") as file:
            for line in file:
                self._remember(line)

    def _remember(self, line: str) -> None:
        """A last line that a crash cut short says nothing that its row's earlier line does not."""
        try:
            record = json.loads(line)
            state: State = "unknown" if record["state"] == "begun" else record["state"]
            self._known[int(record["row"])] = (str(record["fingerprint"]), state)
        except (ValueError, KeyError, TypeError):
            return


def state_of_result(result: Result) -> State:
    """Return how a row ended."""
    if isinstance(result, Receipt):
        return "accepted"
    unknown = isinstance(result, DeliveryError) and result.outcome is Outcome.UNKNOWN
    return "unknown" if unknown else "failed"
