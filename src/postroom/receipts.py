"""Receipts: what is known of a message after it was handed in, with its attempts and results per recipient."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, Protocol, Self

from pydantic import BaseModel, ConfigDict

from postroom.outcomes import Outcome, Scope, SuppressionReason


class Channel(StrEnum):
    """The two kinds of message."""

    EMAIL = "email"
    SMS = "sms"


class Status(StrEnum):
    """Where a message is on its way. A direct send ends in `sent`, `in_doubt` or `failed`."""

    QUEUED = "queued"
    SCHEDULED = "scheduled"
    SENDING = "sending"
    RETRYING = "retrying"
    HELD = "held"
    SENT = "sent"
    DELIVERED = "delivered"
    BOUNCED = "bounced"
    IN_DOUBT = "in_doubt"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    SUPPRESSED = "suppressed"


class Record(BaseModel):
    """A fact that does not change once it is written down."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    _blank: ClassVar[dict[str, Any]]
    """All fields, in their order, with their defaults."""

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        cls._blank = {name: field.default for name, field in cls.model_fields.items()}

    @classmethod
    def of(cls, **values: Any) -> Self:
        """Make one of values that are known to be valid; what a plugin gives is checked, by the constructor."""
        # Every message pays for three. One takes 0.9 µs so, 2 by the constructor and 3.4 by model_construct (best of 7
        # runs of 20,000, pydantic 2.14).
        made = cls.__new__(cls)
        object.__setattr__(made, "__dict__", {**cls._blank, **values})
        object.__setattr__(made, "__pydantic_fields_set__", set(values))
        object.__setattr__(made, "__pydantic_extra__", None)
        object.__setattr__(made, "__pydantic_private__", None)
        return made


class Failure(Protocol):
    """Any PostroomError, by its shape: `postroom.errors` imports this module, not the other way round."""

    @property
    def code(self) -> str: ...


class RecipientResult(Record):
    """What the provider said about one recipient.

    `code` is postroom's error code (`recipients_refused`, …), `provider_code` the provider's own, `status`
    an HTTP status or SMTP reply code, `segments` the number of SMS parts the provider reports or bills. `suppress` is
    why the recipient must not be written to again: with the outcome `permanent`, it puts the address on the
    suppression list.
    """

    address: str
    outcome: Outcome
    provider_message_id: str | None = None
    code: str | None = None
    provider_code: str | None = None
    status: int | None = None
    detail: str | None = None
    segments: int | None = None
    suppress: SuppressionReason | None = None

    @classmethod
    def accepted(cls, address: str, provider_message_id: str | None = None, *, segments: int | None = None) -> Self:
        """Return the result of a recipient whom the provider accepted."""
        return cls(
            address=address,
            outcome=Outcome.ACCEPTED,
            provider_message_id=provider_message_id,
            segments=segments,
        )

    @classmethod
    def failed(cls, address: str, error: Failure) -> Self:
        """Return the result of a recipient who was not served because of `error`.

        A DeliveryError gives its outcome, codes, detail and `suppress`. Any other error came before an attempt:
        permanent, with the error's text as `detail`.
        """
        known = vars(error)
        return cls(
            address=address,
            outcome=known.get("outcome", Outcome.PERMANENT),
            code=error.code,
            provider_code=known.get("provider_code"),
            status=known.get("status"),
            detail=known.get("detail", str(error)),
            suppress=known.get("suppress"),
        )


class Accepted(Record):
    """A transport's yes.

    `recipients` may stay empty when the provider took all of them; with it, at least one is accepted.
    """

    provider_message_id: str | None = None
    recipients: tuple[RecipientResult, ...] = ()
    request_id: str | None = None
    detail: str | None = None


class NotTaken(Record):
    """What `reconcile` answers when the provider surely never took the message."""

    detail: str | None = None


class Attempt(Record):
    """One try at one account. `duration` is in seconds; `error` is postroom's error code."""

    account: str
    provider: str
    outcome: Outcome
    started_at: datetime
    duration: float
    recipients: tuple[str, ...] = ()
    error: str | None = None
    scope: Scope | None = None
    provider_code: str | None = None
    status: int | None = None
    retry_after: float | None = None
    request_id: str | None = None
    detail: str | None = None


class Receipt(Record):
    """The fate of one message so far.

    `provider` and `account` name the one that took it, or the last one tried; `recipients` holds one result
    for each recipient, in the message's order; `message_id` is the e-mail's Message-ID header.
    """

    id: str
    channel: Channel
    status: Status
    provider: str | None = None
    account: str | None = None
    provider_message_id: str | None = None
    message_id: str | None = None
    recipients: tuple[RecipientResult, ...] = ()
    attempts: tuple[Attempt, ...] = ()

    @property
    def accepted(self) -> bool:
        """Whether at least one recipient was accepted."""
        return any(result.outcome is Outcome.ACCEPTED for result in self.recipients)
