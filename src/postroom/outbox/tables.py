"""The tables of an outbox, as one engine hands them to another: every engine has them, by these names."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROWS_AT_ONCE = 2000
"""Rows copied in one transaction."""

BYTES_AT_ONCE = 16_777_216
"""Bytes of them above which no more rows are read for it."""

Row = tuple[Any, ...]
"""A table's row: its values in the order of the columns."""


class Kind(StrEnum):
    """What a column holds; `json` is text that is read back as JSON."""

    TEXT = "text"
    JSON = "json"
    INTEGER = "integer"
    REAL = "real"
    BOOLEAN = "boolean"
    BYTES = "bytes"


@dataclass(frozen=True)
class Table:
    """A table: its columns, and those of them that tell its rows apart, by which they are put in order."""

    name: str
    columns: Mapping[str, Kind]
    key: tuple[str, ...]

    @property
    def listed(self) -> str:
        """Its columns as a statement names them."""
        return ", ".join(self.columns)

    @property
    def has_files(self) -> bool:
        """Whether one row may take megabytes."""
        return "content" in self.columns or "body" in self.columns

    def key_of(self, row: Row) -> tuple[Any, ...]:
        """The key of a row."""
        names = [*self.columns]
        return tuple(row[names.index(name)] for name in self.key)

    def dumped(self, key: Sequence[Any]) -> list[Any]:
        """A key as JSON has it."""
        return [value.hex() if isinstance(value, bytes) else value for value in key]

    def loaded(self, key: Sequence[Any]) -> tuple[Any, ...]:
        """A key that `dumped` made."""
        kinds = [self.columns[name] for name in self.key]
        return tuple(
            bytes.fromhex(value) if kind is Kind.BYTES else value for kind, value in zip(kinds, key, strict=True)
        )


def _table(name: str, key: str, columns: str) -> Table:
    pairs = (column.split(":") for column in columns.split())
    return Table(name, {column: Kind(kind) for column, kind in pairs}, tuple(key.split()))


BEGUN = _table("begun", "seq", "seq:integer attempts:integer")
"""What workers that are gone had begun to hand over, of what they had claimed; an engine may keep that elsewhere."""

TABLES = (
    _table("files", "hash", "hash:bytes content:bytes"),
    _table(
        "messages",
        "seq",
        "seq:integer id:text tenant:text channel:text status:text queue:text route:text priority:integer due_at:real "
        "expires_at:real attempts:integer crashes:integer single_round:boolean owner:integer begun_at:real "
        "progress:json receipt:json size:integer created_at:real settled_at:real",
    ),
    _table("bodies", "seq", "seq:integer body:json options:bytes"),
    _table("message_files", "seq number", "seq:integer number:integer hash:bytes"),
    _table("idempotency_keys", "tenant key", "tenant:text key:text seq:integer fingerprint:bytes accepted_as:text"),
    _table(
        "provider_ids",
        "provider_id channel account seq",
        "channel:text account:text provider_id:text seq:integer kind:text",
    ),
    _table(
        "events",
        "number",
        "number:integer seq:integer fingerprint:text received_at:real event:json provider_id:text",
    ),
    _table("workers", "number", "number:integer name:text heartbeats:integer"),
    _table("queues", "queue", "queue:text theoretical_start:real health:json"),
    _table(
        "suppressions",
        "channel address category reason",
        "channel:text address:text category:text reason:text detail:text since:real lifted:boolean",
    ),
    _table(
        "api_keys",
        "id",
        "id:text name:text digest:text scope:text created_at:real revoked_at:real flagged_at:real suspended_at:real",
    ),
    _table("api_counts", "key_id name", "key_id:text name:text slots:text stale_at:real"),
    BEGUN,
)
"""In an order in which each row's references are there before it."""

NUMBERED = {"messages": "seq", "events": "number", "workers": "number"}
"""Tables whose rows are numbered, and the column: no number is given again."""
