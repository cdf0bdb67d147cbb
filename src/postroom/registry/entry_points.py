"""Entry points of a group, and the metadata of their distributions; none of their code is run."""

from __future__ import annotations

import importlib.metadata
import re
import sys
from email.parser import HeaderParser
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


def entry_points_by_name(group: str) -> dict[str, list[EntryPoint]]:
    """Return the entry points of a group by name; a name with several is claimed by several distributions."""
    found: dict[str, list[EntryPoint]] = {}
    for entry in importlib.metadata.entry_points(group=group):
        rivals = found.setdefault(entry.name, [])
        if not any(_same_entry(entry, rival) for rival in rivals):
            rivals.append(entry)
    return found


def _same_entry(one: EntryPoint, other: EntryPoint) -> bool:
    """Whether one distribution was merely seen twice, as happens with an editable install."""
    return one.value == other.value and metadata_field(one, "Name") == metadata_field(other, "Name")


def metadata_field(entry: EntryPoint, field: str) -> str:
    """Return a field of the distribution's metadata; `unknown` for a half-removed installation."""
    text = entry.dist.read_text("METADATA") if entry.dist else None
    return HeaderParser().parsestr(text or "").get(field, "unknown")


def normalize_name(distribution: str) -> str:
    """Normalise a distribution's name: `Acme_SMS` and `acme-sms` are one (packaging.python.org, name normalization)."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def source_file(entry: EntryPoint) -> str | None:
    """Return the module's file; of one that is not loaded, its package's, since looking further would run it."""
    loaded = sys.modules.get(entry.value.partition(":")[0])
    if loaded is not None:
        return getattr(loaded, "__file__", None)
    try:
        spec = find_spec(entry.value.partition(":")[0].partition(".")[0])
    except (ImportError, ValueError):
        return None
    return spec.origin if spec else None


def describe(entry: EntryPoint) -> str:
    """Return distribution and module, for a text."""
    return f"{metadata_field(entry, 'Name')}, {entry.value}"
