"""A Vonage account on loopback, for either API."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from hypothesis import settings

from postroom import Sms
from postroom.plugin import Resources
from postroom.testing.http import Answer, HttpRecorder
from postroom_vonage.settings import VonageSettings
from postroom_vonage.transport import VonageSms

settings.register_profile("busy machine", deadline=None)
settings.load_profile("busy machine")

CANARY = "canary-secret-never-to-be-shown"
ID = "0123456789abcdef0123456789abcdef"


def parts(*statuses: str) -> dict[str, Any]:
    """The SMS API's answer about a text of as many parts."""
    return {
        "message-count": str(len(statuses)),
        "messages": [
            {"status": status, "error-text": "because"} | ({"message-id": f"id-{number}"} if status == "0" else {})
            for number, status in enumerate(statuses)
        ],
    }


def problem(code: int | str, title: str = "No", **more: Any) -> dict[str, Any]:
    """A problem document of the Messages API."""
    return {"type": f"https://developer.vonage.com/api-errors/messages#{code}", "title": title, **more}


YES = {"messages": Answer(202, {"message_uuid": "uuid-1"}), "sms": Answer(200, parts("0"))}


@asynccontextmanager
async def opened(base_url: str | None, **settings: Any) -> AsyncIterator[VonageSms]:
    resources = Resources()
    given = {"api_key": "abcd1234", "api_secret": CANARY, "base_url": base_url, "timeout": 20, **settings}
    transport = VonageSms("texts", VonageSettings.model_validate(given), resources)
    await transport.open()
    try:
        yield transport
    finally:
        await transport.close()
        await resources.close()


@pytest.fixture
def open_vonage() -> Callable[..., Any]:
    """Opens an account the way the core does and closes it with its resources."""
    return opened


@pytest.fixture
async def server() -> AsyncIterator[HttpRecorder]:
    async with HttpRecorder() as recorder:
        yield recorder


@pytest.fixture
def sms() -> Callable[..., Any]:
    def build(**fields: Any) -> Sms:
        return Sms(**{"to": "+447700900000", "from_": "+447700900001", "body": "Hey!", "id": ID} | fields)

    return build


@pytest.fixture(scope="session")
def pem() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.fixture(scope="session")
def pkcs1(pem: str) -> str:
    key = load_pem_private_key(pem.encode(), None)
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()


@pytest.fixture
def by_token(pem: str) -> dict[str, Any]:
    """Settings of an account that signs with its application's key."""
    return {"api_key": None, "api_secret": None, "application_id": "app-1", "private_key": pem}
