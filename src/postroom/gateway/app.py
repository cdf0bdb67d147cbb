"""The application that `postroom serve` runs."""

from __future__ import annotations

from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request  # noqa: TC002 - FastAPI reads annotations when it runs
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response

from postroom.errors import ConfigError
from postroom.gateway.access.authentication import Authenticator
from postroom.gateway.access.storage import AccessStorage
from postroom.gateway.api import schemas
from postroom.gateway.api.communicate import Communicate
from postroom.gateway.api.health import Metrics, Operations
from postroom.gateway.api.messages import Filter, Lookups, Resolution
from postroom.gateway.api.openapi import NAMED, asks, describe, errors, errors_in_json, named, takes
from postroom.gateway.api.suppressions import SuppressionBody, SuppressionFilter, SuppressionsApi
from postroom.gateway.api.unsubscribe import Unsubscribing
from postroom.gateway.api.webhooks import Webhooks
from postroom.gateway.http.body import Reader
from postroom.gateway.http.middleware import RequestMiddleware, answered, broken, unknown_path
from postroom.gateway.worker import EmbeddedWorker
from postroom.outbox.sqlite.store import SqliteStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pydantic import BaseModel
    from starlette.types import ASGIApp

    from postroom.client import Postroom
    from postroom.gateway.http.middleware import Endpoint

_BROWSER_HEADERS = (
    "Auth-token",
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "X-App-Locales",
    "X-Device-Platform",
    "X-Device-Tracking",
    "X-Request-Id",
)
"""Request headers that pages may send: ours, and those the API's JavaScript library adds."""


def described(endpoint: Endpoint) -> Endpoint:
    """Return an endpoint with a signature that FastAPI understands, and its refusals as answers."""

    async def answer(request: Request) -> Response:
        return await answered(endpoint, request)

    return answer


