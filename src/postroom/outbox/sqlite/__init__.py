"""The SQLite engine of the outbox: one file, one writer."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote


def path_of(url: str) -> Path:
    """The file that a URL such as `sqlite:///postroom.db` or `sqlite:////var/lib/postroom/postroom.db` names."""
    return Path(unquote(url.removeprefix("sqlite:///")))
