"""What an engine of the outbox does, whatever it keeps messages in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from postroom.errors import PostroomError
    from postroom.events import Event
    from postroom.outbox.executor import MessageExecutor
    from postroom.outbox.records import (
        AccountHealth,
        EnqueueResult,
        MessageDetails,
        MessageFilter,
        MessageSummary,
        NewMessage,
        OutboxStats,
    )
    from postroom.outbox.sqlite import suppressions
    from postroom.outbox.states import Transition
    from postroom.receipts import Receipt


class Store(Protocol):
    """Keeps messages, and runs them through a `MessageExecutor`.

    What to do with a message is the executor's; when, how many at single_round, and that nothing is forgotten or given
    to two workers, is the store's.
    """

    async def open(self) -> None:
        """Make ready; raises OutboxError with what to do when the store cannot be used."""

    async def close(self) -> None:
        """End once everything asked for is written."""

    async def add(self, entries: Sequence[NewMessage]) -> list[EnqueueResult | PostroomError]:
        """Accept messages, in one transaction; they are on disk when this returns, one answer for each.

        A message with an idempotency key that was used before is answered with the first receipt, or with
        IdempotencyConflict when that was another message. Raises OutboxError when nothing could be stored.
        """

    async def run(self, executor: MessageExecutor, *, stop: StopSignal, until_empty: bool = False) -> None:
        """Work: hand due messages to `executor` until `stop`, then let what is under way end."""

    async def change(self, id_: str, move: Transition, *, tenant: str | None = None, note: str = "") -> Receipt:
        """Make a move that is not a worker's; raises OutboxError when it may not be made."""

    async def record(self, event: Event, suppression: suppressions.Row | None = None) -> Receipt | None:
        """Keep what a provider reported, once; the receipt of its message, None when that is known or not here.

        `suppression` goes on the suppression list with it: a report that is repeated teaches nothing.
        """

    async def find(self, id_: str, *, tenant: str | None = None) -> MessageDetails | None:
        """Look one message up."""

    async def list(self, where: MessageFilter) -> list[MessageSummary]:
        """List messages, the newest first."""

    async def stats(self) -> OutboxStats:
        """Count messages, and tell the health of accounts."""

    async def health(self) -> dict[str, AccountHealth]:
        """How every account does that was used, by queue."""

    async def resume(self, account: str) -> bool:
        """End the rest or pause of an account; False when it had none."""

    async def purge(self, where: MessageFilter) -> int:
        """Remove settled messages for good; returns how many."""


class StopSignal(Protocol):
    """Says when to stop; an `asyncio.Event` is one."""

    def is_set(self) -> bool:
        """Whether to stop now."""

    async def wait(self) -> object:
        """Return once it is time to stop."""