class Gateway:
    """The parts of the service, made for one `Postroom` and opened with the application."""

    def __init__(self, room: Postroom, *, work: bool = True) -> None:
        settings = room.config.gateway
        store = room.outbox.store
        if not isinstance(store, SqliteStore):
            raise ConfigError("keys and limits are kept in an SQLite outbox", path="outbox.url")
        self.settings = settings
        self.room = room
        self.access_storage = AccessStorage(store, settings)
        self.reader = Reader(settings)
        self.metrics = Metrics()
        self.workshop = EmbeddedWorker(room, work=work)
        self.admission = Authenticator(self.access_storage, settings)
        self.unsubscribing = Unsubscribing(room.outbox.suppressions, settings.public_url)
        self.communicate = Communicate(room, self.access_storage, self.admission, self.reader, self.unsubscribing)
        self.webhooks = Webhooks(room, settings, self.reader)
        self.suppressions = SuppressionsApi(room.outbox.suppressions, self.admission, self.reader)
        self.lookups = Lookups(room.outbox, self.admission, self.reader)
        self.operations = Operations(store, self.workshop, self.metrics)

    @asynccontextmanager
    async def opened(self, _app: object = None) -> AsyncIterator[None]:
        """Open the outbox, and work on it, until the service ends."""
        await self.access_storage.open()
        self.unsubscribing.secret = self.access_storage.secret
        try:
            async with self.room, self.workshop:
                yield
        finally:
            self.access_storage.close()

    def application(self) -> ASGIApp:
        """Return the ASGI application."""
        app = FastAPI(
            title="postroom",
            version=version("postroom"),
            lifespan=self.opened,
            docs_url="/docs",
            redoc_url=None,
            redirect_slashes=False,
            exception_handlers={HTTPException: unknown_path, Exception: broken},
        )
        app.include_router(self._routes())
        app.openapi = lambda: describe(app)  # type: ignore[method-assign]  # the documented way to extend it
        front = RequestMiddleware(app, self._direct(), self.reader, self.metrics)
        if not self.settings.cors_origins:
            return front
        return CORSMiddleware(
            front,
            allow_origins=self.settings.cors_origins,
            allow_methods=("GET", "POST"),
            allow_headers=_BROWSER_HEADERS,
            expose_headers=("X-Request-Id", "Retry-After", "RateLimit", "RateLimit-Policy", "Idempotency-Replayed"),
            max_age=600,
        )

    def _direct(self) -> dict[tuple[str, str], Endpoint]:
        here = self.communicate
        endpoints = {"email": here.email, "email/batch": here.emails, "sms": here.sms, "sms/batch": here.many_sms}
        return {("POST", f"/v1/communicate/{name}"): endpoint for name, endpoint in endpoints.items()}

    def _routes(self) -> APIRouter:
        routes = APIRouter()
        self._add_communicate(routes)
        self._add_lookups(routes)
        self._add_reports(routes)
        self._add_suppressions(routes)
        self._add_operations(routes)
        return routes

    def _add_communicate(self, routes: APIRouter) -> None:
        one, many = schemas.AcceptedAnswer, schemas.BatchAnswer
        email, sms = schemas.example_email, schemas.example_sms
        bodies: dict[str, tuple[str, type[BaseModel], dict[str, Any]]] = {
            "email": ("Send an email", one, takes(schemas.EmailBody, email())),
            "email/batch": (
                "Send batch emails",
                many,
                takes(schemas.EmailBatch, {"emails": [email(), email("Hi John Doe")]}),
            ),
            "sms": ("Send an SMS", one, takes(schemas.SmsBody, sms())),
            "sms/batch": ("Send batch SMS", many, takes(schemas.SmsBatch, {"sms": [sms(), sms("+987654321")]})),
        }
        for (_, path), endpoint in self._direct().items():
            summary, answer, body = bodies[path.removeprefix("/v1/communicate/")]
            refusals = errors(400, 401, 403, 408, 413, 415, 422, 429, 500, 503)
            routes.post(
                path,
                tags=["Communicate"],
                summary=summary,
                status_code=202,
                response_model=answer,
                responses=refusals,
                openapi_extra=body,
            )(described(endpoint))

    def _add_lookups(self, routes: APIRouter) -> None:
        here, one = self.lookups, "/v1/messages/{id}"
        declared: tuple[tuple[str, str, Endpoint, type[BaseModel], dict[str, Any]], ...] = (
            ("GET", "/v1/messages", here.listed, schemas.MessageList, asks(Filter)),
            ("GET", one, here.shown, schemas.MessageAnswer, NAMED),
            ("POST", f"{one}/cancel", here.cancelled, schemas.MessageAnswer, NAMED),
            ("POST", f"{one}/retry", here.retried, schemas.MessageAnswer, NAMED),
            (
                "POST",
                f"{one}/resolve",
                here.resolved,
                schemas.MessageAnswer,
                takes(Resolution, {"outcome": "sent"}) | NAMED,
            ),
        )
        for method, path, endpoint, answer, extra in declared:
            routes.add_api_route(
                path,
                described(endpoint),
                methods=[method],
                tags=["Messages"],
                summary=_first_line(endpoint),
                response_model=answer,
                responses=errors(400, 401, 403, 404, 409, 413, 415, 500, 503),
                openapi_extra=extra,
            )

    def _add_reports(self, routes: APIRouter) -> None:
        """Add what providers and the recipients of mail call."""
        page, xml = {"response_class": HTMLResponse}, {"response_class": Response}
        account, token = named("account"), named("token")
        here, leave = self.webhooks.received, self.unsubscribing
        declared: tuple[tuple[str, str, Endpoint, dict[str, Any], dict[str, Any]], ...] = (
            ("POST", "/v1/webhooks/{account}", here, account, xml),
            ("GET", "/v1/webhooks/{account}", here, account, xml),
            ("GET", "/v1/unsubscribe/{token}", leave.asked, token, page),
            ("POST", "/v1/unsubscribe/{token}", leave.done, token, page),
        )
        for method, path, endpoint, extra, kind in declared:
            routes.add_api_route(
                path,
                described(endpoint),
                methods=[method],
                tags=["Reports"],
                summary=_first_line(endpoint),
                responses=errors_in_json(400, 403, 404, 408, 413, 415, 500, 503),
                openapi_extra=extra,
                operation_id=f"{method} {path}",
                **kind,
            )

    def _add_suppressions(self, routes: APIRouter) -> None:
        here, path = self.suppressions, "/v1/suppressions"
        example = {"channel": "email", "address": "john@example.com"}
        declared: tuple[tuple[str, Endpoint, type[BaseModel], dict[str, Any]], ...] = (
            ("GET", here.listed, schemas.SuppressionPage, asks(SuppressionFilter)),
            ("POST", here.put, schemas.SuppressionAnswer, takes(SuppressionBody, example)),
        )
        for method, endpoint, answer, extra in declared:
            routes.add_api_route(
                path,
                described(endpoint),
                methods=[method],
                tags=["Suppressions"],
                summary=_first_line(endpoint),
                response_model=answer,
                responses=errors(400, 401, 403, 408, 413, 415, 500, 503),
                openapi_extra=extra,
            )

    def _add_operations(self, routes: APIRouter) -> None:
        here = self.operations
        declared: tuple[tuple[str, Endpoint, type[Response], dict[int | str, dict[str, Any]]], ...] = (
            ("/healthz", here.healthz, JSONResponse, {}),
            ("/readyz", here.readyz, JSONResponse, {503: {"description": "Nothing can be stored, or nobody sends."}}),
            ("/metrics", here.metrics, PlainTextResponse, {}),
        )
        for path, endpoint, kind, others in declared:
            routes.get(path, tags=["Operations"], summary=_first_line(endpoint), response_class=kind, responses=others)(
                described(endpoint)
            )


def _first_line(endpoint: Endpoint) -> str:
    return (endpoint.__doc__ or "").partition("\n")[0].rstrip(".")
