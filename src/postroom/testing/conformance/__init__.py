"""The conformance kit: test classes that hold a transport to the contract, over loopback."""

from postroom.testing.conformance.fake_provider import FakeProvider
from postroom.testing.conformance.http_provider import FakeHttpProvider
from postroom.testing.conformance.rule import ConformanceError
from postroom.testing.conformance.scenarios import Scenario
from postroom.testing.conformance.smtp_provider import FakeSmtpProvider
from postroom.testing.conformance.suites import EmailConformance, SmsConformance
from postroom.testing.conformance.webhooks import WebhookSample

__all__ = [
    "ConformanceError",
    "EmailConformance",
    "FakeHttpProvider",
    "FakeProvider",
    "FakeSmtpProvider",
    "Scenario",
    "SmsConformance",
    "WebhookSample",
]
