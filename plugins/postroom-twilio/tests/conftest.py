"""A Twilio account on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from postroom.messages import Sms
from postroom.plugin import Resources
from postroom.testing.http import Answer, HttpRecorder
from postroom_twilio.settings import TwilioSettings
from postroom_twilio.transport import TwilioSms

SID = "AC" + "0123456789abcdef" * 2
TOKEN = "s3cr3t-t0k3n"
CREATED = Answer(
    201,
    {"sid": "SM1", "status": "queued", "num_segments": "2", "error_code": None},
    {"Twilio-Request-Id": "RQ1"},
)


@pytest.fixture
async def server() -> AsyncIterator[HttpRecorder]:
    async with HttpRecorder() as recorder:
        yield recorder


@pytest.fixture
def settings() -> Callable[..., Any]:
    """Makes settings of a complete account; what is given replaces or adds."""

    def make(**given: Any) -> TwilioSettings:
        return TwilioSettings(
            **{"provider": "twilio", "account_sid": SID, "auth_token": TOKEN, "from": "+15005550006"} | given
        )

    return make


@pytest.fixture
def opened() -> Callable[..., Any]:
    """Opens a transport the way the core does and closes it with its resources."""

    @asynccontextmanager
    async def opening(settings: TwilioSettings) -> AsyncIterator[TwilioSms]:
        resources = Resources()
        transport = TwilioSms("texts", settings, resources)
        await transport.open()
        try:
            yield transport
        finally:
            await transport.close()
            await resources.close()

    return opening


@pytest.fixture
async def transport(
    server: HttpRecorder, settings: Callable[..., Any], opened: Callable[..., Any]
) -> AsyncIterator[TwilioSms]:
    """A transport whose `base_url` is the recorder, which says yes."""
    server.answer_with(lambda request: CREATED)
    async with opened(settings(base_url=server.url)) as made:
        yield made


@pytest.fixture
def sms() -> Callable[..., Any]:
    def make(**given: Any) -> Sms:
        return Sms(**{"to": "+15005550010", "from": "+15005550006", "body": "Hello", "id": "0" * 32} | given)

    return make
