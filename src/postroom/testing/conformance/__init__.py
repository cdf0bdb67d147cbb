"""The conformance kit: test classes that hold a transport to the contract, over loopback."""

from postroom.testing.conformance.classes import EmailConformance, SmsConformance
from postroom.testing.conformance.http_wire import HttpWire
from postroom.testing.conformance.rule import Nonconformity
from postroom.testing.conformance.situations import Situation
from postroom.testing.conformance.smtp_wire import SmtpWire
from postroom.testing.conformance.webhooks import WebhookSample
from postroom.testing.conformance.wire import Wire

__all__ = [
    "EmailConformance",
    "HttpWire",
    "Nonconformity",
    "Situation",
    "SmsConformance",
    "SmtpWire",
    "WebhookSample",
    "Wire",
]
