"""The rows of a `send-many` file: one message each, as JSON lines or CSV, read one at a time."""

from __future__ import annotations

import csv
import hashlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from postroom.errors import MessageError
from postroom.messages import Attachment, Email, Sms

LISTS = ("to", "cc", "bcc", "reply_to", "tags", "media", "attach")
"""CSV columns that hold several values, separated by semicolons."""

csv.field_size_limit(16 * 2**20)


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its number from 1, what tells a changed row from the same one, and its fields or what ails it."""

    number: int
    fingerprint: str
    fields: dict[str, Any] | None
    problem: str | None = None

    def message(self) -> Email | Sms:
        """Build the message. Raises MessageError with the row's number."""
        if self.fields is None:
            raise MessageError(f"row {self.number}: {self.problem}")
        try:
            return _message(dict(self.fields))
        except MessageError as error:
            raise type(error)(f"row {self.number}: {error}") from error


@contextmanager
def open_rows(path: str) -> Iterator[Iterator[Row]]:
    """Read `path`, or standard input for `-`; a name that ends in .csv is CSV, anything else JSON lines."""
    if path == "-":
        yield _json_rows(sys.stdin)
        return
    try:
        file = Path(path).open(encoding="utf-8-sig", newline="")  # noqa: SIM115 - closed below
    except OSError as error:
        raise MessageError(f"cannot read {path}: {error.strerror}") from error
    with file:
        yield _csv_rows(file) if path.lower().endswith(".csv") else _json_rows(file)


def _json_rows(file: IO[str]) -> Iterator[Row]:
    number = 0
    for line in file:
        if not line.strip():
            continue
        number += 1
        try:
            fields, problem = json.loads(line), None
        except ValueError as error:
            fields, problem = None, f"is not valid JSON: {error}"
        if problem is None and not isinstance(fields, dict):
            fields, problem = None, "must be a JSON object"
        yield Row(number, _fingerprint(line.strip()), fields, problem)


def _csv_rows(file: IO[str]) -> Iterator[Row]:
    for number, values in enumerate(csv.DictReader(file, restkey="", restval=""), start=1):
        fingerprint = _fingerprint(json.dumps(values, sort_keys=True))
        if "" in values:
            yield Row(number, fingerprint, None, "has more columns than the header")
            continue
        yield Row(number, fingerprint, {name: _cell(name, value) for name, value in values.items() if value})


def _cell(name: str, value: str) -> object:
    return [part.strip() for part in value.split(";") if part.strip()] if name in LISTS else value


def _message(fields: dict[str, Any]) -> Email | Sms:
    """`channel` says which message a row is; without it, a body makes an SMS and anything else an e-mail."""
    kind = fields.get("channel", "sms" if "body" in fields or "media" in fields else "email")
    if kind != "email":
        return Sms(**fields)
    fields.pop("channel", None)
    paths = fields.pop("attach", [])
    if paths:
        attached = [Attachment.from_path(path) for path in ([paths] if isinstance(paths, str) else paths)]
        fields["attachments"] = [*fields.get("attachments", []), *attached]
    return Email(**fields)


def _fingerprint(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
