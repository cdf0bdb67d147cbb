from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom import Email
from postroom.errors import (
    AuthenticationFailed,
    DeliveryError,
    MessageRejected,
    Outcome,
    OutcomeUnknown,
    ProviderUnavailable,
    ProviderUnreachable,
    QuotaExhausted,
    RateLimited,
    RecipientsRefused,
    Scope,
    UnexpectedResponse,
)
from postroom.testing.http import Answer, Drop, HttpRecorder
from postroom_sendgrid.transport import SendGridEmail

from .conftest import CANARY, an_email, opened

if TYPE_CHECKING:
    from .conftest import Opener


def errors(*pairs: tuple[str, str | None]) -> dict[str, object]:
    return {"errors": [{"message": message, "field": field, "help": None} for message, field in pairs]}


async def refused(transport: SendGridEmail, message: Email) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        await transport.send(message)
    seen = f"{caught.value!r} {caught.value} {caught.value.detail} {caught.value.__dict__} {caught.value.__cause__!r}"
    assert CANARY not in seen
    return caught.value


ANSWERS = [
    (Answer(400, errors(("bad", "subject"))), MessageRejected, Outcome.PERMANENT, Scope.MESSAGE),
    (
        Answer(400, errors(("bad", "personalizations.0.to.0.email"))),
        RecipientsRefused,
        Outcome.PERMANENT,
        Scope.RECIPIENT,
    ),
    (
        Answer(401, errors(("The provided authorization grant is invalid, expired, or revoked", None))),
        AuthenticationFailed,
        Outcome.PERMANENT,
        Scope.ACCOUNT,
    ),
    (
        Answer(401, errors(("Authenticated user is not authorized to send mail", None))),
        AuthenticationFailed,
        Outcome.PERMANENT,
        Scope.ACCOUNT,
    ),
    (Answer(401, errors(("Maximum credits exceeded", None))), QuotaExhausted, Outcome.PERMANENT, Scope.ACCOUNT),
    (
        Answer(403, errors(("The from address does not match a verified Sender Identity", "from"))),
        AuthenticationFailed,
        Outcome.PERMANENT,
        Scope.ACCOUNT,
    ),
    (
        Answer(403, errors(("You are temporarily blocked from sending emails due to repeated bad requests.", None))),
        RateLimited,
        Outcome.TRANSIENT,
        Scope.ACCOUNT,
    ),
    (Answer(400, ""), MessageRejected, Outcome.PERMANENT, Scope.MESSAGE),
    (Answer(405, ""), MessageRejected, Outcome.PERMANENT, Scope.ACCOUNT),
    (Answer(406, ""), MessageRejected, Outcome.PERMANENT, Scope.MESSAGE),
    (Answer(201, ""), UnexpectedResponse, Outcome.UNKNOWN, Scope.MESSAGE),
    (Answer(204, ""), UnexpectedResponse, Outcome.UNKNOWN, Scope.MESSAGE),
    (Answer(404, "not found"), MessageRejected, Outcome.PERMANENT, Scope.ACCOUNT),
    (Answer(413, errors(("Payload too large", None))), MessageRejected, Outcome.PERMANENT, Scope.MESSAGE),
    (Answer(429, errors(("too many requests", None))), RateLimited, Outcome.TRANSIENT, Scope.ACCOUNT),
    (Answer(500, errors(("boom", None))), ProviderUnavailable, Outcome.TRANSIENT, Scope.ACCOUNT),
    (Answer(503, ""), ProviderUnavailable, Outcome.TRANSIENT, Scope.ACCOUNT),
    (Answer(502, f"<html>Bad Gateway {CANARY}</html>"), OutcomeUnknown, Outcome.UNKNOWN, Scope.MESSAGE),
    (Answer(504, ""), OutcomeUnknown, Outcome.UNKNOWN, Scope.MESSAGE),
    (Answer(200, ""), UnexpectedResponse, Outcome.UNKNOWN, Scope.MESSAGE),
    (
        Answer(302, "", headers={"Location": "http://127.0.0.1:1/"}),
        UnexpectedResponse,
        Outcome.PERMANENT,
        Scope.ACCOUNT,
    ),
]


@pytest.mark.parametrize(("answer", "kind", "outcome", "scope"), ANSWERS, ids=lambda v: getattr(v, "__name__", None))
async def test_every_answer_that_is_not_a_yes_has_its_outcome_after_one_request(
    sendgrid: SendGridEmail,
    server: HttpRecorder,
    email: Callable[..., Email],
    answer: Answer,
    kind: type[Any],
    outcome: Outcome,
    scope: Scope,
) -> None:
    server.answer(answer)

    error = await refused(sendgrid, email())

    assert (type(error), error.outcome, error.scope, error.status) == (kind, outcome, scope, answer.status)
    assert len(server.requests) == 1


