"""Resources: what the transports of one `Postroom` share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable

    from postroom.messages import Email

T = TypeVar("T")


@runtime_checkable
class _Closable(Protocol):
    async def close(self) -> None: ...


class Resources:
    """One object of each kind for all transports of a `Postroom`, made when the first of them asks."""

    def __init__(self, transform: Callable[[bytes, Email, str], bytes] | None = None) -> None:
        self._transform = transform
        self._made: dict[Callable[[], Any], Any] = {}

    def shared(self, make: Callable[[], T]) -> T:
        """Return what `make` made: it is called the first time, and its object shared from then on.

        `make` is a class or a function of a module, called inside the running loop. Never close its object: one that
        has an async `close` is closed with the `Postroom`.
        """
        made: T | None = self._made.get(make)
        if made is None:
            made = self._made[make] = make()
        return made

    def transformed(self, content: bytes, email: Email, account: str) -> bytes:
        """Return the bytes of `email` as extensions leave them; `Transport.write` is what calls it."""
        return content if self._transform is None else self._transform(content, email, account)

    async def close(self) -> None:
        """Close what can be closed; all else can still be read."""
        open_ones = {make: made for make, made in self._made.items() if isinstance(made, _Closable)}
        for make, made in open_ones.items():
            del self._made[make]
            await made.close()
