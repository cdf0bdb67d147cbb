"""The page of providers, made of `docs/providers/catalogue.toml`: `python -m tests.docs.catalogue` writes it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

PROVIDERS = Path(__file__).parents[2] / "docs" / "providers"
SOURCE, PAGE = PROVIDERS / "catalogue.toml", PROVIDERS / "catalogue.md"

_HEAD = """# Catalogue of providers

What somebody has written a plugin for. `postroom providers` shows what is installed here; [console, memory, file and
postroom](built-in.md) come with postroom itself. A plugin is code that runs in your process with your credentials: see
who made one before you install it.

| `provider` | package | sends | keeps until `send_at` | reads reports | finds out what became of a doubt |
|---|---|---|---|---|---|
"""
_FOOT = """
By convention the package for a provider `NAME` is called `postroom-NAME`, and has `postroom-provider` among its keywords,
by which a package index finds it. [Writing one](../plugins/tutorial.md) takes an hour; to have it listed here, add a table
to `catalogue.toml` beside this page.
"""
_CHANNELS = {"email": "e-mail", "sms": "SMS"}


def entries() -> dict[str, dict[str, Any]]:
    """Return what is listed of each provider, by the name that users write."""
    return tomllib.loads(SOURCE.read_text())


def page() -> str:
    """Return the page, as it is to be."""
    return _HEAD + "".join(_line(name, entry) for name, entry in entries().items()) + _FOOT


def _line(name: str, entry: dict[str, Any]) -> str:
    said = ["yes" if entry[field] else "no" for field in ("scheduled", "reports", "finds")]
    channels = ", ".join(_CHANNELS[channel] for channel in entry["channels"])
    return f"| `{name}` | [{entry['package']}]({entry['page']}) | {channels} | {' | '.join(said)} |\n"


if __name__ == "__main__":
    PAGE.write_text(page())
