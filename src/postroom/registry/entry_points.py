"""What an installed distribution says of itself and of its entry points, without running any of it."""

from __future__ import annotations

import importlib.metadata
import re
import sys
from email.parser import HeaderParser
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


def claims(group: str) -> dict[str, list[EntryPoint]]:
    """Return the entry points of a group by name; a name with several is claimed by several distributions."""
    found: dict[str, list[EntryPoint]] = {}
    for entry in importlib.metadata.entry_points(group=group):
        rivals = found.setdefault(entry.name, [])
        if not any(_same_claim(entry, rival) for rival in rivals):
            rivals.append(entry)
    return found


def _same_claim(one: EntryPoint, other: EntryPoint) -> bool:
    """Whether one distribution was merely seen twice, as happens with an editable install."""
    return one.value == other.value and stated(one, "Name") == stated(other, "Name")


def stated(entry: EntryPoint, field: str) -> str:
    """What the distribution's metadata say; a half-removed installation says nothing."""
    text = entry.dist.read_text("METADATA") if entry.dist else None
    return HeaderParser().parsestr(text or "").get(field, "unknown")


def canonical(distribution: str) -> str:
    """`Acme_SMS` and `acme-sms` are one distribution (packaging.python.org, name normalization)."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def file_of(entry: EntryPoint) -> str | None:
    """Where the module is; of one that is not loaded, where its package is, since looking further would run it."""
    loaded = sys.modules.get(entry.value.partition(":")[0])
    if loaded is not None:
        return getattr(loaded, "__file__", None)
    try:
        spec = find_spec(entry.value.partition(":")[0].partition(".")[0])
    except (ImportError, ValueError):
        return None
    return spec.origin if spec else None


def origin(entry: EntryPoint) -> str:
    """Return distribution and module, for a text."""
    return f"{stated(entry, 'Name')}, {entry.value}"
