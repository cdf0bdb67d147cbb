"""`postroom demo`: every provider over real sockets, against local servers that show what arrived."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from postroom.cli.output import ACCEPTED, FAILED, reporting_errors, show_text, warn

if TYPE_CHECKING:
    from postroom.plugin.demonstration import Demonstration


def demo(
    postgres: Annotated[
        bool, typer.Option("--postgres", help="Two workers and two gateways on PostgreSQL, some of them killed.")
    ] = False,
) -> None:
    """Send the API's sample messages through every installed provider to servers on this machine; show what arrived.

    With --postgres, start a PostgreSQL server, two workers and two gateways instead, kill one of each, and show that
    every message was sent once. Nothing leaves the loopback interface; no account or configuration is needed.
    """
    import asyncio

    with reporting_errors():
        os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"  # nothing is to leave this machine
        if postgres:
            from postroom.cli.demo.postgres import show_postgres

            as_meant = asyncio.run(show_postgres())
        else:
            as_meant = asyncio.run(_run(_demonstrations()))
    show_text("\nEverything arrived as meant." if as_meant else "\nNot everything arrived as meant: see above.")
    raise typer.Exit(ACCEPTED if as_meant else FAILED)


async def _run(shown: list[tuple[str, Demonstration]]) -> bool:
    from postroom.cli.demo.failover import NEEDS, show_failover
    from postroom.cli.demo.providers import show_providers

    arrived = await show_providers(shown)
    if not any(provider == NEEDS for provider, _ in shown):
        return arrived
    return await show_failover() and arrived


def _demonstrations() -> list[tuple[str, Demonstration]]:
    """Return the demonstrations of all providers, by provider. Raises what keeps one of ours from being used."""
    from postroom.errors import PluginError, ProviderNotFound
    from postroom.registry.registry import OURS, Registry

    registry = Registry()
    installed = [name for name in OURS if registry.claimants(name)]
    found = [(name, each) for name in installed for each in registry.demonstrations(name)]
    for name in (name for name in registry.names() if name not in installed):
        try:
            found += [(name, each) for each in registry.demonstrations(name)]
        except PluginError as error:
            warn(f"left out: {error}")
    if not found:
        ours = " ".join(OURS.values())
        raise ProviderNotFound(f"there is no provider that can be shown; pip install {ours}")
    return found
