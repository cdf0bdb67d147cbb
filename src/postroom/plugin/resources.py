"""What one `Postroom` lends its transports."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import aiohttp

    from postroom.messages import Message


class Resources:
    """Holds what transports share: one HTTP session, opened when the first of them asks.

    `memory` is where accounts of the provider `memory` put messages.
    """

    def __init__(self) -> None:
        self.memory: list[Message] = []
        self._session: aiohttp.ClientSession | None = None

    def http_session(self) -> aiohttp.ClientSession:
        """Return the shared session; never close it. Needs the running loop and `postroom[http]`."""
        if self._session is None:
            from postroom.plugin.http import open_session  # noqa: PLC0415 - aiohttp only when used

            self._session = open_session()
        return self._session

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()
