"""Who must not be written to: dead addresses, complaints, unsubscribes, STOP."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from postroom.addresses import Address
from postroom.errors import Suppressed
from postroom.events import EventType
from postroom.messages import Sms
from postroom.outbox.records import Addressee, Suppression
from postroom.outbox.stop_words import Wish, wish_of
from postroom.outcomes import SuppressionReason
from postroom.receipts import Channel

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from postroom.config.outbox import Language
    from postroom.delivery.progress import DeliveryProgress
    from postroom.events import Event
    from postroom.messages import Message
    from postroom.outbox.records import SuppressionCategory
    from postroom.outbox.storage import SuppressionStorage


def learned(event: Event, languages: Sequence[Language] = ()) -> Suppression | None:
    """Return what a provider's report means for its recipient; None when it changes nothing.

    `languages` are those whose stop words count besides English. What is dated in the future was said by now: what a
    person says later would never count otherwise.
    """
    found = _meaning(event, languages)
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
        since=min(event.occurred_at, datetime.now(UTC)),
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
        reason=SuppressionReason.MANUAL,
        detail=detail,
        since=datetime.now(UTC),
        lifted=lifted,
    )


def suppressions_of(progress: DeliveryProgress) -> tuple[Suppression, ...]:
    """Return what the attempts of a message showed of its recipients: whom providers refused, and why.

    Each is dated with the beginning of its attempt, so that what the person has said since counts for more.
    """
    if not progress.to_suppress:
        return ()
    channel = progress.message.channel_name
    return tuple(
        Suppression(
            channel=channel,
            address=normalized(channel, result.address),
            category=_category(channel, result.suppress),
            reason=_reason(channel, result.suppress),
            detail=result.detail or result.provider_code,
            since=started_at,
        )
        for started_at, result in progress.to_suppress
        if result.suppress
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


def _meaning(event: Event, languages: Sequence[Language]) -> tuple[SuppressionReason, SuppressionCategory, bool] | None:
    lifted = event.type is EventType.SUBSCRIBED
    if event.type is EventType.INBOUND and event.channel is Channel.SMS:
        wish = wish_of(event.text or "", languages)
        if wish is None:
            return None
        reason, lifted = SuppressionReason.STOPPED, wish is Wish.START
    elif event.type in {EventType.BOUNCED, EventType.REJECTED} and event.permanent:
        reason = SuppressionReason.BOUNCED
    elif event.type is EventType.COMPLAINED:
        reason = SuppressionReason.COMPLAINED
    elif event.type in {EventType.UNSUBSCRIBED, EventType.SUBSCRIBED}:
        reason = _reason(event.channel, SuppressionReason.UNSUBSCRIBED)
    else:
        return None
    return reason, _category(event.channel, reason), lifted


def _reason(channel: Channel, reason: SuppressionReason) -> SuppressionReason:
    """The reason by one name: who unsubscribes from SMS has stopped them."""
    unsubscribed = reason is SuppressionReason.UNSUBSCRIBED and channel is Channel.SMS
    return SuppressionReason.STOPPED if unsubscribed else reason


def _category(channel: Channel, reason: SuppressionReason) -> SuppressionCategory:
    """Unsubscribing is about marketing mail; everything else is about every message of the channel."""
    return "marketing" if _reason(channel, reason) is SuppressionReason.UNSUBSCRIBED else ""
