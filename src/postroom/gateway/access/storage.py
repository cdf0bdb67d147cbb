"""Access storage (a Protocol for any engine): API keys, and the counters of their limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from postroom.config.gateway import Limit
    from postroom.gateway.access.keys import ApiKey
    from postroom.gateway.access.sliding_window import SlidingWindow

T = TypeVar("T")

KeyMark = Literal["flagged", "suspended"]


class Counter(NamedTuple):
    """What is counted for a key under `name`, and how much of it there may be."""

    name: str
    limit: Limit

    @property
    def label(self) -> str:
        """What its window is kept under: one of another length of time begins anew."""
        return f"{self.name}/{self.limit.window}"


class AccessStorage(Protocol):
    """Keeps keys and counters where every process of the gateway sees them. Times are Unix seconds.

    All methods but `open` and `close` raise OutboxError, with what to do, when the store cannot be used.
    """

    async def open(self) -> None:
        """Make ready; may be called again."""

    async def close(self) -> None:
        """Give back what `open` took; the outbox stays as it is."""

    @property
    def secret(self) -> bytes:
        """Random bytes that belong to this outbox, for signatures only it needs to check; known once it is open."""

    async def ping(self) -> None:
        """Return when something could be written, as far as is known without keeping anybody who writes waiting.

        The store is there, can be read, its last transaction went through, and none has been waiting for long.
        """

    async def find_key(self, digest: str) -> ApiKey | None:
        """Return the key of this digest as it is at this moment: a revocation counts at once."""

    async def list_keys(self) -> list[ApiKey]:
        """Return every key, the oldest first, revoked ones included."""

    async def add_key(self, key: ApiKey) -> None:
        """Keep a new key."""

    async def revoke_key(self, key_id: str, now: float) -> bool:
        """Revoke a key for good; False when there is none of that id. Its messages stay."""

    async def unsuspend_key(self, key_id: str) -> bool:
        """End flag and suspension of a key and forget what it used; False when there is none of that id."""

    async def mark_key(self, key_id: str, mark: KeyMark, now: float) -> bool:
        """Flag a key, or suspend it; False when it was already."""

    async def update_windows(
        self, key_id: str, counters: Sequence[Counter], update: Callable[[list[SlidingWindow]], T]
    ) -> T:
        """Read the windows of these counters, run `update` on them and keep those it changed: one transaction.

        `update` only computes, and may be run again when a transaction is; no two of one key overlap. A counter
        whose window of time was another one begins anew.
        """

    async def delete_stale_windows(self, now: float) -> None:
        """Remove windows that count no more, such as those of numbers that are not written to again."""
