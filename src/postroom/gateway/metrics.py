"""Metrics for Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from postroom.receipts import Status

if TYPE_CHECKING:
    from postroom.outbox.views import OutboxStats


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

    def gauge(self, stats: OutboxStats) -> None:
        for status in Status:
            self._messages.labels(status).set(stats.states.get(status, 0))
        self._waiting.clear()
        for backlog in stats.waiting:
            self._waiting.labels(backlog.queue).set(backlog.messages)
