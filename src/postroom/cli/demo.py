"""`postroom demo`: every provider over real sockets, against local servers that show what arrived."""

from __future__ import annotations

import typer

from postroom.cli.exits import ACCEPTED, FAILED, errors_told

NEEDED = ("smtp", "sendgrid", "twilio", "vonage")


def demo() -> None:
    """Send the API's sample messages through all four providers to servers on this machine, and show what arrived.

    Nothing leaves the loopback interface; no account or configuration is needed.
    """
    import asyncio

    with errors_told():
        _check_installed()
        from postroom.cli.demo_run import run

        arrived_as_meant = asyncio.run(run())
    raise typer.Exit(ACCEPTED if arrived_as_meant else FAILED)


def _check_installed() -> None:
    from postroom.errors import ProviderNotFound
    from postroom.registry import Registry

    missing = [name for name in NEEDED if not Registry().knows(name)]
    if missing:
        packages = " ".join(f"postroom-{name}" for name in missing)
        raise ProviderNotFound(f"the demo needs all four providers; pip install {packages}")
