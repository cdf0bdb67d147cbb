"""postroom's conformance kit, over what Plivo answers (plivo.com/docs/messaging/api/message/send-a-message)."""

from __future__ import annotations

from typing import Any

from postroom.events import EventType
from postroom.plugin import WebhookRequest
from postroom.testing.conformance import FakeHttpProvider, SmsConformance, WebhookSample
from postroom.testing.http import Answer, RecordedRequest

from postroom_plivo.settings import PlivoSettings
from postroom_plivo.transport import PlivoSms
from postroom_plivo.webhook import signature

API_ID = "db342550-7f1d-11e1-8ea7-1231380bc196"
REPORT = b"MessageUUID=m1&To=442079460958&From=442079460999&Type=sms&Units=1&"


class FakePlivo(FakeHttpProvider):
    retry_after = None  # its documentation says nothing of a Retry-After

    def accepted(self, request: RecordedRequest, identifier: str) -> Answer:
        return Answer(202, {"message": "message(s) queued", "message_uuid": [identifier], "api_id": API_ID})

    def rejected(self, request: RecordedRequest) -> Answer:
        return Answer(400, {"api_id": API_ID, "error": "dst parameter is not valid"})

    def unauthorised(self, request: RecordedRequest) -> Answer:
        return Answer(401, {"api_id": API_ID, "error": "authentication failed"})

    def rate_limited(self, request: RecordedRequest, seconds: int) -> Answer:
        return Answer(429, {"api_id": API_ID, "error": "too many requests"})

    def other(self, request: RecordedRequest) -> Answer:
        return Answer(200, {"api_id": API_ID, "cash_credits": "25.00"})


class TestPlivo(SmsConformance):
    provider = "plivo"
    transport = PlivoSms
    fake_provider = FakePlivo
    provider_options = {"powerpack_uuid": "5ec4c8c9-cd74-42b5-9e41-0d7670d6bb46"}  # noqa: RUF012 - read as it is

    webhooks = (
        WebhookSample(
            REPORT + b"Status=delivered&DeliveryReportTime=2023-11-14+22:13:20.000000", (EventType.DELIVERED,)
        ),
        WebhookSample(REPORT + b"Status=undelivered&ErrorCode=300&SentTime=2023-11-14+22:13:20", (EventType.BOUNCED,)),
        WebhookSample(b"MessageUUID=m2&To=442079460999&From=442079460958&Type=sms&Text=STOP", (EventType.INBOUND,)),
    )
    unknown_webhook = REPORT + b"Status=levitated"

    def settings(self, fake: FakePlivo) -> dict[str, Any]:
        return {"auth_id": "MA" + "X0" * 9, "auth_token": "made-up-token", "base_url": fake.url}

    def signed(self, settings: PlivoSettings, body: bytes) -> WebhookRequest:
        url, nonce = "https://app.example.org/v1/webhooks/texts", "05429567804466091622"
        made = signature(url, nonce, settings.auth_token.get_secret_value())
        headers = {"x-plivo-signature-v2": made, "x-plivo-signature-v2-nonce": nonce}
        return WebhookRequest("POST", url, headers | {"content-type": "application/x-www-form-urlencoded"}, body)