async def test_a_rate_limit_says_when_to_go_on(
    sendgrid: SendGridEmail, server: HttpRecorder, email: Callable[..., Email]
) -> None:
    server.answer(Answer(429, errors(("slow", None)), headers={"X-RateLimit-Reset": str(int(time.time()) + 30)}))
    assert (await refused(sendgrid, email())).retry_after == pytest.approx(30, abs=2)

    reset = {"X-RateLimit-Reset": str(int(time.time()) + 30)}
    server.answer(Answer(429, errors(("slow", None)), headers={"Retry-After": "7", **reset}))
    assert (await refused(sendgrid, email())).retry_after == 7


@pytest.mark.parametrize("reset", ["soon", "-1", "1" * 5000, ""])
async def test_a_reset_that_is_no_time_is_passed_over(
    sendgrid: SendGridEmail, server: HttpRecorder, email: Callable[..., Email], reset: str
) -> None:
    server.answer(Answer(429, errors(("slow", None)), headers={"X-RateLimit-Reset": reset}))
    assert (await refused(sendgrid, email())).retry_after is None


async def test_the_reset_that_every_answer_carries_means_nothing_when_no_limit_was_reached(
    sendgrid: SendGridEmail, server: HttpRecorder, email: Callable[..., Email]
) -> None:
    server.answer(Answer(503, "", headers={"X-RateLimit-Reset": str(int(time.time()) + 30)}))
    assert (await refused(sendgrid, email())).retry_after is None


async def test_an_untrusted_certificate_stops_before_anything_is_sent(
    open_sendgrid: Opener, email: Callable[..., Email]
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    async with HttpRecorder(tls=context) as server, open_sendgrid(server.url) as transport:
        error = await refused(transport, email())

    assert isinstance(error, ProviderUnreachable)
    assert error.outcome is Outcome.PERMANENT
    assert "SSL_CERT_FILE" in str(error)
    assert server.requests == []


@pytest.mark.parametrize(
    ("status", "said", "next_step"),
    [
        (401, "The provided authorization grant is invalid, expired, or revoked", "check api_key, and that region"),
        (401, "Authenticated user is not authorized to send mail", "the scope mail.send"),
        (401, "Maximum credits exceeded", "raise the plan"),
        (403, "The from address does not match a verified Sender Identity", "verify the sender identity"),
        (403, "temporarily blocked", "correct what was refused before"),
        (404, "not found", "check base_url"),
        (429, "too many requests", "try again later"),
        (500, "boom", "try again later"),
        (502, "Bad Gateway", "look for it at the provider before sending it again"),
    ],
)
async def test_the_text_says_account_cause_and_next_step(
    sendgrid: SendGridEmail, server: HttpRecorder, email: Callable[..., Email], status: int, said: str, next_step: str
) -> None:
    server.answer(Answer(status, errors((said, None))))
    text = str(await refused(sendgrid, email()))
    assert text.startswith("sg: ")
    assert said in text
    assert next_step in text


async def test_a_fault_comes_with_its_field(
    sendgrid: SendGridEmail, server: HttpRecorder, email: Callable[..., Email]
) -> None:
    server.answer(Answer(400, errors(("must be a string", "asm.group_id"), ("too long", "categories.0"))))
    error = await refused(sendgrid, email())
    assert error.detail == "must be a string (asm.group_id); too long (categories.0)"


async def test_a_refused_recipient_is_told_from_those_refused_along(
    sendgrid: SendGridEmail, server: HttpRecorder, email: Callable[..., Email]
) -> None:
    fault = ("Does not contain a valid address.", "personalizations.0.to.1.email")
    server.answer(Answer(400, errors(fault)))
    error = await refused(sendgrid, email(to=["a@example.org", "b@müller.example"], cc="c@example.org"))

    assert isinstance(error, RecipientsRefused)
    assert [(result.address, result.code) for result in error.recipients] == [
        ("a@example.org", "message_rejected"),
        ("b@müller.example", "recipients_refused"),
        ("c@example.org", "message_rejected"),
    ]
    assert error.recipients[1].detail == "Does not contain a valid address."
    assert "another recipient" in str(error.recipients[0].detail)


async def test_a_key_in_a_recipients_fault_is_taken_out(
    sendgrid: SendGridEmail, server: HttpRecorder, email: Callable[..., Email]
) -> None:
    server.answer(Answer(400, errors((f"bad {CANARY}", "personalizations.0.to.0.email"))))
    (result,) = (await refused(sendgrid, email())).recipients
    assert result.detail == "bad ***"


async def test_a_fault_about_a_recipient_and_another_refuse_the_message(
    sendgrid: SendGridEmail, server: HttpRecorder, email: Callable[..., Email]
) -> None:
    server.answer(Answer(400, errors(("bad", "personalizations.0.to.0.email"), ("bad", "subject"))))
    assert type(await refused(sendgrid, email())) is MessageRejected


@given(
    body=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=9) | st.just("personalizations.0.to.0"),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.fixed_dictionaries({}, optional={"errors": inner, "message": inner, "field": inner})
        ),
        max_leaves=12,
    ),
    status=st.sampled_from([400, 401, 403, 404, 413, 422, 429, 500]),
)
@settings(max_examples=60, deadline=None)
async def test_whatever_a_refusal_holds_every_message_gets_a_delivery_error(body: Any, status: int) -> None:
    async with HttpRecorder() as server, opened(server.url) as transport:
        server.answer(Answer(status, json.dumps(body)))
        answers = await transport.send_many([an_email(to=f"a{n}@example.org") for n in range(3)])

    assert all(isinstance(answer, DeliveryError) for answer in answers)
    assert all(answer.outcome in {Outcome.PERMANENT, Outcome.TRANSIENT} for answer in answers)  # type: ignore[union-attr]


