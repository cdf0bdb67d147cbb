"""`postroom check`: whether accounts could send now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from postroom.cli.arguments import AsJson, ConfigFile
from postroom.cli.output import ACCEPTED, FAILED, reporting_errors, show_json, warn
from postroom.cli.tables import show_table

if TYPE_CHECKING:
    from postroom.client import Postroom
    from postroom.errors import PostroomError
    from postroom.plugin import CheckReport


def check(
    context: typer.Context,
    account: Annotated[str | None, typer.Argument(help="One account or provider; else every account.")] = None,
    as_json: AsJson = False,
    config_file: ConfigFile = None,
) -> None:
    """Try credentials and reachability; sends nothing. Exits with 1 if an account could not send."""
    import asyncio

    with reporting_errors(as_json=as_json):
        from postroom.client import Postroom

        found = asyncio.run(_checked(Postroom.from_config(config_file or context.obj), account))
    results = {name: _json(report) for name, report in found.items()}
    if as_json:
        show_json(results)
    elif results:
        rows = [
            (name, "ok" if r["ok"] else "fails", r["summary"], _details(r["details"])) for name, r in results.items()
        ]
        show_table(("account", "result", "summary", "details"), rows)
    else:
        warn("no accounts are configured; `postroom init` writes a first configuration")
    raise typer.Exit(ACCEPTED if all(r["ok"] for r in results.values()) else FAILED)


async def _checked(room: Postroom, account: str | None) -> dict[str, CheckReport | PostroomError]:
    async with room:
        return await room.check(account)


def _json(report: CheckReport | PostroomError) -> dict[str, Any]:
    if isinstance(report, Exception):
        return {"ok": False, "summary": str(report), "details": {}, "error": report.code}
    return {"ok": report.ok, "summary": report.summary, "details": dict(report.details), "error": None}


def _details(details: dict[str, str]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in details.items())
