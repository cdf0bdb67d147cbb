"""Vonage in `postroom demo`: its Messages API and its SMS API on loopback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from postroom.plugin.demonstration import Arrival
from postroom.receipts import Channel
from postroom.testing.demonstration import HttpDemonstration
from postroom.testing.http import Answer

if TYPE_CHECKING:
    from postroom.testing.http import RecordedRequest


class MessagesDemonstration(HttpDemonstration):
    """A Messages API that takes every message."""

    title = "Vonage Messages API"
    channel = Channel.SMS

    def account(self) -> dict[str, Any]:
        return {"api": "messages", "api_key": "abcd1234", "api_secret": "local", "base_url": self.url}

    def answer(self, request: RecordedRequest) -> Answer:
        del request
        return Answer(202, {"message_uuid": f"vonage-{self.next_number()}"})

    def arrival(self, request: RecordedRequest) -> Arrival:
        fields = request.json()
        return Arrival(fields["from"], fields["to"], fields["text"])


class SmsDemonstration(MessagesDemonstration):
    """An SMS API that takes every message."""

    title = "Vonage SMS API"

    def account(self) -> dict[str, Any]:
        return {**super().account(), "api": "sms"}

    def answer(self, request: RecordedRequest) -> Answer:
        part = {"to": dict(request.form())["to"], "message-id": f"vonage-{self.next_number()}", "status": "0"}
        return Answer(200, {"message-count": "1", "messages": [part]})

    def arrival(self, request: RecordedRequest) -> Arrival:
        fields = dict(request.form())
        return Arrival(fields["from"], fields["to"], fields["text"])
