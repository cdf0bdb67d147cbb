"""What a provider reports later, or an observer is told: delivered, bounced, opened, replied STOP."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, JsonValue

from postroom.receipts import Channel


class EventType(StrEnum):
    """The words every provider's reports are put into."""

    SENT = "sent"
    FAILED = "failed"
    IN_DOUBT = "in_doubt"
    DEFERRED = "deferred"
    DELIVERED = "delivered"
    BOUNCED = "bounced"
    REJECTED = "rejected"
    COMPLAINED = "complained"
    UNSUBSCRIBED = "unsubscribed"
    SUBSCRIBED = "subscribed"
    OPENED = "opened"
    CLICKED = "clicked"
    READ = "read"
    INBOUND = "inbound"
    OTHER = "other"


class Event(BaseModel):
    """One thing that happened to a message, in postroom's words; `raw` keeps the provider's own."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    type: EventType
    channel: Channel
    provider: str
    occurred_at: datetime
    account: str | None = None
    message_id: str | None = None
    provider_message_id: str | None = None
    recipient: str | None = None
    code: str | None = None
    detail: str | None = None
    raw: dict[str, JsonValue] = {}
