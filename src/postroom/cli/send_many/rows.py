"""The rows of a `send-many` file: one message each, as JSON lines or CSV, read one at a time."""

from __future__ import annotations

import csv
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from itertools import count
from pathlib import Path
from typing import IO, Any

from postroom.cli.output import UsageError
from postroom.errors import MessageError
from postroom.messages import Attachment, Email, Sms

LISTS = ("to", "cc", "bcc", "reply_to", "tags", "media", "attach")
"""CSV columns that hold several values, separated by semicolons."""

OBJECTS = ("headers", "metadata", "merge_data", "options", "provider_options")
"""CSV columns that hold a JSON object."""

csv.field_size_limit(16 * 2**20)

_LONGEST_HEADER = 10_000
"""Characters of the names of all columns; those of every field take some three hundred."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its fields, or the problem that keeps it from having any.

    `number` counts rows from 1, `line` is the line of the file it ends on; `fingerprint`, 64 bits of its hash, is
    another one when the row has changed.
    """

    number: int
    line: int
    fingerprint: int
    fields: dict[str, Any] | None = None
    problem: str | None = None

    def __str__(self) -> str:
        return f"row {self.number} (line {self.line})"

    def message(self) -> Email | Sms:
        """Build the message. Raises MessageError."""
        if self.fields is None:
            raise MessageError(str(self.problem))
        return _message(dict(self.fields))


@contextmanager
def open_rows(path: str) -> Iterator[Iterator[Row]]:
    """Read `path`, or standard input for `-`; a name that ends in .csv is CSV, anything else JSON lines.

    Raises UsageError when the file cannot be read; what is wrong with one row is that row's `problem`.
    """
    if path == "-":
        yield _json_rows(sys.stdin.buffer)
        return
    try:
        file = Path(path).open("rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    with file:
        yield _csv_rows(file) if path.lower().endswith(".csv") else _json_rows(file)


def _json_rows(file: Iterable[bytes]) -> Iterator[Row]:
    number = 0
    for line, read in enumerate(file, start=1):
        content = read.removeprefix(b"\xef\xbb\xbf").strip()
        if not content:
            continue
        number += 1
        try:
            fields, problem = json.loads(content.decode()), None
        except (ValueError, RecursionError) as error:
            fields, problem = None, f"is not valid JSON: {error}"
        if problem is None and not isinstance(fields, dict):
            fields, problem = None, "must be a JSON object"
        yield Row(number, line, _fingerprint(content), fields, problem)


def _csv_rows(file: IO[bytes]) -> Iterator[Row]:
    # Bytes that are not UTF-8 are let through here, since the message they end up in refuses them: one bad row.
    with TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        reader = csv.DictReader(text, restkey="", restval="")
        _check_columns(reader.fieldnames or ())
        for number in count(1):
            try:
                values = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield _unreadable(number, reader.line_num, error)
            else:
                yield _csv_row(number, reader.line_num, values)


def _unreadable(number: int, line: int, error: csv.Error) -> Row:
    problem = f"is not valid CSV: {error}"
    return Row(number, line, _fingerprint(problem.encode()), None, problem)


def _check_columns(columns: Sequence[str]) -> None:
    if (length := sum(map(len, columns))) > _LONGEST_HEADER:  # each row is read with all of it
        raise UsageError(
            f"the first line has {length} characters, and the names of all columns at most {_LONGEST_HEADER}; begin "
            "the file with a line that names its columns"
        )
    twice = next((name for name, number in Counter(columns).items() if number > 1), None)
    if twice is not None:
        raise UsageError(f"the first line names the column {twice!r} twice; give each field one column")


def _csv_row(number: int, line: int, values: dict[str, Any]) -> Row:
    fingerprint = _fingerprint(json.dumps(values, sort_keys=True).encode())
    if "" in values:
        return Row(number, line, fingerprint, None, "has more columns than the header")
    try:
        fields = {name: _cell(name, value) for name, value in values.items() if value}
    except MessageError as error:
        return Row(number, line, fingerprint, None, str(error))
    return Row(number, line, fingerprint, fields)


def _cell(name: str, value: str) -> object:
    if name in OBJECTS:
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            raise MessageError(f'{name}: write it as a JSON object, such as {{"key": "value"}}') from None
    return [part.strip() for part in value.split(";") if part.strip()] if name in LISTS else value


def _message(fields: dict[str, Any]) -> Email | Sms:
    """`channel` says which message a row is; without it, a body makes an SMS and anything else an e-mail."""
    kind = fields.get("channel", "sms" if "body" in fields or "media" in fields else "email")
    if kind != "email":
        return Sms(**fields)
    fields.pop("channel", None)
    attached = _attached(fields.pop("attach", []))
    if attached:
        fields["attachments"] = [*_listed(fields, "attachments"), *attached]
    return Email(**fields)


def _attached(paths: object) -> list[Attachment]:
    named = [paths] if isinstance(paths, str) else paths
    if not isinstance(named, list) or not all(isinstance(path, str) for path in named):
        raise MessageError("attach: must be a path, or a list of paths")
    return [Attachment.from_path(path) for path in named]


def _listed(fields: dict[str, Any], name: str) -> list[Any]:
    found = fields.get(name) or []
    if not isinstance(found, list):
        raise MessageError(f"{name}: must be a list")
    return found


def _fingerprint(content: bytes) -> int:
    return int.from_bytes(hashlib.sha256(content).digest()[:8])
