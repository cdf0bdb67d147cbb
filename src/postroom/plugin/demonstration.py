"""Demonstration: what `postroom demo` shows of a provider, on this machine alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from postroom.messages import Sms

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractAsyncContextManager

    from postroom.messages import Email
    from postroom.receipts import Channel


class Arrival(NamedTuple):
    """One message at a server: from whom, to whom, what, what else the sample asks for, and by which command."""

    sender: str
    to: str
    content: str
    besides: str = ""
    by: str = ""


class Demonstration(ABC):
    """One way of a provider to take messages, stood in for by a server on 127.0.0.1 with the vendor's answers.

    `title` is what it is called and `options` are credentials that each message carries, if any. The sample messages
    are sent to `account()` once the `server` listens; `arrivals` are then what it read, to be compared with what was
    `expected` of each message.
    """

    title: ClassVar[str]
    channel: ClassVar[Channel]
    options: ClassVar[Mapping[str, str]] = {}

    @abstractmethod
    def server(self) -> AbstractAsyncContextManager[object]:
        """The server; it listens while the context is entered."""

    @abstractmethod
    def account(self) -> dict[str, Any]:
        """The settings of an account that sends to the server, but for `provider`."""

    @abstractmethod
    def arrivals(self) -> list[Arrival]:
        """The messages that came, oldest first."""

    def expected(self, message: Email | Sms) -> Arrival:
        """What a server should read of a sample message; numbers are written without their plus."""
        if isinstance(message, Sms):
            return Arrival(digits(str(message.from_)), digits(message.to[0]), message.body)
        reply_to = f"reply to {message.reply_to[0]}"
        return Arrival(str(message.from_), str(message.to[0]), f"{message.subject}: {message.html}", reply_to)


def digits(number: str) -> str:
    """A phone number without its plus, as some vendors write it."""
    return number.removeprefix("+")
