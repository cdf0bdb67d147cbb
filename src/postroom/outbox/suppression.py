"""Who must not be written to: dead addresses, complaints, unsubscribes, STOP."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, Self

from postroom.addresses import Address
from postroom.errors import Suppressed
from postroom.events import EventType
from postroom.messages import Sms
from postroom.outbox.sqlite import suppressions
from postroom.outbox.sqlite.database import connect
from postroom.receipts import Channel, Record

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from postroom.events import Event
    from postroom.messages import Message
    from postroom.outbox.sqlite.store import SqliteStore

Reason = Literal["bounced", "complained", "unsubscribed", "stopped", "manual"]

Scope = Literal["", "marketing", "transactional"]

EVERYTHING: Scope = ""
"""The category of a suppression that holds for every message."""

STOP_WORDS = frozenset({"stop", "stopall", "stop all", "unsubscribe", "cancel", "end", "quit", "revoke", "optout"})
START_WORDS = frozenset({"start", "unstop", "yes"})
"""What a text message must consist of to count (CTIA Messaging Principles; Twilio's default keywords)."""


class Suppression(Record):
    """One address that must not be written to; `category` is `marketing`, or empty for every message.

    `since` is when that was said; `lifted` that it no longer holds since then.
    """

    channel: Channel
    address: str
    category: Scope = EVERYTHING
    reason: Reason
    detail: str | None = None
    since: datetime
    lifted: bool = False

    @classmethod
    def learned(cls, event: Event) -> Self | None:
        """Return what a provider's report means for its recipient; None when it changes nothing."""
        found = _meaning(event)
        address = event.sender if event.type is EventType.INBOUND else event.recipient
        if found is None or not address:
            return None
        reason, category, lifted = found
        return cls(
            channel=event.channel,
            address=plain(event.channel, address),
            category=category,
            reason=reason,
            detail=event.text or event.code or event.detail,
            since=event.occurred_at,
            lifted=lifted,
        )

    @classmethod
    def by_hand(cls, channel: Channel, address: str, category: Scope, detail: str | None, *, lifted: bool) -> Self:
        """Return what a person says now. Raises MessageError for an address nothing can be sent to."""
        checked = Address(address).email if channel is Channel.EMAIL else Sms(to=address, body="x").to[0]
        return cls(
            channel=channel,
            address=plain(channel, checked),
            category=category,
            reason="manual",
            detail=detail,
            since=datetime.now(UTC),
            lifted=lifted,
        )

    @property
    def place(self) -> str:
        """Where it stands in a list."""
        return f"{self.address} {self.channel} {self.category}"

    def __str__(self) -> str:
        scope = f" for {self.category} messages" if self.category else ""
        return f"{self.address} is on the suppression list{scope} ({self.reason} on {self.since:%Y-%m-%d})"


class SuppressionList:
    """The list, in the outbox's file. What is said later counts, whatever order it arrives in."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self._connection: sqlite3.Connection | None = None

    def among(self, messages: Sequence[Message]) -> list[dict[str, Suppressed]]:
        """Return for each message why it may not go to some of its recipients; read at once."""
        refusals: list[dict[str, Suppressed]] = [{} for _ in messages]
        if not messages or suppressions.is_empty(self._reader()):
            return refusals
        wanted: list[suppressions.Wanted] = []
        addresses: list[tuple[int, str]] = []
        for number, message in enumerate(messages):
            channel = message.channel_name
            for address in message.recipients:
                wanted.append((len(addresses), channel, plain(channel, address), message.category))
                addresses.append((number, address))
        for place, row in suppressions.among(self._reader(), wanted):
            number, address = addresses[place]
            refusals[number][address] = Suppressed(f"{_read(row)}; nothing was sent to it")
        return refusals

    async def add(self, entry: Suppression) -> bool:
        """Put an address on the list, or lift it; False when something later was said already."""
        return await self._store.write(lambda connection: suppressions.put(connection, _row(entry)))

    async def list(self, *, channel: Channel | None = None, after: str = "", limit: int = 100) -> list[Suppression]:
        """Return entries by address, from the one behind `after`, which is the `place` of another."""
        rows = await self._store.read(lambda connection: suppressions.listed(connection, channel, after, limit))
        return [_read(row) for row in rows]

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _reader(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = connect(self._store.path)
        return self._connection


def suppression_of(event: Event) -> suppressions.Row | None:
    """Return the row that a report puts on the list; None when it changes nothing."""
    entry = Suppression.learned(event)
    return _row(entry) if entry else None


def plain(channel: Channel, address: str) -> str:
    """Return an address as the list has it: who writes to it in capitals reaches the same mailbox."""
    return address.strip().lower() if channel is Channel.EMAIL else address.strip()


def _meaning(event: Event) -> tuple[Reason, Literal["", "marketing"], bool] | None:
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


def _row(entry: Suppression) -> suppressions.Row:
    since = entry.since.timestamp()
    return (entry.channel, entry.address, entry.category, entry.reason, entry.detail, since, int(entry.lifted))


def _read(row: suppressions.Row) -> Suppression:
    return Suppression.model_validate(dict(zip(suppressions.COLUMNS, row, strict=True)))
