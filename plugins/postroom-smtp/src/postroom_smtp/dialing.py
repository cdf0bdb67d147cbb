"""TCP connections to a server of several addresses: a race that the first to answer wins (RFC 8305)."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from ipaddress import ip_address
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

Place = tuple[socket.AddressFamily, tuple[Any, ...]]

ATTEMPT_DELAY = 0.25
"""Seconds an address has for itself before the next is tried beside it (RFC 8305 section 5)."""


class Dialer:
    """Connects to `host`; the address that worked last is the first to be tried."""

    def __init__(self, host: str, port: int, delay: float = ATTEMPT_DELAY) -> None:
        self._host = host
        self._port = port
        self._delay = delay
        self._worked: Place | None = None

    async def connect(self) -> socket.socket:
        """Return a connected socket. Raises OSError, socket.gaierror among them; bound it with a time limit."""
        places = await self._places()
        place, connected = await self._first_of(deque(places))
        self._worked = place
        return connected

    async def _places(self) -> list[Place]:
        if literal := _literal(self._host, self._port):
            return [literal]
        found = await asyncio.get_running_loop().getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        places = _interleaved((family, address) for family, _, _, _, address in found)
        if self._worked in places:
            places.remove(self._worked)
            places.insert(0, self._worked)
        return places

    async def _first_of(self, places: deque[Place]) -> tuple[Place, socket.socket]:
        dialing: dict[asyncio.Task[socket.socket], Place] = {}
        errors: list[OSError] = []
        try:
            while places or dialing:
                if places:
                    place = places.popleft()
                    dialing[asyncio.ensure_future(_dial(place))] = place
                wait = self._delay if places else None
                ended, _ = await asyncio.wait(dialing, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
                for task in ended:
                    place = dialing.pop(task)
                    error = task.exception()
                    if error is None:
                        dialing |= dict.fromkeys(ended - {task}, place)
                        return place, task.result()
                    if not isinstance(error, OSError):
                        raise error
                    errors.append(error)
        finally:
            await _call_off(dialing)
        raise errors[0] if errors else OSError(f"{self._host} has no address")


def _literal(host: str, port: int) -> Place | None:
    """Where `host` is an address, that: nobody need be asked for it."""
    try:
        six = ip_address(host).version == 6
    except ValueError:
        return None
    return (socket.AF_INET6, (host, port, 0, 0)) if six else (socket.AF_INET, (host, port))


async def _dial(place: Place) -> socket.socket:
    family, address = place
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        await asyncio.get_running_loop().sock_connect(made, address)
    except BaseException:
        made.close()
        raise
    return made


async def _call_off(dialing: Iterable[asyncio.Task[socket.socket]]) -> None:
    """End attempts that lost, and close what one of them connected meanwhile."""
    for task in dialing:
        task.cancel()
    for result in await asyncio.gather(*dialing, return_exceptions=True):
        if isinstance(result, socket.socket):
            result.close()


def _interleaved(places: Iterable[Place]) -> list[Place]:
    """Families by turns, each in the system's order (RFC 8305 section 4)."""
    by_family: dict[socket.AddressFamily, list[Place]] = {}
    for place in dict.fromkeys(places):
        by_family.setdefault(place[0], []).append(place)
    return [place for place in chain(*zip_longest(*by_family.values())) if place is not None]
