"""Whether the service lives, whether it can do its work, and how it does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.responses import Response

from postroom.errors import PostroomError
from postroom.gateway.http.middleware import JsonAnswer
from postroom.receipts import Status

if TYPE_CHECKING:
    from starlette.requests import Request

    from postroom.gateway.worker import EmbeddedWorker
    from postroom.outbox.sqlite.store import SqliteStore


class Metrics:
    """Numbers for Prometheus: of this process where they count, of the whole outbox where they gauge."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._known: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._requests = Counter(
            "postroom_requests",
            "Answers, by method, path and status.",
            ("method", "path", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "postroom_request_seconds", "Time from a request's head to its answer.", ("path",), registry=self.registry
        )
        self._messages = Gauge(
            "postroom_outbox_messages", "Messages in the outbox, by status.", ("status",), registry=self.registry
        )
        self._waiting = Gauge(
            "postroom_outbox_waiting", "Messages that wait for an account.", ("queue",), registry=self.registry
        )

    def count(self, method: str, path: str, status: int, seconds: float) -> None:
        found = self._known.get((method, path, status))
        if found is None:
            found = self._requests.labels(method, path, str(status)), self._seconds.labels(path)
            self._known[method, path, status] = found
        found[0].inc()
        found[1].observe(seconds)

    async def gauge(self, store: SqliteStore) -> None:
        stats = await store.stats()
        for status in Status:
            self._messages.labels(status).set(stats.states.get(status, 0))
        self._waiting.clear()
        for backlog in stats.waiting:
            self._waiting.labels(backlog.queue).set(backlog.messages)


class Operations:
    """The endpoints for whoever runs the service."""

    def __init__(self, store: SqliteStore, workshop: EmbeddedWorker, metrics: Metrics) -> None:
        self._store = store
        self._workshop = workshop
        self._metrics = metrics

    async def healthz(self, request: Request) -> Response:
        """Answer at all: the process lives."""
        del request
        return JsonAnswer(200, {"status": "ok"})

    async def readyz(self, request: Request) -> Response:
        """Tell whether messages can be stored, and whether somebody sends them."""
        del request
        checks = {"outbox": await self._outbox(), "worker": self._workshop.state()}
        ready = checks["outbox"] == "ok" and checks["worker"] in {"ok", "elsewhere"}
        return JsonAnswer(200 if ready else 503, {"status": "ok" if ready else "unavailable", **checks})

    async def metrics(self, request: Request) -> Response:
        """Show the numbers in Prometheus' text format."""
        del request
        await self._metrics.gauge(self._store)
        return Response(generate_latest(self._metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def _outbox(self) -> str:
        """Write nothing, but as messages are written: the file is there, unlocked, and may be written to."""
        try:
            await self._store.write(lambda connection: connection.execute("SELECT 1").fetchone())
        except PostroomError as error:
            return str(error)
        return "ok"
