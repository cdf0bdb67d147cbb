"""Addresses: sender and recipient as Vonage writes them, international numbers without `+`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from postroom.messages import Sms


def recipient(sms: Sms) -> str:
    """Return the one recipient's number."""
    return sms.to[0].removeprefix("+")


def sender(sms: Sms) -> str:
    """Return the number, or alphanumeric name, without what only other providers write: Twilio's `whatsapp:`."""
    return (sms.from_ or "").removeprefix("whatsapp:").removeprefix("+")
