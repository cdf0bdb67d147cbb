"""An inbox for tests of programs that send: nothing leaves, everything is kept."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from postroom.client import Postroom
from postroom.messages import Email, Sms
from postroom.sync_client import SyncPostroom

if TYPE_CHECKING:
    from collections.abc import Iterator

    from postroom.messages import Message

SENDER = "inbox@example.org"

_CONFIGURATION: dict[str, Any] = {
    "accounts": {
        "inbox-email": {"provider": "memory", "from": SENDER},
        "inbox-sms": {"provider": "memory", "from": "+442079460000"},
    },
    "defaults": {"email": "inbox-email", "sms": "inbox-sms"},
}


class Inbox:
    """Two rooms that keep every message: `room` for asyncio programs, `blocking` for all others.

    Messages come in the order in which they were sent. What fails raises AssertionError and lists what is there.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        if "blocking" in vars(self):
            self.blocking.close()

    @cached_property
    def room(self) -> Postroom:
        """The room for the program under test; it takes every e-mail and SMS, with a sender of its own."""
        return Postroom(**_CONFIGURATION)

    @cached_property
    def blocking(self) -> SyncPostroom:
        """The same for programs without asyncio."""
        return SyncPostroom(**_CONFIGURATION)

    @property
    def messages(self) -> list[Message]:
        """Everything that was sent, oldest first; through `room` before through `blocking`."""
        rooms = (vars(self).get("room"), vars(self).get("blocking"))
        return [message for room in rooms if room is not None for message in room.memory]

    @property
    def emails(self) -> list[Email]:
        return [message for message in self.messages if isinstance(message, Email)]

    @property
    def texts(self) -> list[Sms]:
        return [message for message in self.messages if isinstance(message, Sms)]

    def to(self, address: str) -> list[Message]:
        """The messages to an e-mail address or a phone number, in any of to, cc and bcc."""
        return [message for message in self.messages if address in message.recipients]

    def only(self, address: str | None = None) -> Any:
        """The one message that was sent, or the one to `address`. Raises AssertionError when it is not exactly one."""
        found = self.messages if address is None else self.to(address)
        if len(found) != 1:
            whom = f" to {address}" if address else ""
            raise AssertionError(f"{len(found)} messages{whom} were sent, not 1; {self._listed()}")
        return found[0]

    def assert_empty(self) -> None:
        """Raise AssertionError when anything was sent."""
        if self.messages:
            raise AssertionError(f"nothing should have been sent; {self._listed()}")

    def clear(self) -> None:
        """Forget what was sent so far."""
        for room in (vars(self).get("room"), vars(self).get("blocking")):
            if room is not None:
                room.memory.clear()

    def __len__(self) -> int:
        return len(self.messages)

    def __iter__(self) -> Iterator[Message]:
        return iter(self.messages)

    def _listed(self) -> str:
        lines = [
            f"  {message.channel_name} to {', '.join(message.recipients)}: {_headline(message)!r}"
            for message in self.messages
        ]
        return "the inbox holds\n" + "\n".join(lines) if lines else "the inbox is empty"


def _headline(message: Message) -> str:
    return message.subject if isinstance(message, Email) else getattr(message, "body", "")
