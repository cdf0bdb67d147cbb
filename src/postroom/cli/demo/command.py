"""`postroom demo`: every provider over real sockets, against local servers that show what arrived."""

from __future__ import annotations

import typer

from postroom.cli.output import ACCEPTED, FAILED, reporting_errors

NEEDED = ("smtp", "sendgrid", "twilio", "vonage")


def demo() -> None:
    """Send the API's sample messages through all four providers to servers on this machine, and show what arrived.

    Nothing leaves the loopback interface; no account or configuration is needed.
    """
    import asyncio

    with reporting_errors():
        _check_installed()
        from postroom.cli.demo.run import run

        arrived_as_meant = asyncio.run(run())
    raise typer.Exit(ACCEPTED if arrived_as_meant else FAILED)


def _check_installed() -> None:
    from importlib.metadata import entry_points

    from postroom.errors import ProviderNotFound
    from postroom.registry.registry import KNOWN_DISTRIBUTIONS, PROVIDERS, Registry

    installed = entry_points(group=PROVIDERS).names
    missing = [KNOWN_DISTRIBUTIONS[name] for name in NEEDED if name not in installed]
    if missing:
        raise ProviderNotFound(f"the demo needs all four providers; pip install {' '.join(missing)}")
    registry = Registry()
    for name in NEEDED:
        registry.channels(name)  # raises what keeps it from being used
