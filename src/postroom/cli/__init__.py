"""The command line, one file per command. Commands import what they need when they run."""

from __future__ import annotations


def main() -> None:
    """Run `postroom` with the arguments of this process."""
    from postroom.cli.app import build

    build()()
