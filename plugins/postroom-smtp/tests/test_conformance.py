"""The conformance kit, over SMTP."""

from __future__ import annotations

from typing import Any

from postroom.events import EventType
from postroom.plugin import WebhookRequest
from postroom.testing.conformance import EmailConformance, FakeSmtpProvider, WebhookSample
from postroom.testing.smtp_script import RecordedMessage
from postroom_smtp.settings import SmtpSettings
from postroom_smtp.transport import SmtpEmail


class DsnWire(FakeSmtpProvider):
    def holds(self, sent: RecordedMessage, field: str, value: object) -> bool:
        return super().holds(sent, field, str(value).upper() if field == "provider_options" else value)


def report(action: bytes) -> bytes:
    return b"\r\n".join(
        [
            b"From: MAILER-DAEMON@example.org",
            b"Date: Thu, 1 Jan 2026 14:00:00 +0000",
            b'Content-Type: multipart/report; report-type=delivery-status; boundary="b"',
            b"",
            b"--b",
            b"Content-Type: message/delivery-status",
            b"",
            b"Reporting-MTA: dns; mail.example.org",
            b"",
            b"Final-Recipient: rfc822; ann@example.org",
            b"Action: " + action,
            b"Status: 5.1.1",
            b"",
            b"--b--",
            b"",
        ]
    )


class TestSmtp(EmailConformance):
    provider = "smtp"
    transport = SmtpEmail
    fake_provider = DsnWire
    provider_options = {"dsn": {"notify": ["success"], "ret": "hdrs"}}

    def settings(self, wire: DsnWire) -> dict[str, Any]:
        server = {"host": wire.host, "port": wire.port, "tls": "none"}
        secrets = {"password": wire.password, "bounce_secret": "canary-bounce-secret"}
        return {**server, "username": wire.username, **secrets}

    webhooks = (
        WebhookSample(report(b"failed"), (EventType.BOUNCED,)),
        WebhookSample(report(b"delayed"), (EventType.DEFERRED,)),
    )
    unknown_webhook = report(b"levitated")

    def signed(self, settings: SmtpSettings, body: bytes) -> WebhookRequest:
        secret = settings.bounce_secret.get_secret_value()  # type: ignore[union-attr]
        headers = {"content-type": "message/rfc822", "authorization": f"Bearer {secret}"}
        return WebhookRequest("POST", "https://post.example.org/v1/webhooks/kit-account", headers, body)
