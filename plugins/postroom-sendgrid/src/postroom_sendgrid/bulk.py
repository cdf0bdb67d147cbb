"""Bulk calls: many messages in few; alike ones share a call, each with personalizations of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from pydantic_core import to_json

from postroom_sendgrid.payload import in_sandbox, personalizations, shared_part

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

    from postroom.messages import Email
    from postroom_sendgrid.payload import Json

MOST_RECIPIENTS = 1000
"""Recipients, and personalizations, of one call: twilio.com/docs/sendgrid/api-reference/mail-send/limitations."""

LARGEST_CALL = 30_000_000
"""Bytes of one call, from the same page."""

_PUNCTUATION = 64
"""Bytes at most around the parts of a call: names of fields, brackets, commas."""


class Member(NamedTuple):
    """A message of a call: its place in the batch, and its personalizations as JSON without the brackets."""

    place: int
    email: Email
    envelopes: bytes
    envelope_count: int
    recipients: int


@dataclass(slots=True)
class Call:
    """One request: what its messages share, as a JSON object without its closing brace, and the messages.

    `size` bounds the bytes of `body`.
    """

    shared: bytes
    sandbox: bool
    members: list[Member] = field(default_factory=list)
    recipients: int = 0
    size: int = 0

    def add(self, member: Member) -> None:
        if not self.members:
            self.size = len(self.shared) + len(to_json(member.email.subject)) + _PUNCTUATION
        self.members.append(member)
        self.recipients += member.recipients
        self.size += len(member.envelopes) + 1

    def has_room_for(self, member: Member) -> bool:
        return (
            self.recipients + member.recipients <= MOST_RECIPIENTS
            and self.size + len(member.envelopes) + 1 < LARGEST_CALL
        )

    def body(self) -> bytes:
        """The request as JSON. The API wants a subject for all, which each personalization's own replaces."""
        subject = self.members[0].email.subject
        named = b',"subject":' + to_json(subject) if subject else b""
        every = b",".join([member.envelopes for member in self.members])
        return b"".join((self.shared, named, b',"personalizations":[', every, b"]}"))

    def part(self, positions: Iterable[int]) -> Call:
        """Return the call of the members at `positions` alone."""
        part = Call(self.shared, self.sandbox)
        for position in positions:
            part.add(self.members[position])
        return part

    def halves(self) -> list[Call]:
        """Return two calls of half the members each; of this one when there is nothing to halve."""
        middle, end = len(self.members) // 2, len(self.members)
        return [self.part(range(middle)), self.part(range(middle, end))] if middle else [self]


class _Places:
    """Separates messages that may share a call from those that may not.

    They must be alike, and no call may name an address twice, which SendGrid refuses (its "Mail Send" errors): the
    second message to somebody goes to a second layer, the third to a third, and each layer has calls of its own.
    """

    def __init__(self) -> None:
        self._kinds: dict[Hashable, int] = {}
        self._layers: dict[tuple[int, str], int] = {}

    def find(self, email: Email, addresses: list[str]) -> tuple[int, int]:
        """Return the number of the message's kind, and its layer."""
        kind = self._kinds.setdefault(_kind(email), len(self._kinds))
        layer = max((self._layers.get((kind, address), 0) for address in addresses), default=0)
        self._layers.update(((kind, address), layer + 1) for address in addresses)
        return kind, layer


def calls_for(batch: Sequence[Email], *, sandbox: bool) -> list[Call]:
    """Gather alike messages into calls, in the order they came, none beyond the API's limits."""
    if len(batch) == 1:
        member, _ = _member(0, batch[0])
        return [_call(_shared(batch[0], sandbox), sandbox, member)]
    places, calls = _Places(), list[Call]()
    latest: dict[tuple[int, int], Call] = {}
    shared: dict[int, bytes] = {}
    for index, email in enumerate(batch):
        member, addresses = _member(index, email)
        place = places.find(email, addresses)
        call = latest.get(place)
        if call and call.has_room_for(member):
            call.add(member)
            continue
        if place[0] not in shared:
            shared[place[0]] = _shared(email, sandbox)
        calls.append(_call(shared[place[0]], sandbox, member))
        latest[place] = calls[-1]
    return calls


def _member(index: int, email: Email) -> tuple[Member, list[str]]:
    envelopes = personalizations(email)
    addresses = _addresses(envelopes)
    return Member(index, email, to_json(envelopes)[1:-1], len(envelopes), len(addresses)), addresses


def _shared(email: Email, sandbox: bool) -> bytes:
    return to_json(shared_part(email, sandbox=sandbox))[:-1]


def _call(shared: bytes, sandbox: bool, first: Member) -> Call:
    call = Call(shared, sandbox or in_sandbox(first.email))
    call.add(first)
    return call


def _kind(email: Email) -> Hashable:
    """What messages must have in common to share a call; only some have a subject, so that none takes another's."""
    return (
        email.from_,
        email.reply_to,
        email.text,
        email.html,
        email.amp,
        email.calendar,
        email.template,
        email.attachments,
        email.tags,
        to_json(email.provider_options) if email.provider_options else b"",
        bool(email.subject),
    )


def _addresses(envelopes: list[Json]) -> list[str]:
    return [
        mailbox["email"].lower()
        for envelope in envelopes
        for kind in ("to", "cc", "bcc")
        for mailbox in envelope.get(kind, ())
    ]
