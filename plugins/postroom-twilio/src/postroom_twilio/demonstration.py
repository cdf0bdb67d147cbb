"""Twilio in `postroom demo`: its Messages API on loopback."""

from __future__ import annotations

from base64 import b64decode
from typing import TYPE_CHECKING, Any, ClassVar

from postroom.plugin.demonstration import Arrival, digits
from postroom.receipts import Channel
from postroom.testing.demonstration import HttpDemonstration
from postroom.testing.http import Answer

if TYPE_CHECKING:
    from postroom.messages import Email, Sms
    from postroom.testing.http import RecordedRequest

SID = "AC81caaa94b3b84bb7ba9c3cd96bcb152a"


class TwilioDemonstration(HttpDemonstration):
    """An API that takes every message, each with credentials of its own, as the sample messages have them."""

    title = "Twilio"
    channel = Channel.SMS
    options: ClassVar[dict[str, str]] = {"twilio_sid": SID, "twilio_auth_token": "AUTH_TOKEN"}

    def account(self) -> dict[str, Any]:
        return {"account_sid": "AC0", "auth_token": "x", "base_url": self.url}

    def answer(self, request: RecordedRequest) -> Answer:
        del request
        return Answer(201, {"sid": f"SM{self.next_number():032x}", "status": "queued", "num_segments": "1"})

    def arrival(self, request: RecordedRequest) -> Arrival:
        """The account is in the path, and again in the credentials."""
        form = dict(request.form())
        user = b64decode(request.headers["authorization"].removeprefix("Basic ")).decode().partition(":")[0]
        whose = f"as {user}" if user in request.path else f"as {user} for another account"
        return Arrival(digits(form["From"]), digits(form["To"]), form["Body"], whose)

    def expected(self, message: Email | Sms) -> Arrival:
        return super().expected(message)._replace(besides=f"as {SID}")
