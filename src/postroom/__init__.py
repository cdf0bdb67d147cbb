"""One front desk for every e-mail and SMS a program sends.

Names load when they are first used, so that `import postroom` costs a program that sends nothing next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from postroom.addresses import Address
    from postroom.client import Postroom
    from postroom.config import Config
    from postroom.errors import (
        AuthenticationFailed,
        ConfigError,
        ContractViolation,
        DeliveryError,
        ExtensionNotFound,
        IdempotencyConflict,
        InvalidAddress,
        InvalidOption,
        MessageError,
        MessageNotFound,
        MessageRejected,
        MissingCredential,
        OutboxError,
        OutcomeUnknown,
        PayloadInvalid,
        PluginConflict,
        PluginError,
        PluginLoadError,
        PostroomClosed,
        PostroomError,
        ProviderNotFound,
        ProviderUnavailable,
        ProviderUnreachable,
        QuotaExhausted,
        RateLimited,
        RecipientsRefused,
        SignatureInvalid,
        StateConflict,
        Suppressed,
        UnexpectedResponse,
        UnsupportedFeature,
        WebhookError,
        WrongEventLoop,
    )
    from postroom.events import Event, EventType
    from postroom.messages import Attachment, Email, Message, Sms
    from postroom.outcomes import Outcome, Scope
    from postroom.receipts import Accepted, Attempt, Channel, NotTaken, Receipt, RecipientResult, Status
    from postroom.segments import Segments, count_segments
    from postroom.sync_client import SyncPostroom

__all__ = [
    "Accepted",
    "Address",
    "Attachment",
    "Attempt",
    "AuthenticationFailed",
    "Channel",
    "Config",
    "ConfigError",
    "ContractViolation",
    "DeliveryError",
    "Email",
    "Event",
    "EventType",
    "ExtensionNotFound",
    "IdempotencyConflict",
    "InvalidAddress",
    "InvalidOption",
    "Message",
    "MessageError",
    "MessageNotFound",
    "MessageRejected",
    "MissingCredential",
    "NotTaken",
    "OutboxError",
    "Outcome",
    "OutcomeUnknown",
    "PayloadInvalid",
    "PluginConflict",
    "PluginError",
    "PluginLoadError",
    "Postroom",
    "PostroomClosed",
    "PostroomError",
    "ProviderNotFound",
    "ProviderUnavailable",
    "ProviderUnreachable",
    "QuotaExhausted",
    "RateLimited",
    "Receipt",
    "RecipientResult",
    "RecipientsRefused",
    "Scope",
    "Segments",
    "SignatureInvalid",
    "Sms",
    "StateConflict",
    "Status",
    "Suppressed",
    "SyncPostroom",
    "UnexpectedResponse",
    "UnsupportedFeature",
    "WebhookError",
    "WrongEventLoop",
    "count_segments",
]

_HOMES = {
    "postroom.addresses": ("Address",),
    "postroom.config": ("Config",),
    "postroom.errors": (
        "AuthenticationFailed",
        "ConfigError",
        "ContractViolation",
        "DeliveryError",
        "ExtensionNotFound",
        "IdempotencyConflict",
        "InvalidAddress",
        "InvalidOption",
        "MessageError",
        "MessageNotFound",
        "MessageRejected",
        "MissingCredential",
        "OutboxError",
        "OutcomeUnknown",
        "PayloadInvalid",
        "PluginConflict",
        "PluginError",
        "PluginLoadError",
        "PostroomClosed",
        "PostroomError",
        "ProviderNotFound",
        "ProviderUnavailable",
        "ProviderUnreachable",
        "QuotaExhausted",
        "RateLimited",
        "RecipientsRefused",
        "SignatureInvalid",
        "StateConflict",
        "Suppressed",
        "UnexpectedResponse",
        "UnsupportedFeature",
        "WebhookError",
        "WrongEventLoop",
    ),
    "postroom.events": ("Event", "EventType"),
    "postroom.messages": ("Attachment", "Email", "Message", "Sms"),
    "postroom.outcomes": ("Outcome", "Scope"),
    "postroom.receipts": ("Accepted", "Attempt", "Channel", "NotTaken", "Receipt", "RecipientResult", "Status"),
    "postroom.client": ("Postroom",),
    "postroom.segments": ("Segments", "count_segments"),
    "postroom.sync_client": ("SyncPostroom",),
}


def __getattr__(name: str) -> object:
    for module, names in _HOMES.items():
        if name in names:
            value = getattr(import_module(module), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module 'postroom' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