@pytest.mark.parametrize("headers", [{"X-Message-Id": "abc"}, {}])
async def test_a_202_is_a_yes_with_or_without_an_id(
    sendgrid: SendGridEmail, server: HttpRecorder, email: Callable[..., Email], headers: dict[str, str]
) -> None:
    server.answer(Answer(202, headers=headers))
    accepted = await sendgrid.send(email())
    assert accepted.provider_message_id == headers.get("X-Message-Id")


async def test_the_request_is_what_the_api_asks_for(
    sendgrid: SendGridEmail, server: HttpRecorder, email: Callable[..., Email]
) -> None:
    server.answer(Answer(202))
    await sendgrid.send(email())
    (request,) = server.requests
    assert (request.method, request.target) == ("POST", "/v3/mail/send")
    assert request.headers["authorization"] == f"Bearer {CANARY}"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["accept"] == "application/json"


async def test_a_connection_closed_before_the_body_was_read_is_no_success_and_not_tried_again(
    sendgrid: SendGridEmail, server: HttpRecorder, email: Callable[..., Email]
) -> None:
    server.answer(Drop("headers"))

    error = await refused(sendgrid, email())

    assert error.outcome in {Outcome.TRANSIENT, Outcome.UNKNOWN}
    assert isinstance(error, (ProviderUnreachable, OutcomeUnknown))
    assert server.requests == []
    assert server.begun <= 1


async def test_the_sandbox_answers_200(
    open_sendgrid: Opener, server: HttpRecorder, email: Callable[..., Email]
) -> None:
    server.answer(Answer(200, ""))
    async with open_sendgrid(server.url, sandbox=True) as transport:
        await transport.send(email())

    assert server.requests[0].json()["mail_settings"] == {"sandbox_mode": {"enable": True}}


async def test_a_message_that_asks_for_the_sandbox_itself_takes_200_for_a_yes(
    sendgrid: SendGridEmail, server: HttpRecorder, email: Callable[..., Email]
) -> None:
    server.answer(Answer(200, ""))
    options = {"mail_settings": {"sandbox_mode": {"enable": True}}}
    assert await sendgrid.send(email(provider_options=options))


@pytest.mark.parametrize("answer", [Answer(200, "<html>hello</html>"), Answer(200, []), Answer(200, {"scopes": None})])
async def test_check_is_not_content_with_just_any_200(
    sendgrid: SendGridEmail, server: HttpRecorder, answer: Answer
) -> None:
    server.answer(answer)
    report = await sendgrid.check()
    assert not report.ok
    assert "base_url" in report.summary


async def test_check_tells_whether_the_key_may_send(sendgrid: SendGridEmail, server: HttpRecorder) -> None:
    server.answer(Answer(200, {"scopes": ["mail.send"]}), Answer(200, {"scopes": ["stats.read"]}), Answer(401, {}))

    assert (await sendgrid.check()).ok
    lacking = await sendgrid.check()
    assert not lacking.ok
    assert "mail.send" in lacking.summary
    with pytest.raises(AuthenticationFailed):
        await sendgrid.check()
    assert [request.path for request in server.requests] == ["/v3/scopes"] * 3
