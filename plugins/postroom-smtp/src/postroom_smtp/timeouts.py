"""Time limits of a session, and what of its writing still waits: any change of that is progress."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

_INT = Struct("i")

LOOKS = 4
"""Looks at a waiting session in the time of `Timeouts.message`: it is given up at most a look too late."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds in which nothing moves, after which a session is given up.

    `message` for any reply but the last, and for the content on its way; `final` for the reply to the final dot
    (RFC 5321 section 4.5.3.2.6: 10 minutes), and for one reply in all, however it trickles in; `idle` for a session
    that rests (section 4.5.3.2.7 allows 5 minutes); `quit` for QUIT.
    """

    message: float
    final: float = 600.0
    idle: float = 30.0
    quit: float = 5.0


def unsent(transport: asyncio.Transport) -> tuple[int, int]:
    """Return the octets that wait in this process, and those that the system has not seen acknowledged.

    The second is 0 where the system does not tell; Linux does (tcp(7), SIOCOUTQ).
    """
    return transport.get_write_buffer_size(), _unacknowledged(transport)


def _unacknowledged(transport: asyncio.Transport) -> int:
    try:
        import fcntl  # noqa: PLC0415 - not everywhere
        import termios  # noqa: PLC0415

        answer = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(_INT.size))
    except (ImportError, AttributeError, OSError, ValueError):  # ValueError: it is closed
        return 0
    return int(_INT.unpack(answer)[0])
