"""Events: what a provider reports later of a message, and what observers hear: delivered, bounced, opened."""

from __future__ import annotations

import hashlib
import json
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
    """One thing that happened to a message, in postroom's words; `raw` keeps the provider's own.

    `message_id` is postroom's id of the message, where the provider gives it back;
    `provider_message_id` the provider's. `recipient` is who the message was for. `code` and `detail` are the
    provider's words; of a click, `detail` is the link. `permanent` says of a bounce whether the address is dead;
    None where the provider does not say. An inbound message has a `sender`, and its `text`. `dated` is False when
    the provider gave no time, and `occurred_at` is when its report came. `verified` is False for a report that nobody
    has signed, such as a bounce by mail: it counts only for a recipient of a message that is known.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    type: EventType
    channel: Channel
    provider: str
    occurred_at: datetime
    dated: bool = True
    verified: bool = True
    account: str | None = None
    message_id: str | None = None
    provider_message_id: str | None = None
    recipient: str | None = None
    sender: str | None = None
    code: str | None = None
    detail: str | None = None
    permanent: bool | None = None
    text: str | None = None
    raw: dict[str, JsonValue] = {}

    @property
    def fingerprint(self) -> str:
        """What two reports of the same thing have in common, as 64 hex digits.

        Providers repeat a report until it is answered, some under a new id of the report (SendGrid,
        sendgrid-nodejs issue 1435), so `raw` does not count.
        """
        content = self.model_dump(
            mode="json", exclude={"raw", "dated", "verified"} | (set() if self.dated else {"occurred_at"})
        )
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
