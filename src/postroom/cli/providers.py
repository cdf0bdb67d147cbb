"""`postroom providers`: what is installed, what loads, what is broken and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from postroom.cli.exits import AsJson, ConfigFile, errors_told, show_json
from postroom.cli.tables import show_table

if TYPE_CHECKING:
    from postroom.registry import ProviderInfo


def providers(context: typer.Context, as_json: AsJson = False, config_file: ConfigFile = None) -> None:
    """List installed providers; loads each to find out whether it works."""
    with errors_told(as_json=as_json):
        from postroom.config import load_config
        from postroom.registry import Registry

        chosen = load_config(config_file or context.obj).plugins.use
        found = [_described(info) for info in Registry(chosen=chosen).describe()]
    if as_json:
        show_json(found)
        return
    rows = [
        (p["name"], p["status"], ", ".join(p["channels"]), f"{p['distribution']} {p['version']}", p["error"] or "")
        for p in found
    ]
    show_table(("provider", "status", "carries", "from", "cause"), rows)


def _described(info: ProviderInfo) -> dict[str, Any]:
    channels = {
        str(channel): {
            "features": sorted(capabilities.features),
            "max_batch": capabilities.max_batch,
            "max_recipients": capabilities.max_recipients,
            "partial_envelope": capabilities.partial_envelope,
            "deduplicates": capabilities.deduplicates,
            "reconciles": capabilities.reconciles,
        }
        for channel, capabilities in info.capabilities.items()
    }
    return {
        "name": info.name,
        "status": "broken" if info.error else "loaded",
        "distribution": info.distribution,
        "version": info.version,
        "module": info.module,
        "channels": channels,
        "error": str(info.error) if info.error else None,
        "error_code": info.error.code if info.error else None,
    }
