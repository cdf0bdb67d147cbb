"""postroom's outbox, with an account that does the job in place of a hand-over, once for each message."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from peers.peer import AT_ONCE, Job

from postroom import Email, Postroom
from postroom.plugin import EMAIL_FEATURES, AccountSettings, Capabilities, EmailTransport, hookimpl
from postroom.receipts import Accepted

SENDER = "post@example.org"


class JobSettings(AccountSettings):
    provider: str = "job"


class JobTransport(EmailTransport[JobSettings]):
    settings_model = JobSettings
    capabilities = Capabilities(features=EMAIL_FEATURES, partial_envelope=True)
    keeps_timeout = True
    job: Job

    async def send(self, email: Email, /) -> Accepted:
        await JobTransport.job(email.text or "")
        return Accepted(provider_message_id=email.id)


class _Provider:
    postroom_interface = 1

    @hookimpl
    def postroom_email_transport(self) -> type[Any]:
        return JobTransport


job_provider = _Provider()


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[OurPeer]:
    sys.path.append(str(Path(__file__).with_name("plugin")))
    async with room_at(url) as room:
        yield OurPeer(url, room)


def room_at(url: str, **outbox: Any) -> Postroom:
    on_unknown = os.environ.get("ON_UNKNOWN", "hold")
    account = {"provider": "job", "from": SENDER, "concurrency": AT_ONCE, "on_unknown": on_unknown}
    return Postroom(accounts={"box": account}, outbox={"url": url, **outbox})


class OurPeer:
    def __init__(self, url: str, client: Postroom) -> None:
        self._url = url
        self._client = client
        self._numbers = iter(range(10**9))

    async def install(self) -> None:
        await self._client.outbox.stats()

    async def accept(self, text: str) -> None:
        await self._client.enqueue(Email(to=f"ann{next(self._numbers)}@example.org", subject="Hello", text=text))

    async def drain(self, job: Job, count: int) -> None:
        JobTransport.job = staticmethod(job)
        await self._client.work(until_empty=True)

    async def work(self, job: Job, lease: float) -> None:
        JobTransport.job = staticmethod(job)
        async with room_at(self._url, lease=lease, repeat_after=0.1) as room:
            await room.work()
