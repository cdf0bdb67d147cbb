from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from postroom import Email
from postroom.plugin import Resources
from postroom.testing.http import HttpRecorder
from postroom_sendgrid.settings import SendGridSettings
from postroom_sendgrid.transport import SendGridEmail

CANARY = "SG.canary-key-never-to-be-shown"

Opener = Callable[..., AbstractAsyncContextManager[SendGridEmail]]


def an_email(**fields: Any) -> Email:
    given = {"to": "ann@example.org", "from_": "Post Room <post@example.org>", "subject": "Hello", "text": "Hi"}
    stamps = {"id": "0123456789abcdef0123456789abcdef", "message_id": "<m1@example.org>"}
    return Email(**{**given, **stamps, **fields})


@asynccontextmanager
async def opened(base_url: str | None, **settings: Any) -> AsyncIterator[SendGridEmail]:
    resources = Resources()
    chosen = SendGridSettings.model_validate({"api_key": CANARY, "base_url": base_url, "timeout": 20, **settings})
    transport = SendGridEmail("sg", chosen, resources)
    await transport.open()
    try:
        yield transport
    finally:
        await transport.close()
        await resources.close()


@pytest.fixture
async def server() -> AsyncIterator[HttpRecorder]:
    async with HttpRecorder() as recorder:
        yield recorder


@pytest.fixture
async def sendgrid(server: HttpRecorder) -> AsyncIterator[SendGridEmail]:
    async with opened(server.url) as transport:
        yield transport


@pytest.fixture
def email() -> Callable[..., Email]:
    return an_email


@pytest.fixture
def open_sendgrid() -> Opener:
    return opened
