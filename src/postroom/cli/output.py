"""How commands end: exit codes, errors in one line, and results as JSON or text."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from postroom.errors import PostroomError
    from postroom.receipts import Receipt

ACCEPTED, FAILED, USAGE, UNKNOWN, INTERRUPTED = 0, 1, 2, 3, 130

AsJson = Annotated[bool, typer.Option("--json", help="Answer with JSON on standard output.")]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="Configuration file; else POSTROOM_CONFIG, else ./postroom.toml.")
]


def warn(text: str) -> None:
    """Tell a person, on standard error."""
    typer.echo(text, err=True)


def show_json(value: object) -> None:
    """Print one JSON document on standard output, in ASCII: no encoding of that stream can spoil it."""
    typer.echo(json.dumps(value, indent=2 if sys.stdout.isatty() else None))


@contextmanager
def reporting_errors(*, as_json: bool = False) -> Iterator[None]:
    """Turn a PostroomError into one line (or a JSON object) and its exit code."""
    from postroom.errors import PostroomError

    try:
        yield
    except PostroomError as error:
        if as_json:
            show_json(failure(error))
        else:
            warn(f"error: {error}")
        raise typer.Exit(code_of(error)) from None


def code_of(result: Receipt | PostroomError) -> int:
    """Return the exit code: 0 accepted, 1 failed, 2 usage or configuration, 3 outcome unknown."""
    from postroom.errors import DeliveryError, OutboxError, Outcome, Suppressed
    from postroom.receipts import Receipt

    if isinstance(result, Receipt):
        return ACCEPTED
    if isinstance(result, DeliveryError):
        return UNKNOWN if result.outcome is Outcome.UNKNOWN else FAILED
    return FAILED if isinstance(result, (OutboxError, Suppressed)) else USAGE


def success(receipt: Receipt) -> dict[str, Any]:
    """Return a receipt as the JSON object the command line promises."""
    found: dict[str, Any] = receipt.model_dump(mode="json")
    return found


def failure(error: PostroomError) -> dict[str, Any]:
    """Return an error as that object, with `error`, `outcome` and `message`; nothing tried is `permanent`."""
    from postroom.errors import DeliveryError

    empty = {"id": None, "status": "failed", "provider": None, "account": None, "provider_message_id": None}
    told: dict[str, Any] = {**empty, "recipients": []}
    if isinstance(error, DeliveryError):
        if error.receipt:
            told = success(error.receipt)
        told |= {"outcome": str(error.outcome), "provider_code": error.provider_code}
        told |= {"retry_after": error.retry_after, "request_id": error.request_id}
    else:
        told["outcome"] = "permanent"
    return {**told, "error": error.code, "message": str(error)}
