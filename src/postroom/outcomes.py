"""Outcomes of a delivery attempt, how far an error reaches, and why an address must not be written to."""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """The result of one attempt to hand a message to a provider."""

    ACCEPTED = "accepted"
    TRANSIENT = "transient"
    PERMANENT = "permanent"
    UNKNOWN = "unknown"


class Scope(StrEnum):
    """How far an error reaches: one recipient, one message, or everything sent through the account."""

    RECIPIENT = "recipient"
    MESSAGE = "message"
    ACCOUNT = "account"


class SuppressionReason(StrEnum):
    """Why an address must not be written to.

    A plugin marks a recipient with it whom the provider refused: `bounced` when the mailbox or number does not exist,
    `stopped` when the person wants no SMS, `complained` or `unsubscribed` when they said so of e-mail. `manual` is a
    person's word, never a provider's.
    """

    BOUNCED = "bounced"
    COMPLAINED = "complained"
    UNSUBSCRIBED = "unsubscribed"
    STOPPED = "stopped"
    MANUAL = "manual"
