"""What a message goes through before it is handed over: admitted, stamped, cut to size."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING

from postroom.addresses import Address
from postroom.errors import MessageError, UnsupportedFeature
from postroom.messages import Email, Message, Sms
from postroom.receipts import Channel

if TYPE_CHECKING:
    from postroom.delivery.dispatcher import AccountDispatcher
    from postroom.delivery.progress import DeliveryProgress


def check_sendable(message: Email | Sms) -> Message:
    """Refuse what a direct send cannot keep, and drop a `send_at` that has come. Raises MessageError."""
    if not isinstance(message, Message):
        raise MessageError(f"send takes an Email or an Sms, not {type(message).__name__}")
    if message.send_at is None and message.expires_at is None:
        return message
    now = datetime.now(UTC)
    if message.expires_at and message.expires_at <= now:
        raise MessageError(f"expired at {message.expires_at.isoformat()}; nothing was sent")
    return message.stamped(send_at=None) if message.send_at and message.send_at <= now else message


def prepared(message: Message, lane: AccountDispatcher, journey: DeliveryProgress) -> Message:
    """Stamp the message with its id, its sender, and the Message-ID that stays for every account."""
    sender = getattr(message, "from_", None) or lane.sender
    if not isinstance(message, Email):
        return message.stamped(id=journey.id, from_=sender)
    if not isinstance(sender, Address):
        raise MessageError(
            f"no sender: give the message a from_, or set from on account {lane.transport.account!r}; nothing was sent"
        )
    if message.from_name:
        sender = Address(sender.email, message.from_name)
    if journey.message_id is None:
        journey.message_id = message_id_for(journey.id, sender)
    return message.stamped(id=journey.id, from_=sender, message_id=journey.message_id)


def message_id_for(id_: str, sender: Address) -> str:
    """Return the Message-ID of the message `id_`; it is the same whenever it is made."""
    return f"<{id_}@{_ascii_domain(sender.domain)}>"


@lru_cache(maxsize=1024)
def _ascii_domain(domain: str) -> str:
    ascii_email = Address(email=f"x@{domain}").ascii_email
    assert ascii_email
    return ascii_email.removeprefix("x@")


def split_for_transport(message: Message, left: tuple[str, ...], lane: AccountDispatcher) -> list[Message]:
    """Narrow a message to the recipients left, and split an SMS as the transport needs it."""
    everyone = len(left) == len(message.recipients)
    capabilities = lane.transport.capabilities
    if message.channel_name is Channel.EMAIL:
        if not everyone and not capabilities.partial_envelope:
            raise UnsupportedFeature(
                f"{lane.transport.account}: {lane.settings.provider} cannot send to only some of an e-mail's "
                "recipients",
                feature="partial_envelope",
                provider=lane.settings.provider,
            )
        most = capabilities.max_recipients
        if most and len(left) > most:
            raise MessageError(
                f"{lane.transport.account}: {lane.settings.provider} takes at most {most} recipients a message, this "
                f"has {len(left)}; nothing was sent. Send several messages"
            )
        return [message if everyone else message.for_recipients(left)]
    most = capabilities.max_recipients or len(left)
    if everyone and len(left) <= most:
        return [message]
    groups = [left[i : i + most] for i in range(0, len(left), most)]
    return [message.stamped(to=group, recipients=group) for group in groups]
