"""Every code of Vonage has one meaning, and the HTTP status comes before the number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from postroom.errors import (
    AuthenticationFailed,
    MessageRejected,
    Outcome,
    ProviderUnavailable,
    QuotaExhausted,
    RateLimited,
    RecipientsRefused,
    Scope,
)
from postroom.testing.http import Answer, HttpRecorder, RecordedRequest
from postroom_vonage.errors import PROBLEMS, SMS_STATUS

from .conftest import parts, problem


@pytest.fixture
def refusal(open_vonage: Callable[..., Any], server: HttpRecorder, sms: Callable[..., Any]) -> Callable[..., Any]:
    """What a message meets when the server gives this answer."""

    async def ask(answer: Answer, *, account: dict[str, str] | None = None, **fields: Any) -> Exception:
        server.answer(answer)
        async with open_vonage(server.url, **account or {}) as vonage:
            with pytest.raises(Exception) as caught:
                await vonage.send(sms(**fields))
        return caught.value

    return ask


@pytest.mark.parametrize("code", SMS_STATUS)
async def test_every_status_of_the_sms_api_becomes_its_error(refusal: Callable[..., Any], code: str) -> None:
    error = await refusal(Answer(200, parts(code)), account={"api": "sms"})
    meaning = SMS_STATUS[code]
    assert (type(error), error.provider_code, error.detail) == (meaning.kind, code, "because")
    assert error.outcome is (meaning.outcome or meaning.kind.default_outcome)


@pytest.mark.parametrize("code", PROBLEMS)
async def test_every_code_of_a_problem_becomes_its_error(refusal: Callable[..., Any], code: str) -> None:
    error = await refusal(Answer(422, problem(code, "Title", detail="Detail.")))
    meaning = PROBLEMS[code]
    assert (type(error), error.provider_code, error.detail) == (meaning.kind, code, "Title; Detail.")
    assert error.outcome is (meaning.outcome or meaning.kind.default_outcome)


@pytest.mark.parametrize(
    ("code", "kind", "outcome"),
    [
        ("1", RateLimited, "transient"),
        ("4", AuthenticationFailed, "permanent"),
        ("5", ProviderUnavailable, "transient"),
        ("7", RecipientsRefused, "permanent"),
        ("9", QuotaExhausted, "permanent"),
        ("14", AuthenticationFailed, "permanent"),
        ("29", RecipientsRefused, "permanent"),
        ("32", AuthenticationFailed, "permanent"),
        ("33", RecipientsRefused, "permanent"),
        ("99", MessageRejected, "permanent"),
    ],
)
async def test_a_status_of_the_sms_api_means_what_its_page_says(
    refusal: Callable[..., Any], code: str, kind: type[Any], outcome: str
) -> None:
    error = await refusal(Answer(200, parts(code)), account={"api": "sms"})
    assert (type(error), error.outcome, error.provider_code) == (kind, Outcome(outcome), code)


@pytest.mark.parametrize(
    ("status", "code", "title", "kind"),
    [
        (401, "unathorized", "You did not provide correct credentials.", AuthenticationFailed),
        (401, "unprovisioned", "The credentials do not have access", AuthenticationFailed),
        (402, "low-balance", "Low balance", QuotaExhausted),
        (403, "out-of-credit", "You do not have enough credit", QuotaExhausted),
        (422, "invalid-json", "The request body did not contain valid JSON", MessageRejected),
        (422, "1060", "Invalid client reference", MessageRejected),
        (422, "1100", "Unsupported channel", MessageRejected),
        (422, "1110", "Invalid channel parameters", MessageRejected),
        (422, "1120", "Invalid sender", MessageRejected),
        (422, "1140", "Invalid message type", MessageRejected),
        (422, "1150", "Invalid params", MessageRejected),
        (422, "110", "Invalid recipient", RecipientsRefused),
        (429, "1000", "Rate Limit Hit", RateLimited),
        (429, "1010", "Rate Limit Hit", RateLimited),
        (500, "1000", "Internal error", ProviderUnavailable),
        (422, "9999", "New", MessageRejected),
    ],
)
async def test_the_problems_of_the_messages_contract_have_their_errors(
    refusal: Callable[..., Any], status: int, code: str, title: str, kind: type[Any]
) -> None:
    error = await refusal(Answer(status, problem(code, title, instance="trace-1")))
    assert (type(error), error.status, error.provider_code, error.request_id) == (kind, status, code, "trace-1")


async def test_invalid_parameters_are_named(refusal: Callable[..., Any]) -> None:
    wrong = [{"name": "image.url", "reason": "is required."}, "not an object"]
    error = await refusal(Answer(422, problem("1150", "Invalid params", invalid_parameters=wrong)))
    assert error.detail == "Invalid params; image.url: is required."


@pytest.mark.parametrize(
    "body", [{"type": 7, "title": ["x"], "invalid_parameters": 1}, {"type": "#a b"}, {"type": None}, [], "null"]
)
async def test_a_problem_of_another_form_is_judged_by_its_status(refusal: Callable[..., Any], body: Any) -> None:
    error = await refusal(Answer(422, body))
    assert type(error) is MessageRejected
    assert error.provider_code is None


@pytest.mark.parametrize(
    ("answer", "api"), [(Answer(200, parts("15")), "sms"), (Answer(422, problem("1120")), "messages")]
)
async def test_a_bad_sender_is_the_accounts_fault_unless_the_message_chose_it(
    refusal: Callable[..., Any], answer: Answer, api: str
) -> None:
    own = await refusal(answer, account={"api": api, "from": "+447700900001"})
    chosen = await refusal(answer, account={"api": api, "from": "+447700900002"})
    assert (own.scope, chosen.scope) == (Scope.ACCOUNT, Scope.MESSAGE)


@pytest.mark.parametrize(
    ("answer", "api"), [(Answer(200, parts("7")), "sms"), (Answer(422, problem("1050")), "messages")]
)
async def test_a_refused_recipient_has_a_result_of_its_own(
    refusal: Callable[..., Any], answer: Answer, api: str
) -> None:
    error = await refusal(answer, account={"api": api})
    [result] = error.recipients
    assert (result.address, result.outcome, result.code) == ("+447700900000", Outcome.PERMANENT, "recipients_refused")
    assert result.provider_code == error.provider_code


async def test_an_expired_token_points_at_the_clock(refusal: Callable[..., Any]) -> None:
    error = await refusal(Answer(401, problem("jwt-expired")))
    assert isinstance(error, AuthenticationFailed)
    assert "clock" in str(error)


async def test_a_token_that_vonage_echoes_is_not_shown(
    open_vonage: Callable[..., Any], server: HttpRecorder, sms: Callable[..., Any], by_token: dict[str, Any]
) -> None:
    def echo(request: RecordedRequest) -> Answer:
        return Answer(401, {"title": "no", "detail": request.headers["authorization"]})

    server.answer_with(echo)
    async with open_vonage(server.url, **by_token) as vonage:
        with pytest.raises(AuthenticationFailed) as caught:
            await vonage.send(sms())
    sent = server.requests[0].headers["authorization"].removeprefix("Bearer ")
    assert sent.count(".") == 2
    assert not [piece for piece in sent.split(".") if piece in str(caught.value) + repr(vars(caught.value))]


async def test_a_signature_that_vonage_echoes_is_not_shown(
    open_vonage: Callable[..., Any], server: HttpRecorder, sms: Callable[..., Any]
) -> None:
    def echo(request: RecordedRequest) -> Answer:
        return Answer(200, {"messages": [{"status": "14", "error-text": request.body.decode()}]})

    server.answer_with(echo)
    async with open_vonage(server.url, api="sms", signature_secret="s3cret") as vonage:
        with pytest.raises(AuthenticationFailed, match="signature_secret") as caught:
            await vonage.send(sms())
    sent = dict(server.requests[0].form())["sig"]
    assert sent not in str(caught.value) + repr(vars(caught.value))
