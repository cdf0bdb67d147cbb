"""Many messages in few calls: alike ones share a call, each with personalizations of its own."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydantic_core import to_json

from postroom_sendgrid.payload import in_sandbox, personalizations, shared_part

if TYPE_CHECKING:
    from collections.abc import Container, Hashable, Sequence

    from postroom.messages import Email
    from postroom_sendgrid.payload import Json

MOST_RECIPIENTS = 1000
"""Recipients, and personalizations, of one call: twilio.com/docs/sendgrid/api-reference/mail-send/limitations."""

LARGEST_CALL = 30_000_000
"""Bytes of one call, from the same page."""

_ROOM_FOR_SUBJECT = 10_000


@dataclass(frozen=True, slots=True)
class Member:
    """A message of a call: its place in the batch, and its personalizations as JSON without the brackets."""

    index: int
    email: Email
    personalizations: bytes
    count: int
    recipients: int


@dataclass(slots=True)
class Call:
    """One request: what its messages share, as a JSON object without its closing brace, and the messages."""

    shared: bytes
    sandbox: bool
    members: list[Member] = field(default_factory=list)
    recipients: int = 0
    size: int = 0

    def add(self, member: Member) -> None:
        self.members.append(member)
        self.recipients += member.recipients
        self.size += len(member.personalizations) + 1

    def has_room_for(self, member: Member) -> bool:
        largest = LARGEST_CALL - len(self.shared) - _ROOM_FOR_SUBJECT
        return (
            self.recipients + member.recipients <= MOST_RECIPIENTS
            and self.size + len(member.personalizations) < largest
        )

    def body(self) -> bytes:
        """The request as JSON. The API wants a subject for all, which each personalization's own replaces."""
        subject = self.members[0].email.subject
        every = b",".join(member.personalizations for member in self.members)
        return b"".join(
            (self.shared, b',"subject":' + to_json(subject) if subject else b"", b',"personalizations":[', every, b"]}")
        )

    def owners(self) -> list[int]:
        """The position in `members` that each personalization of the request belongs to."""
        return [position for position, member in enumerate(self.members) for _ in range(member.count)]

    def part(self, positions: Container[int]) -> Call:
        """Return the call of the members at `positions` alone."""
        part = Call(self.shared, self.sandbox)
        for position, member in enumerate(self.members):
            if position in positions:
                part.add(member)
        return part

    def halves(self) -> list[Call]:
        """Return two calls with half of the members each, or this one when it has a single member."""
        middle = len(self.members) // 2
        return [self.part(range(middle)), self.part(range(middle, len(self.members)))] if middle else [self]


class _Layers:
    """Sees to it that no call names an address twice, which SendGrid refuses (its "Mail Send" errors).

    The second message to somebody goes to a second layer, the third to a third; each layer has calls of its own.
    """

    def __init__(self) -> None:
        self._next: defaultdict[tuple[Hashable, str], int] = defaultdict(int)

    def place(self, kind: Hashable, addresses: list[str]) -> int:
        layer = max((self._next[kind, address] for address in addresses), default=0)
        for address in addresses:
            self._next[kind, address] = layer + 1
        return layer


def calls_for(batch: Sequence[Email], *, sandbox: bool) -> list[Call]:
    """Gather alike messages into calls, in the order they came, none beyond the API's limits."""
    layers, calls = _Layers(), list[Call]()
    latest: dict[Hashable, Call] = {}
    shared: dict[Hashable, bytes] = {}
    for index, email in enumerate(batch):
        envelopes = personalizations(email)
        addresses = _addresses(envelopes)
        member = Member(index, email, to_json(envelopes)[1:-1], len(envelopes), len(addresses))
        kind = _kind(email) if len(batch) > 1 else None
        place = (kind, layers.place(kind, addresses) if len(batch) > 1 else 0)
        call = latest.get(place)
        if call is None or not call.has_room_for(member):
            if kind not in shared:
                shared[kind] = to_json(shared_part(email, sandbox=sandbox))[:-1]
            call = latest[place] = Call(shared[kind], sandbox or in_sandbox(email))
            calls.append(call)
        call.add(member)
    return calls


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
