"""Outcomes of a delivery attempt, and how far an error reaches."""

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
