"""SendGrid in `postroom demo`: its v3 Mail Send API on loopback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from postroom.plugin.demonstration import Arrival
from postroom.receipts import Channel
from postroom.testing.demonstration import HttpDemonstration
from postroom.testing.http import Answer

if TYPE_CHECKING:
    from postroom.testing.http import RecordedRequest


class SendGridDemonstration(HttpDemonstration):
    """An API that takes every message."""

    title = "SendGrid"
    channel = Channel.EMAIL

    def account(self) -> dict[str, Any]:
        return {"api_key": "local", "base_url": self.url}

    def answer(self, request: RecordedRequest) -> Answer:
        del request
        return Answer(202, headers={"X-Message-Id": f"sendgrid-{self.next_number()}"})

    def arrival(self, request: RecordedRequest) -> Arrival:
        body = request.json()
        sender = f"{body['from']['name']} <{body['from']['email']}>"
        to = body["personalizations"][0]["to"][0]["email"]
        content = f"{body['subject']}: {body['content'][0]['value']}"
        return Arrival(sender, to, content, f"reply to {body['reply_to']['email']}")
