"""Vonage's own contracts: its OpenAPI descriptions, served by validating mocks on loopback.

`.ci/provider-mocks` serves the SMS API at 127.0.0.1:4062 and the Messages API at 127.0.0.1:4063.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from postroom.errors import DeliveryError, Outcome

PORTS = {"sms": 4062, "messages": 4063}

pytestmark = pytest.mark.system("vonage")


def at(api: str) -> str:
    return f"http://127.0.0.1:{PORTS[api]}"


FAR = {"expires_at": datetime(2099, 1, 1, tzinfo=UTC)}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"body": "Привет"},
        {"from_": "Post Room"},
        FAR,
        {"provider_options": {"status_report_req": False, "message_class": 0, "callback": "https://example.org"}},
        {"body": "", "provider_options": {"type": "binary", "body": "0011", "udh": "06050415811581"}},
    ],
    ids=str,
)
async def test_the_sms_contract_accepts_every_shape_we_send(
    open_vonage: Callable[..., Any], sms: Callable[..., Any], fields: dict[str, Any]
) -> None:
    async with open_vonage(at("sms"), api="sms", timeout=20) as vonage:
        message = sms(**fields)
        vonage.validate(message)
        accepted = await vonage.send(message)
    assert accepted.provider_message_id == "0A0000000123ABCD1"


@pytest.mark.parametrize("method", ["md5hash", "md5", "sha1", "sha256", "sha512"])
async def test_the_sms_contract_accepts_signed_forms(
    open_vonage: Callable[..., Any], sms: Callable[..., Any], method: str
) -> None:
    settings = {"api_secret": None, "signature_secret": "s3cret-s3cret", "signature_method": method}
    async with open_vonage(at("sms"), api="sms", timeout=20, **settings) as vonage:
        accepted = await vonage.send(sms())
    assert accepted.provider_message_id


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"body": "Привет"},
        FAR,
        {"media": "https://example.org/i.png"},
        {"media": "https://example.org/i.vcf", "body": ""},
        {"media": "https://example.org/i.mp3"},
        {"media": "https://example.org/i.mp4"},
        {"channel": "whatsapp"},
        {"channel": "whatsapp", "media": "https://example.org/i.png"},
        {"channel": "whatsapp", "media": "https://example.org/i.pdf"},
        {"channel": "whatsapp", "media": "https://example.org/i.mp3", "body": ""},
        {
            "channel": "whatsapp",
            "body": "",
            "provider_options": {
                "message_type": "template",
                "template": {"name": "ns:verify", "parameters": ["1234"]},
                "whatsapp": {"policy": "deterministic", "locale": "en_US"},
            },
        },
        {"provider_options": {"webhook_url": "https://example.org/hook"}},
    ],
    ids=str,
)
@pytest.mark.parametrize("auth", ["basic", "jwt"])
async def test_the_messages_contract_accepts_every_shape_we_send(
    open_vonage: Callable[..., Any],
    sms: Callable[..., Any],
    by_token: dict[str, Any],
    fields: dict[str, Any],
    auth: str,
) -> None:
    async with open_vonage(at("messages"), timeout=20, **(by_token if auth == "jwt" else {})) as vonage:
        message = sms(**fields)
        vonage.validate(message)
        accepted = await vonage.send(message)
    assert accepted.provider_message_id


@pytest.mark.parametrize(
    ("api", "options"), [("sms", {"message_class": 9}), ("sms", {"ttl": 1}), ("messages", {"message_type": "poem"})]
)
async def test_a_bad_field_is_refused_by_the_contract_and_permanent(
    open_vonage: Callable[..., Any], sms: Callable[..., Any], api: str, options: dict[str, Any]
) -> None:
    async with open_vonage(at(api), api=api, timeout=20) as vonage:
        with pytest.raises(DeliveryError) as caught:
            await vonage.send(sms(provider_options=options))
    assert caught.value.outcome is Outcome.PERMANENT
