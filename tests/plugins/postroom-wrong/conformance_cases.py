"""The conformance kit on the right plugin and on the wrong ones; tests/integration/test_conformance.py runs this."""

from __future__ import annotations

import hashlib
import hmac
import json

import postroom_wrong
from postroom_heavy import HeavySms
from postroom_right import RightSms

from postroom.events import EventType
from postroom.plugin import WebhookRequest
from postroom.testing.conformance import FakeHttpProvider, SmsConformance, WebhookSample
from postroom.testing.http import Answer


def reported(*events):
    return json.dumps(
        {"events": [{"what": what, "at": 1_700_000_000 + at, "id": f"m{at}"} for at, what in events]}
    ).encode()


class FakeRight(FakeHttpProvider):
    def accepted(self, request, identifier):
        return Answer(200, {"id": identifier})

    def found(self, request, identifier):
        return Answer(200, {"id": identifier})


class RightKit(SmsConformance):
    fake_provider = FakeRight
    provider_options = {"campaign": "spring"}
    webhooks = (
        WebhookSample(reported((1, "delivered"), (2, "failed")), (EventType.DELIVERED, EventType.BOUNCED)),
        WebhookSample(reported((3, "delivered")), (EventType.DELIVERED,)),
    )
    unknown_webhook = reported((4, "levitated"))

    def settings(self, fake):
        return {"api_key": "canary-key-0123456789", "webhook_secret": "canary-hook-0123456789", "base_url": fake.url}

    def signed(self, settings, body):
        signature = hmac.new(settings.webhook_secret.get_secret_value().encode(), body, hashlib.sha256).hexdigest()
        headers = {"content-type": "application/json", "x-signature": signature}
        return WebhookRequest("POST", "https://app.example/hooks", headers, body)


class TestRight(RightKit):
    provider = "right"
    transport = RightSms


class TestHeavy(RightKit):
    provider = "wrong-heavy"
    transport = HeavySms


for name, plugin in postroom_wrong.PLUGINS.items():
    members = {"provider": f"wrong-{name}", "transport": plugin.transport, "__module__": __name__}
    globals()[f"Test{name.title()}"] = type(f"Test{name.title()}", (RightKit,), members)
