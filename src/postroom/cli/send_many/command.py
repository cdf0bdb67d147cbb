"""`postroom send-many`: a file of messages, resumable."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from postroom.cli.arguments import AsJson, ConfigFile
from postroom.cli.output import reporting_errors


def send_many(
    context: typer.Context,
    file: Annotated[str, typer.Argument(help="JSON lines, or CSV when it ends in .csv; '-' reads JSON lines.")],
    results: Annotated[Path | None, typer.Option(help="Results file; else FILE.results.jsonl.")] = None,
    at_once: Annotated[int, typer.Option(min=1, max=10_000, help="Messages under way together.")] = 100,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Send rows again that failed before.")] = False,
    retry_unknown: Annotated[
        bool, typer.Option("--retry-unknown", help="Send rows again that may have been sent before.")
    ] = False,
    enqueue: Annotated[bool, typer.Option("--enqueue", help="Put them into the outbox, for a worker.")] = False,
    as_json: AsJson = False,
    config_file: ConfigFile = None,
) -> None:
    """Send every message of a file, and write a result for each row.

    Run it again with the same results file to go on after an interruption: rows that were accepted, refused or may
    have been sent are left alone.
    """
    with reporting_errors(as_json=as_json):
        from postroom.cli.send_many.run import BulkRun, open_results, states_to_retry
        from postroom.client import Postroom

        again = states_to_retry(failed=retry_failed, unknown=retry_unknown)
        room = Postroom.from_config(config_file or context.obj)
        with open_results(file, results, again) as results_file:
            run = BulkRun(results_file, quiet=as_json)
            run.send(room, file, at_once, enqueue=enqueue)
    run.report(as_json=as_json)
    raise typer.Exit(run.code)
