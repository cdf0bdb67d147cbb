"""Who must not be written to: dead addresses, complaints, unsubscribes, STOP."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from postroom.addresses import Address
from postroom.errors import Suppressed
from postroom.events import EventType
from postroom.messages import Sms
from postroom.outbox.records import Addressee, Suppression
from postroom.receipts import Channel

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from postroom.events import Event
    from postroom.messages import Message
    from postroom.outbox.records import Reason, SuppressionCategory
    from postroom.outbox.storage import SuppressionStorage


STOP_WORDS = frozenset({"stop", "stopall", "stop all", "unsubscribe", "cancel", "end", "quit", "revoke", "optout"})
START_WORDS = frozenset({"start", "unstop", "yes"})
"""What a text message must consist of to count (CTIA Messaging Principles; Twilio's default keywords)."""


def learned(event: Event) -> Suppression | None:
    """Return what a provider's report means for its recipient; None when it changes nothing."""
    found = _meaning(event)
    address = event.sender if event.type is EventType.INBOUND else event.recipient
    if found is None or not address:
        return None
    reason, category, lifted = found
    return Suppression(
        channel=event.channel,
        address=normalized(event.channel, address),
        category=category,
        reason=reason,
        detail=event.text or event.code or event.detail,
        since=event.occurred_at,
        lifted=lifted,
    )


def by_hand(
    channel: Channel, address: str, category: SuppressionCategory, detail: str | None, *, lifted: bool
) -> Suppression:
    """Return what a person says now. Raises MessageError for an address nothing can be sent to."""
    checked = Address(address).email if channel is Channel.EMAIL else Sms(to=address, body="x").to[0]
    return Suppression(
        channel=channel,
        address=normalized(channel, checked),
        category=category,
        reason="manual",
        detail=detail,
        since=datetime.now(UTC),
        lifted=lifted,
    )


class SuppressionList:
    """The list, in the outbox's storage. What is said later counts, whatever order it arrives in."""

    def __init__(self, storage: SuppressionStorage) -> None:
        self._storage = storage

    async def match(self, messages: Sequence[Message]) -> list[dict[str, Suppressed]]:
        """Return for each message why it may not go to some of its recipients."""
        places: list[tuple[int, str]] = []

        def addressees() -> Iterator[Addressee]:
            for number, message in enumerate(messages):
                channel, category = message.channel_name, message.category
                for address in message.recipients:
                    places.append((number, address))
                    yield Addressee(channel, normalized(channel, address), category)

        found: list[dict[str, Suppressed]] = [{} for _ in messages]
        for place, suppression in (await self._storage.match_suppressions(addressees())).items():
            number, address = places[place]
            found[number][address] = Suppressed(f"{suppression}; nothing was sent to it")
        return found

    async def add(self, entry: Suppression) -> bool:
        """Put an address on the list, or lift it; False when something later was said already."""
        return await self._storage.add_suppression(entry)

    async def list(self, *, channel: Channel | None = None, after: str = "", limit: int = 100) -> list[Suppression]:
        """Return entries by address, from the one behind `after`, which is the `place` of another."""
        return await self._storage.list_suppressions(channel, after, limit)


def normalized(channel: Channel, address: str) -> str:
    """Return an address as the list has it: who writes to it in capitals reaches the same mailbox."""
    return address.strip().lower() if channel is Channel.EMAIL else address.strip()


def _meaning(event: Event) -> tuple[Reason, SuppressionCategory, bool] | None:
    if event.type is EventType.INBOUND and event.channel is Channel.SMS:
        said = " ".join((event.text or "").lower().split()).strip(".! ")
        if said in STOP_WORDS:
            return "stopped", "", False
        return ("stopped", "", True) if said in START_WORDS else None
    if event.channel is Channel.SMS:
        meanings = {EventType.UNSUBSCRIBED: False, EventType.SUBSCRIBED: True}
        return ("stopped", "", meanings[event.type]) if event.type in meanings else None
    if event.type is EventType.BOUNCED and event.permanent:
        return "bounced", "", False
    if event.type is EventType.COMPLAINED:
        return "complained", "", False
    if event.type in {EventType.UNSUBSCRIBED, EventType.SUBSCRIBED}:
        return "unsubscribed", "marketing", event.type is EventType.SUBSCRIBED
    return None
