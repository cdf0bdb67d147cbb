"""Demonstrations over the loopback HTTP server: a vendor's answers, and how a request is read."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from postroom.plugin.demonstration import Arrival, Demonstration
from postroom.testing.http import Answer, HttpRecorder, RecordedRequest

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager


class HttpDemonstration(Demonstration):
    """Derive from this for an HTTP API; `url` is for the account's `base_url`."""

    def __init__(self) -> None:
        self._recorder = HttpRecorder()
        self._recorder.answer_with(self.answer)
        self._count = 0

    @property
    def url(self) -> str:
        return self._recorder.url

    @abstractmethod
    def answer(self, request: RecordedRequest) -> Answer:
        """The vendor's success response."""

    @abstractmethod
    def arrival(self, request: RecordedRequest) -> Arrival:
        """What a request asks the vendor to send."""

    def server(self) -> AbstractAsyncContextManager[object]:
        return self._recorder

    def arrivals(self) -> list[Arrival]:
        return [
            self.arrival(request)._replace(by=f"{request.method} {request.path}") for request in self._recorder.requests
        ]

    def next_number(self) -> int:
        """A number that no message had before, to make an id of."""
        self._count += 1
        return self._count
