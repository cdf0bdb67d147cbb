"""The table of the API's routes: what is answered by which endpoint, and how it is described."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from postroom.gateway.api import samples, schemas
from postroom.gateway.api.messages import MessageQuery, Resolution
from postroom.gateway.api.suppressions import SuppressionBody, SuppressionQuery
from postroom.gateway.http.routing import Route

if TYPE_CHECKING:
    from collections.abc import Iterator

    from postroom.gateway.api.communicate import CommunicateApi
    from postroom.gateway.api.health import HealthApi
    from postroom.gateway.api.messages import MessagesApi
    from postroom.gateway.api.openapi import OpenApi
    from postroom.gateway.api.suppressions import SuppressionsApi
    from postroom.gateway.api.unsubscribe import UnsubscribeApi
    from postroom.gateway.api.webhooks import WebhooksApi

_SEND: Final = (400, 401, 403, 408, 413, 415, 422, 429, 500, 503)
_MESSAGE: Final = (400, 401, 403, 404, 409, 413, 415, 500, 503)
_REPORT: Final = (400, 403, 404, 408, 413, 415, 500, 503)
_SUPPRESSION: Final = (400, 401, 403, 408, 413, 415, 500, 503)


def communicate_routes(api: CommunicateApi) -> Iterator[Route]:
    emails = {"emails": [samples.email(), samples.email("Hi John Doe")]}
    many_sms = {"sms": [samples.sms(), samples.sms("+987654321")]}
    for path, endpoint, body, example, answer in (
        ("email", api.email, schemas.EmailBody, samples.email(), schemas.AcceptedAnswer),
        ("email/batch", api.email_batch, schemas.EmailBatch, emails, schemas.BatchAnswer),
        ("sms", api.sms, schemas.SmsBody, samples.sms(), schemas.AcceptedAnswer),
        ("sms/batch", api.sms_batch, schemas.SmsBatch, many_sms, schemas.BatchAnswer),
    ):
        yield Route(
            method="POST", path=f"/v1/communicate/{path}", endpoint=endpoint, tag="Communicate",
            body=body, example=example, idempotent=True, response=answer, status=202, errors=_SEND,
        )  # fmt: skip


def message_routes(api: MessagesApi) -> Iterator[Route]:
    yield Route(
        method="GET", path="/v1/messages", endpoint=api.list, tag="Messages",
        query=MessageQuery, response=schemas.MessageList, errors=_MESSAGE,
    )  # fmt: skip
    for method, path, endpoint in (
        ("GET", "", api.show), ("POST", "/cancel", api.cancel), ("POST", "/retry", api.retry),
    ):  # fmt: skip
        yield Route(
            method=method, path=f"/v1/messages/{{id}}{path}", endpoint=endpoint, tag="Messages",
            response=schemas.MessageAnswer, errors=_MESSAGE,
        )  # fmt: skip
    yield Route(
        method="POST", path="/v1/messages/{id}/resolve", endpoint=api.resolve, tag="Messages",
        body=Resolution, example={"outcome": "sent"}, response=schemas.MessageAnswer, errors=_MESSAGE,
    )  # fmt: skip


def report_routes(webhooks: WebhooksApi, unsubscribe: UnsubscribeApi) -> Iterator[Route]:
    """What providers and the recipients of mail call."""
    for method, path, endpoint, media_type in (
        ("POST", "/v1/webhooks/{account}", webhooks.receive, "text/xml"),
        ("GET", "/v1/webhooks/{account}", webhooks.receive, "text/xml"),
        ("GET", "/v1/unsubscribe/{token}", unsubscribe.ask, "text/html"),
        ("POST", "/v1/unsubscribe/{token}", unsubscribe.unsubscribe, "text/html"),
    ):
        yield Route(
            method=method, path=path, endpoint=endpoint, tag="Reports",
            response=media_type, errors=_REPORT, needs_key=False,
        )  # fmt: skip


def suppression_routes(api: SuppressionsApi) -> Iterator[Route]:
    yield Route(
        method="GET", path="/v1/suppressions", endpoint=api.list, tag="Suppressions",
        query=SuppressionQuery, response=schemas.SuppressionPage, errors=_SUPPRESSION,
    )  # fmt: skip
    yield Route(
        method="POST", path="/v1/suppressions", endpoint=api.put, tag="Suppressions",
        body=SuppressionBody, example={"channel": "email", "address": "john@example.com"},
        response=schemas.SuppressionAnswer, errors=_SUPPRESSION,
    )  # fmt: skip


def health_routes(api: HealthApi, metrics: Literal["open", "key", "closed"]) -> Iterator[Route]:
    yield Route(
        method="GET", path="/healthz", endpoint=api.healthz, tag="Operations",
        response=schemas.HealthAnswer, needs_key=False,
    )  # fmt: skip
    yield Route(
        method="GET", path="/readyz", endpoint=api.readyz, tag="Operations", response=schemas.ReadinessAnswer,
        otherwise={503: "Nothing can be stored, or nobody sends."}, needs_key=False,
    )  # fmt: skip
    if metrics != "closed":
        yield Route(
            method="GET", path="/metrics", endpoint=api.metrics, tag="Operations", response="text/plain",
            needs_key=metrics == "key", errors=(400, 401, 403, 503) if metrics == "key" else (503,),
        )  # fmt: skip


def docs_routes(openapi: OpenApi) -> Iterator[Route]:
    """What describes the others."""
    for path, endpoint, media_type in (
        ("/openapi.json", openapi.document, "application/json"), ("/docs", openapi.page, "text/html"),
        ("/docs/{name}", openapi.file, "text/plain"),
    ):  # fmt: skip
        yield Route(method="GET", path=path, endpoint=endpoint, tag="Operations", response=media_type, needs_key=False)
