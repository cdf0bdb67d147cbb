"""Lease of one worker: its registration, renewed by heartbeats, and whether it still holds.

While it holds nobody takes this worker's messages over. A worker that could not renew it (frozen, kept waiting by a
lock, suspended with its machine) does not know whether it still does, and must find out before it sends anything.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from postroom.errors import OutboxError
from postroom.plugin.confirmation import Withdrawn

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from postroom.outbox.records import ClaimedMessage
    from postroom.outbox.storage import WorkerStorage

_log = logging.getLogger("postroom.outbox")

_RENEWALS = 4
"""Heartbeats in the time of one lease."""

_SAFE_PART = 0.75
"""Part of the lease, counted from the beginning of the last heartbeat, within which nobody can have ended it."""


_BOOT_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def boot_seconds() -> float:
    """Seconds that pass while the machine is suspended too, where the system counts them."""
    return time.clock_gettime(_BOOT_CLOCK)


class Lease:
    """Keeps one worker registered with the storage. `seconds` is how long others wait for a sign of life.

    `clock` must go on while the process is frozen. `worker` is the number the storage gave, another one after the
    others gave this worker up.
    """

    def __init__(self, store: WorkerStorage, seconds: float, *, clock: Callable[[], float] | None = None) -> None:
        self.worker = 0
        self.seconds = seconds
        self.clock = clock or boot_seconds
        self.unblocked_at = self.clock()
        """When heartbeats could last be written again after they could not: before it, silence says nothing."""
        self._store = store
        self._renewed_at = float("-inf")
        self._renewing = asyncio.Lock()
        self._signed_off = False

    @property
    def is_fresh(self) -> bool:
        """Whether a heartbeat could be written a short time ago: only then the silence of others means anything."""
        return self.clock() - self._renewed_at <= self.seconds / 2

    async def register(self) -> None:
        """Enter this worker, so that others watch it."""
        begun = self.clock()
        self.worker = await self._store.register(f"{platform.node()} {os.getpid()}")
        self._renewed_at = begun

    async def sign_off(self) -> None:
        """Leave; what is still in this worker's hands, others will rescue."""
        # Under the lock: a heartbeat that found this worker gone would register it anew, for nobody to sign off.
        async with self._renewing:
            self._signed_off = True
            await self._store.sign_off(self.worker)

    async def keep(self) -> None:
        """Renew the lease until cancelled, whatever else this worker does or waits for."""
        while True:
            await asyncio.sleep(self.seconds / _RENEWALS)
            try:
                await self.renew()
            except OutboxError as error:
                _log.error("no heartbeat could be written: %s", error)
            except Exception:  # noqa: BLE001 - a worker that shows no life loses its messages
                _log.exception("no heartbeat could be written")

    async def renew(self) -> None:
        """Show one sign of life; a worker that the others gave up becomes a new one."""
        async with self._renewing:
            if self._signed_off:
                return
            begun = self.clock()
            alive = await self._store.heartbeat(self.worker)
            if self.clock() - begun > self.seconds / _RENEWALS or begun - self._renewed_at > self.seconds:
                self.unblocked_at = self.clock()
            if alive:
                self._renewed_at = begun
                return
            _log.warning("this worker was silent for too long; others have taken its messages over")
            await self.register()

    def confirmation(self, message: ClaimedMessage) -> Callable[[], Awaitable[None]]:
        """Return what to await right before `message` is handed over, which is claimed now: it marks it as begun.

        It raises Withdrawn when the message may be another worker's by then.
        """
        claimed_by = self.worker

        async def confirm() -> None:
            held = self._is_held()
            if not held:
                with suppress(OutboxError):  # then it is as unknown as before
                    await self.renew()
                held = self._is_held()
            if not held or self.worker != claimed_by or not await self._begin(claimed_by, message):
                raise Withdrawn

        return confirm

    def _is_held(self) -> bool:
        return self.clock() - self._renewed_at <= self.seconds * _SAFE_PART

    async def _begin(self, worker: int, message: ClaimedMessage) -> bool:
        try:
            begun = await self._store.begin(worker, message.seq, message.attempts)
        except OutboxError as error:
            _log.error("message %s: not handed over: %s", message.id, error)
            return False
        if not begun:
            await self._replace(worker)
        return begun

    async def _replace(self, worker: int) -> None:
        """Become another worker than `worker`, whose messages the others have taken over."""
        async with self._renewing:
            if self.worker == worker and not self._signed_off:
                with suppress(OutboxError):  # the next heartbeat tries again
                    await self.register()
