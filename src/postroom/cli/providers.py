"""`postroom providers`: what is installed, what loads, what is broken and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from postroom.cli.arguments import AsJson, ConfigFile
from postroom.cli.output import reporting_errors, show_json, show_text
from postroom.cli.tables import show_table

if TYPE_CHECKING:
    from postroom.registry.registry import ProviderInfo, Registry


def providers(context: typer.Context, as_json: AsJson = False, config_file: ConfigFile = None) -> None:
    """List installed providers; loads each that may load, to find out whether it works."""
    with reporting_errors(as_json=as_json):
        from postroom.config import load_config
        from postroom.plugin.transport import INTERFACE_VERSION
        from postroom.registry.registry import Registry

        registry = Registry(load_config(config_file or context.obj).plugins)
        found = [_json(info, registry) for info in registry.describe()]
    if as_json:
        show_json(found)
        return
    rows = [
        (
            p["name"],
            p["status"],
            ", ".join(p["channels"]),
            f"{p['distribution']} {p['version']}",
            p["error"] or p["why"],
        )
        for p in found
    ]
    show_table(("provider", "status", "carries", "from", "why"), rows)
    for p in found:
        if p["status"] == "loaded" and p["interface"] is None:
            show_text(
                f"{p['name']} states no postroom_interface: it is taken for one of this release's, {INTERFACE_VERSION}"
            )
        for channel, capabilities in p["channels"].items():
            for test, reason in capabilities["deviations"].items():
                show_text(f"{p['name']} ({channel}) deviates from the contract: {reason} [{test}]")


def _json(info: ProviderInfo, registry: Registry) -> dict[str, Any]:
    channels = {
        str(channel): {
            "features": sorted(capabilities.features),
            "max_batch": capabilities.max_batch,
            "max_recipients": capabilities.max_recipients,
            "partial_envelope": capabilities.partial_envelope,
            "deduplicates": capabilities.deduplicates,
            "reconciles": capabilities.reconciles,
            "deviations": dict(registry.transport(info.name, channel).deviations),
        }
        for channel, capabilities in info.capabilities.items()
    }
    return {
        "name": info.name,
        "status": info.status,
        "distribution": info.distribution,
        "version": info.version,
        "module": info.module,
        "file": info.file,
        "why": info.why,
        "load_seconds": info.load_seconds,
        "interface": info.interface,
        "channels": channels,
        "error": str(info.error) if info.error else None,
        "error_code": info.error.code if info.error else None,
    }
