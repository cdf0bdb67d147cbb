"""Many messages in few calls: alike ones share a call, each with a personalization of its own."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from postroom_sendgrid.payload import personalizations, shared_part

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from postroom.messages import Email

MOST_RECIPIENTS = 1000
"""Recipients, and personalizations, of one call: twilio.com/docs/sendgrid/api-reference/mail-send/limitations."""

LARGEST_CALL = 30_000_000
"""Bytes of one call, from the same page."""


@dataclass(slots=True)
class Call:
    """One request: what its messages share, and each message with the personalizations it takes."""

    shared: str
    members: list[tuple[int, list[dict[str, Any]]]] = field(default_factory=list)
    recipients: int = 0
    size: int = 0

    def body(self) -> bytes:
        """The request as JSON. The API wants a subject for all, which each personalization's own replaces."""
        every = [envelope for _, envelopes in self.members for envelope in envelopes]
        own: dict[str, Any] = {"personalizations": every}
        if "subject" in every[0]:
            own["subject"] = every[0]["subject"]
        return f"{self.shared[:-1]}, {json.dumps(own)[1:]}".encode()

    def owner(self, personalization: int) -> int | None:
        """Return which member a personalization, by its number in the call, belongs to."""
        first = 0
        for position, (_, envelopes) in enumerate(self.members):
            if first <= personalization < first + len(envelopes):
                return position
            first += len(envelopes)
        return None

    def parted(self, positions: Iterable[int]) -> tuple[Call, Call]:
        """Return two calls: of the members at `positions`, and of the others."""
        chosen = set(positions)
        inside = [member for position, member in enumerate(self.members) if position in chosen]
        outside = [member for position, member in enumerate(self.members) if position not in chosen]
        return Call(self.shared, inside), Call(self.shared, outside)


def calls_for(batch: Sequence[Email], *, sandbox: bool) -> list[Call]:
    """Gather alike messages into calls, in the order they came, none beyond the API's limits."""
    latest: dict[str, Call] = {}
    calls: list[Call] = []
    for index, email in enumerate(batch):
        shared = json.dumps(shared_part(email, sandbox=sandbox))
        envelopes = personalizations(email)
        recipients = sum(len(envelope.get(kind, ())) for envelope in envelopes for kind in ("to", "cc", "bcc"))
        size = len(json.dumps(envelopes))
        call = latest.get(shared)
        if call is None or not _has_room(call, recipients, size):
            call = latest[shared] = Call(shared, size=len(shared))
            calls.append(call)
        call.members.append((index, envelopes))
        call.recipients += recipients
        call.size += size
    return calls


def _has_room(call: Call, recipients: int, size: int) -> bool:
    return call.recipients + recipients <= MOST_RECIPIENTS and call.size + size < LARGEST_CALL
