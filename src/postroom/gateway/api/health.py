"""Health checks (liveness and readiness) and metrics."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import Response

from postroom.errors import PostroomError
from postroom.gateway.http.responses import JsonResponse

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from postroom.gateway.access.authentication import Authenticator
    from postroom.gateway.access.storage import AccessStorage
    from postroom.gateway.metrics import Metrics
    from postroom.gateway.worker import EmbeddedWorker
    from postroom.outbox.outbox import Outbox


COUNTED_EVERY = 5.0
"""Seconds between two counts of the whole outbox, however often it is asked: Prometheus asks every 15 or so."""


class HealthApi:
    """The endpoints for whoever runs the service."""

    def __init__(
        self,
        outbox: Outbox,
        storage: AccessStorage,
        worker: EmbeddedWorker,
        metrics: Metrics,
        authenticator: Authenticator | None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`authenticator` tells who may see the numbers; None: everybody."""
        self._authenticator = authenticator
        self._clock = clock
        self._counting = asyncio.Lock()
        self._counted_at = float("-inf")
        self._outbox = outbox
        self._storage = storage
        self._worker = worker
        self._metrics = metrics

    async def healthz(self, request: Request) -> Response:
        """Answer at all: the process lives."""
        del request
        return JsonResponse(200, {"status": "ok"})

    async def readyz(self, request: Request) -> Response:
        """Tell whether messages can be stored, and whether somebody sends them."""
        del request
        checks = {"outbox": await self._storage_state(), "worker": self._worker.state()}
        ready = checks["outbox"] == "ok" and checks["worker"] in {"ok", "elsewhere"}
        return JsonResponse(200 if ready else 503, {"status": "ok" if ready else "unavailable", **checks})

    async def metrics(self, request: Request) -> Response:
        """Show the numbers in Prometheus' text format."""
        if self._authenticator is not None:
            await self._authenticator.authenticate(request)
        async with self._counting:
            if self._clock() - self._counted_at >= COUNTED_EVERY:
                self._metrics.gauge(await self._outbox.stats())
                self._counted_at = self._clock()
        return Response(generate_latest(self._metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def _storage_state(self) -> str:
        """Return `ok`, or why nothing can be stored; keys and limits are kept where messages are."""
        try:
            await self._storage.ping()
        except PostroomError as error:
            return str(error)
        return "ok"
