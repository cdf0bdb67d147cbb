"""Every error has its exit code, and is one object in JSON."""

from __future__ import annotations

import json

import pytest
import typer

from postroom.cli.output import ResultsFileError, UsageError, exit_code_of, failure_json, reporting_errors
from postroom.errors import (
    AuthenticationFailed,
    ConfigError,
    IdempotencyConflict,
    InvalidOption,
    MessageError,
    MessageNotFound,
    OutboxError,
    OutcomeUnknown,
    PluginLoadError,
    PostroomError,
    ProviderNotFound,
    ProviderUnreachable,
    RateLimited,
    StateConflict,
    Suppressed,
    UnexpectedResponse,
)

CODES = {
    AuthenticationFailed: 1,
    ProviderUnreachable: 1,
    RateLimited: 1,
    Suppressed: 1,
    OutboxError: 1,
    IdempotencyConflict: 1,
    MessageNotFound: 1,
    StateConflict: 1,
    ResultsFileError: 1,
    UsageError: 2,
    ConfigError: 2,
    InvalidOption: 2,
    MessageError: 2,
    PluginLoadError: 2,
    ProviderNotFound: 2,
    OutcomeUnknown: 3,
    UnexpectedResponse: 3,
}


@pytest.mark.parametrize(("kind", "code"), CODES.items(), ids=lambda value: getattr(value, "__name__", str(value)))
def test_an_error_has_its_exit_code(kind: type[PostroomError], code: int) -> None:
    error = kind("what happened")
    assert exit_code_of(error) == code
    with pytest.raises(typer.Exit) as ended, reporting_errors():
        raise error
    assert ended.value.exit_code == code


def test_an_error_is_one_line_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit), reporting_errors():
        raise UsageError("must be one of a, b", option="--letter")
    assert capsys.readouterr() == ("", "error: --letter: must be one of a, b\n")


def test_an_error_is_one_object_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit), reporting_errors(as_json=True):
        raise UsageError("standard input is not UTF-8 text")
    out, err = capsys.readouterr()
    assert err == ""
    assert json.loads(out) == {
        "id": None,
        "status": "failed",
        "provider": None,
        "account": None,
        "provider_message_id": None,
        "recipients": [],
        "outcome": "permanent",
        "error": "usage_error",
        "message": "standard input is not UTF-8 text",
    }


def test_a_delivery_error_says_what_the_provider_said() -> None:
    found = failure_json(RateLimited("main: too many", retry_after=3.0, provider_code="429", request_id="r1"))
    assert (found["outcome"], found["retry_after"]) == ("transient", 3.0)
    assert (found["provider_code"], found["request_id"]) == ("429", "r1")


def test_what_is_no_error_of_ours_goes_its_way() -> None:
    with pytest.raises(ZeroDivisionError), reporting_errors():
        raise ZeroDivisionError
