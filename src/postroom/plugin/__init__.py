"""Plugin interface: hooks, transport bases, settings. The base for HTTP is `postroom.plugin.http`."""

from postroom.plugin.cancellation import mark_cancelled
from postroom.plugin.confirmation import Withdrawn, confirmation
from postroom.plugin.files import read_secret_file
from postroom.plugin.hookspecs import hookimpl
from postroom.plugin.redaction import redacted
from postroom.plugin.resources import Resources
from postroom.plugin.settings import AccountSettings, BaseUrl, HttpAccountSettings, OnUnknown, brought_by_message
from postroom.plugin.token import Token
from postroom.plugin.transport import (
    EMAIL_FEATURES,
    INTERFACE_VERSION,
    SMS_FEATURES,
    Capabilities,
    CheckReport,
    EmailTransport,
    SmsTransport,
    Transport,
    UnknownAttempt,
    WebhookRequest,
)
from postroom.validation import did_you_mean

__all__ = [
    "EMAIL_FEATURES",
    "INTERFACE_VERSION",
    "SMS_FEATURES",
    "AccountSettings",
    "BaseUrl",
    "Capabilities",
    "CheckReport",
    "EmailTransport",
    "HttpAccountSettings",
    "OnUnknown",
    "Resources",
    "SmsTransport",
    "Token",
    "Transport",
    "UnknownAttempt",
    "WebhookRequest",
    "Withdrawn",
    "brought_by_message",
    "confirmation",
    "did_you_mean",
    "hookimpl",
    "mark_cancelled",
    "read_secret_file",
    "redacted",
]
