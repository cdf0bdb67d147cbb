"""`postroom serve`: the Communicate REST API."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from postroom.cli.arguments import ConfigFile
from postroom.cli.output import reporting_errors, warn


def serve(
    context: typer.Context,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)] = 8025,
    no_worker: Annotated[bool, typer.Option("--no-worker", help="Accept only; `postroom worker` sends.")] = False,
    workers: Annotated[int, typer.Option(help="Processes.", min=1, max=256)] = 1,
    config_file: ConfigFile = None,
) -> None:
    """Serve the Communicate REST API, and send what it accepts."""
    with reporting_errors():
        _serve(config_file or context.obj, host, port, work=not no_worker, processes=workers)


def _serve(config_file: Path | None, host: str, port: int, *, work: bool, processes: int) -> None:
    import asyncio

    from postroom.errors import ConfigError

    try:
        from postroom.gateway.serving import server
        from postroom.gateway.serving.signals import ShutdownSignals
    except ImportError as error:
        raise ConfigError(f"the service needs more packages ({error}): pip install 'postroom[gateway]'") from error
    if not asyncio.run(server.has_keys(config_file, work=work)):
        warn("there is no key yet, so nobody can send: make one with `postroom keys create`")
        if not server.is_loopback(host):
            warn(f"listening on {server.LOOPBACK} instead of {host} until there is one")
            host = server.LOOPBACK
    try:
        listening = server.bound(host, port)
    except OSError as error:
        raise ConfigError(f"cannot listen on {host} port {port}: {error.strerror or error}") from error
    signals = ShutdownSignals()  # before anybody can read that it runs, and ask it to end
    warn(f"listening on {_address(listening.getsockname())}")
    with listening:
        server.run(config_file, listening, signals, work=work, processes=processes)


def _address(name: tuple[str, int]) -> str:
    host, port = name[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
