from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from postroom import Sms
from postroom.plugin import Environment
from postroom.testing.http import Answer, HttpRecorder
from postroom_vonage.settings import VonageSettings
from postroom_vonage.transport import VonageSms

CANARY = "canary-secret-never-to-be-shown"
CREDENTIALS = {"api_key": "abcd1234", "api_secret": CANARY}
APIS = ("messages", "sms")
YES = {
    "messages": Answer(202, {"message_uuid": "uuid-1"}),
    "sms": Answer(200, {"message-count": "1", "messages": [{"to": "44", "message-id": "id-1", "status": "0"}]}),
}

Opener = Callable[..., AbstractAsyncContextManager[VonageSms]]


@asynccontextmanager
async def opened(base_url: str | None, **settings: Any) -> AsyncIterator[VonageSms]:
    environment = Environment()
    given = {**CREDENTIALS, "base_url": base_url, "timeout": 2, **settings}
    transport = VonageSms("texts", VonageSettings.model_validate(given), environment)
    await transport.open()
    try:
        yield transport
    finally:
        await transport.close()
        await environment.close()


@pytest.fixture
def open_vonage() -> Opener:
    return opened


@pytest.fixture
async def server() -> AsyncIterator[HttpRecorder]:
    async with HttpRecorder() as recorder:
        yield recorder


@pytest.fixture
def yes() -> dict[str, Answer]:
    return YES


@pytest.fixture
def canary() -> str:
    return CANARY


@pytest.fixture
def sms() -> Callable[..., Sms]:
    def build(**fields: Any) -> Sms:
        given = {
            "to": "+447700900000",
            "from_": "+447700900001",
            "body": "Hey!",
            "id": "0123456789abcdef0123456789abcdef",
        }
        return Sms(**{**given, **fields})

    return build


@pytest.fixture(scope="session")
def pem() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.fixture(scope="session")
def pkcs1(pem: str) -> str:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = load_pem_private_key(pem.encode(), None)
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()
