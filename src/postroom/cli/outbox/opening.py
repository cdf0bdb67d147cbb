"""Opens the configured outbox for one command."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from postroom.outbox import Outbox

T = TypeVar("T")


def with_outbox(config_file: Path | None, use: Callable[[Outbox], Awaitable[T]], *, create: bool = False) -> T:
    """Return what `use` makes of the configured outbox. Raises OutboxError when there is none, unless `create`."""
    import asyncio

    from postroom.client import Postroom
    from postroom.errors import OutboxError
    from postroom.outbox.factory import location, presence

    room = Postroom.from_config(config_file)
    settings = room.config.outbox
    if not create and not presence(settings)():
        raise OutboxError(
            f"there is no outbox at {location(settings)}; the first message that is enqueued makes it. For another, "
            "name its file in [outbox] url, or the configuration with --config"
        )

    async def used() -> T:
        async with room:
            return await use(room.outbox)

    return asyncio.run(used())
