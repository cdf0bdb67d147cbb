"""Exit codes, errors in one line, and results as JSON or text: how every command ends."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from postroom.errors import DeliveryError, OutboxError, Outcome, PostroomError, Suppressed
from postroom.terminal import printable

if TYPE_CHECKING:
    from postroom.receipts import Receipt

ACCEPTED, FAILED, USAGE, UNKNOWN, INTERRUPTED = 0, 1, 2, 3, 130


class UsageError(PostroomError):
    """An argument is missing, wrong or does not fit another; nothing was done. `option` is the one to blame."""

    code = "usage_error"

    def __init__(self, message: str, *, option: str | None = None) -> None:
        super().__init__(f"{option}: {message}" if option else message)
        self.option = option


class ResultsFileError(PostroomError):
    """The results of `send-many` cannot be written any more, so nothing more is sent."""

    code = "results_file_error"


def show_text(text: str = "") -> None:
    """Print for a person, on standard output: names and texts of others cannot give orders to the terminal."""
    typer.echo(printable(text))


def warn(text: str) -> None:
    """Print for a person, on standard error."""
    typer.echo(printable(text), err=True)


def show_progress(line: str, *, last: bool) -> None:
    """Print how far something has come, on standard error; on a terminal over the line before, until the `last`."""
    if sys.stderr.isatty():
        typer.echo(f"\r{printable(line)}\033[K", err=True, nl=last)
    else:
        warn(line)


def show_json(value: object) -> None:
    """Print one JSON document on standard output, in ASCII: no encoding of that stream can spoil it."""
    typer.echo(json.dumps(value, indent=2 if sys.stdout.isatty() else None))


@contextmanager
def reporting_errors(*, as_json: bool = False) -> Iterator[None]:
    """Report a PostroomError in one line (or a JSON object), and exit with its code."""
    try:
        yield
    except PostroomError as error:
        if as_json:
            show_json(failure_json(error))
        else:
            warn(f"error: {error}")
        raise typer.Exit(exit_code_of(error)) from None


def exit_code_of(error: PostroomError) -> int:
    """Return the exit code: 1 failed, 2 usage or configuration, 3 outcome unknown."""
    if isinstance(error, DeliveryError):
        return UNKNOWN if error.outcome is Outcome.UNKNOWN else FAILED
    return FAILED if isinstance(error, (OutboxError, Suppressed, ResultsFileError)) else USAGE


def receipt_json(receipt: Receipt) -> dict[str, Any]:
    """Return a receipt as the JSON object the command line promises."""
    found: dict[str, Any] = receipt.model_dump(mode="json")
    return found


def failure_json(error: PostroomError) -> dict[str, Any]:
    """Return an error as that object, with `error`, `outcome` and `message`; nothing tried is `permanent`."""
    answer: dict[str, Any] = {"id": None, "status": "failed", "provider": None, "account": None}
    answer |= {"provider_message_id": None, "recipients": [], "outcome": "permanent"}
    if isinstance(error, DeliveryError):
        answer |= receipt_json(error.receipt) if error.receipt else {}
        answer |= {"outcome": str(error.outcome), "provider_code": error.provider_code}
        answer |= {"retry_after": error.retry_after, "request_id": error.request_id}
    return {**answer, "error": error.code, "message": str(error)}
