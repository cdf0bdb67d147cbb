"""The mark of an outbox that was copied, or is being copied: it says which of the two places may be worked."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Sequence


class CopyState(StrEnum):
    """Where a copy stands, as one of its two places sees it.

    `filling`: this is the new place, and not everything is here yet. `whole`: everything is. `left`: this is the place
    that was left. `undone`: what is here was never whole, and the other place is used again.
    """

    FILLING = "filling"
    WHOLE = "whole"
    LEFT = "left"
    UNDONE = "undone"


@dataclass(frozen=True)
class CopyMark:
    """What one place knows: the `id` that both have in common, and the `other` place, in words without a password.

    `table` and `after` say how far it has come: the rows of that table up to this key are here, and all tables before.
    """

    id: str
    state: CopyState
    other: str
    table: str = ""
    after: tuple[Any, ...] = ()

    @property
    def is_fenced(self) -> bool:
        """Whether nobody may write there but the copy itself."""
        return self.state is not CopyState.WHOLE

    @property
    def notice(self) -> str:
        """What whoever wants to write there is answered; empty where everybody may."""
        return _NOTICES.get(self.state, "").format(other=self.other)

    def became(self, state: CopyState) -> Self:
        """Return the mark in another state."""
        return replace(self, state=state, table="", after=())

    def at(self, table: str, after: Sequence[Any]) -> Self:
        """Return the mark with more of the rows there."""
        return replace(self, table=table, after=tuple(after))

    def dump(self) -> bytes:
        """Return it as it is stored."""
        said = {"id": self.id, "state": self.state, "other": self.other, "table": self.table, "after": self.after}
        return json.dumps(said).encode()

    @classmethod
    def load(cls, stored: bytes | None) -> Self | None:
        """Read what `dump` wrote, if there is a mark."""
        if stored is None:
            return None
        said = json.loads(stored)
        after = tuple(said["after"])
        return cls(said["id"], CopyState(said["state"]), said["other"], said["table"], after)


_NOTICES = {
    CopyState.LEFT: (
        "this outbox was moved to {other}; name that in [outbox] url, or bring it back with `postroom outbox copy`"
    ),
    CopyState.FILLING: (
        "this outbox is a copy of {other} that is not complete; run `postroom outbox copy` again to complete it"
    ),
    CopyState.UNDONE: "this outbox is a copy of {other} that was never completed; name that in [outbox] url",
}
