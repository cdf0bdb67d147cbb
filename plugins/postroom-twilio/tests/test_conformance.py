"""The conformance kit, over Twilio's Messages resource."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime
from urllib.parse import parse_qsl, urlencode

from twilio.request_validator import RequestValidator

from postroom.events import EventType
from postroom.plugin import WebhookRequest
from postroom.testing.conformance import FakeHttpProvider, SmsConformance, WebhookSample
from postroom.testing.http import Answer, RecordedRequest
from postroom_twilio.settings import TwilioSettings
from postroom_twilio.transport import TwilioSms


class TwilioWire(FakeHttpProvider):
    def accepted(self, request: RecordedRequest, identifier: str) -> Answer:
        return Answer(201, {"sid": identifier, "status": "queued", "num_segments": "1"})

    def rejected(self, request: RecordedRequest) -> Answer:
        return Answer(400, {"code": 21617, "message": "The concatenated message body exceeds 1600", "status": 400})

    def unauthorised(self, request: RecordedRequest) -> Answer:
        return Answer(401, {"code": 20003, "message": "Authenticate", "status": 401})

    def rate_limited(self, request: RecordedRequest, seconds: int) -> Answer:
        body = {"code": 20429, "message": "Too Many Requests", "status": 429}
        return Answer(429, body, {"Retry-After": str(seconds)})

    def found(self, request: RecordedRequest, identifier: str) -> Answer:
        sent = dict(self.sent[-1].form())
        about = {"to": sent["To"], "from": sent.get("From"), "body": sent["Body"]}
        service = {"messaging_service_sid": sent.get("MessagingServiceSid"), "direction": "outbound-api"}
        created = {"sid": identifier, "status": "queued", "date_created": format_datetime(datetime.now(UTC))}
        return Answer(200, {"messages": [{**about, **service, **created}], "next_page_uri": None})

    def missing(self, request: RecordedRequest) -> Answer:
        return Answer(200, {"messages": [], "next_page_uri": None})


URL = "https://post.example.org/v1/webhooks/kit-account"
STATUS = {"MessageSid": "SM1", "MessageStatus": "delivered", "To": "+15005550010", "From": "+15005550006"}
STOP = {"MessageSid": "SM2", "SmsStatus": "received", "Body": "Stop", "From": "+15005550010", "OptOutType": "STOP"}


class TestTwilio(SmsConformance):
    provider = "twilio"
    transport = TwilioSms
    fake_provider = TwilioWire
    provider_options = {"application_sid": "AP0123456789"}

    def settings(self, wire: TwilioWire) -> dict[str, str]:
        sid = "AC" + "0123456789abcdef" * 2
        service = "MG" + "0123456789abcdef" * 2
        token = {"auth_token": "s3cr3t-t0k3n", "messaging_service_sid": service}
        return {"account_sid": sid, **token, "base_url": wire.url}

    webhooks = (
        WebhookSample(urlencode(STATUS).encode(), (EventType.DELIVERED,)),
        WebhookSample(urlencode(STOP).encode(), (EventType.INBOUND, EventType.UNSUBSCRIBED)),
    )
    unknown_webhook = urlencode(STATUS | {"MessageStatus": "levitated"}).encode()

    def signed(self, settings: TwilioSettings, body: bytes) -> WebhookRequest:
        fields = dict(parse_qsl(body.decode(errors="replace"), keep_blank_values=True))
        signature = RequestValidator(settings.auth_token.get_secret_value()).compute_signature(URL, fields)  # type: ignore[union-attr]
        headers = {"content-type": "application/x-www-form-urlencoded", "x-twilio-signature": signature}
        return WebhookRequest("POST", URL, headers, body)
