"""Vonage's own contracts: its OpenAPI descriptions, served by validating mocks on loopback."""

from __future__ import annotations

import socket
from datetime import UTC, datetime, timedelta

import pytest

from postroom.errors import DeliveryError, Outcome
from postroom.receipts import Accepted

PORTS = {"sms": 4062, "messages": 4063}


def mocks_are_up() -> bool:
    for port in PORTS.values():
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return False
    return True


pytestmark = pytest.mark.skipif(not mocks_are_up(), reason="the vendor's mocks do not listen on 127.0.0.1:4062, 4063")


def at(api: str) -> str:
    return f"http://127.0.0.1:{PORTS[api]}"


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"body": "Привет"},
        {"from_": "Post Room"},
        {"expires_at": datetime.now(UTC) + timedelta(hours=1)},
        {"provider_options": {"status_report_req": False, "message_class": 0}},
    ],
    ids=lambda fields: "+".join(fields) or "plain",
)
async def test_the_sms_contract_accepts_every_shape_we_send(open_vonage, sms, fields):
    async with open_vonage(at("sms"), api="sms", timeout=20) as vonage:
        assert isinstance(await vonage.send(sms(**fields)), Accepted)


@pytest.mark.parametrize("method", ["md5hash", "md5", "sha256", "sha512"])
async def test_the_sms_contract_accepts_signed_forms(open_vonage, sms, method):
    settings = {"api_secret": None, "signature_secret": "s3cret-s3cret", "signature_method": method}
    async with open_vonage(at("sms"), api="sms", timeout=20, **settings) as vonage:
        assert isinstance(await vonage.send(sms()), Accepted)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"body": "Привет"},
        {"media": "https://example.org/i.png"},
        {"media": "https://example.org/i.vcf", "body": ""},
        {"channel": "whatsapp"},
        {"channel": "whatsapp", "media": "https://example.org/i.png"},
        {"provider_options": {"webhook_url": "https://example.org/hook"}},
    ],
    ids=lambda fields: "+".join(fields) or "plain",
)
@pytest.mark.parametrize("auth", ["basic", "jwt"])
async def test_the_messages_contract_accepts_every_shape_we_send(open_vonage, sms, pem, fields, auth):
    jwt = {"api_key": None, "api_secret": None, "application_id": "app-1", "private_key": pem}
    async with open_vonage(at("messages"), timeout=20, **(jwt if auth == "jwt" else {})) as vonage:
        assert isinstance(await vonage.send(sms(**fields)), Accepted)


async def test_the_contracts_refuse_a_wrong_field_and_we_say_so(open_vonage, sms):
    async with open_vonage(at("sms"), api="sms", timeout=20) as vonage:
        with pytest.raises(DeliveryError) as caught:
            await vonage.send(sms(provider_options={"message_class": 9}))
    assert caught.value.outcome in {Outcome.PERMANENT, Outcome.UNKNOWN}
