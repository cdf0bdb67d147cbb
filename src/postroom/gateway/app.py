"""The gateway's application: its parts, put together for one `Postroom`."""

from __future__ import annotations

from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING

from starlette.middleware.cors import CORSMiddleware

from postroom.gateway.access.authentication import Authenticator
from postroom.gateway.access.factory import access_storage_of
from postroom.gateway.access.quotas import Quotas
from postroom.gateway.access.rate_limits import RateLimiter
from postroom.gateway.api import routes
from postroom.gateway.api.communicate import CommunicateApi
from postroom.gateway.api.health import HealthApi
from postroom.gateway.api.messages import MessagesApi
from postroom.gateway.api.openapi import OpenApi
from postroom.gateway.api.sender_names import SenderNames
from postroom.gateway.api.suppressions import SuppressionsApi
from postroom.gateway.api.unsubscribe import UnsubscribeApi, UnsubscribeLinks
from postroom.gateway.api.webhooks import WebhooksApi
from postroom.gateway.http.body import BodyReader
from postroom.gateway.http.middleware import RequestMiddleware
from postroom.gateway.http.routing import Router
from postroom.gateway.metrics import Metrics
from postroom.gateway.parsing.process import MessageParser
from postroom.gateway.worker import EmbeddedWorker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import ASGIApp

    from postroom.client import Postroom
    from postroom.gateway.access.storage import AccessStorage
    from postroom.gateway.http.routing import Route

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


@asynccontextmanager
async def open_gateway(
    room: Postroom, *, work: bool = True, storage: AccessStorage | None = None
) -> AsyncIterator[Gateway]:
    """Open the outbox, and work on it unless others do, for as long as the gateway is entered.

    Keys and limits are kept beside the outbox's messages unless `storage` says where. Raises ConfigError and
    OutboxError when the outbox cannot be used.
    """
    storage = storage or access_storage_of(room.outbox.store)
    await storage.open()
    try:
        parser = MessageParser(room.config.gateway)
        async with room, EmbeddedWorker(room, work=work) as worker, aclosing(parser):
            yield Gateway(room, storage, worker, parser)
    finally:
        await storage.close()


class Gateway:
    """The service: its `routes`, and the ASGI `app` that answers them. Everything it needs is open already."""

    def __init__(self, room: Postroom, storage: AccessStorage, worker: EmbeddedWorker, parser: MessageParser) -> None:
        settings, outbox = room.config.gateway, room.outbox
        reader, metrics = BodyReader(settings), Metrics()
        authenticator = Authenticator(storage, settings)
        limiter, quotas = RateLimiter(storage, settings), Quotas(storage, settings)
        messages = MessagesApi(outbox, authenticator, reader, rate_limiter=limiter, quotas=quotas)
        within, names = settings.unsubscribe_within, settings.sender_names
        self.unsubscribe_links = links = UnsubscribeLinks(storage.secret, settings.public_url, within)
        communicate = CommunicateApi(
            room,
            authenticator=authenticator,
            rate_limiter=limiter,
            quotas=quotas,
            reader=reader,
            parser=parser,
            unsubscribe_links=links,
            sender_names=SenderNames(room.config.accounts.values()) if names == "own" else None,
        )
        self.settings = settings
        self.routes: tuple[Route, ...] = (
            *routes.communicate_routes(communicate),
            *routes.message_routes(messages),
            *routes.report_routes(WebhooksApi(room, settings, reader), UnsubscribeApi(outbox.suppressions, links)),
            *routes.suppression_routes(SuppressionsApi(outbox.suppressions, authenticator, reader)),
            *routes.health_routes(
                HealthApi(outbox, storage, worker, metrics, authenticator if settings.metrics == "key" else None),
                settings.metrics,
            ),
        )
        router = Router((*self.routes, *routes.docs_routes(OpenApi(self.routes))))
        self.app = self._for_browsers(RequestMiddleware(router, reader, metrics))

    def _for_browsers(self, app: ASGIApp) -> ASGIApp:
        if not self.settings.cors_origins:
            return app
        return CORSMiddleware(
            app,
            allow_origins=self.settings.cors_origins,
            allow_methods=("GET", "POST"),
            allow_headers=_BROWSER_HEADERS,
            expose_headers=("X-Request-Id", "Retry-After", "RateLimit", "RateLimit-Policy", "Idempotency-Replayed"),
            max_age=600,
        )
