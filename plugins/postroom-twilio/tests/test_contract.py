"""Requests pass Twilio's own OpenAPI description: .ci/provider-mocks serves it at 127.0.0.1:4060.

The mock knows the Messages resource only, and reads no repeated form field as the array that MediaUrl and
PersistentAction are, not even from Twilio's SDK: test_sdk_parity holds those to the SDK's own form.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from postroom.errors import MessageRejected

pytestmark = pytest.mark.system("twilio")

SERVICE = "MG" + "0123456789abcdef" * 2
WHEN = datetime.now(UTC) + timedelta(hours=1)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"body": "Grüße 👍"},
        {"to": "whatsapp:+15005550010"},
        {"send_at": WHEN, "expires_at": WHEN + timedelta(hours=1)},
        {
            "body": "",
            "provider_options": {
                "content_sid": "HX" + "0123456789abcdef" * 2,
                "content_variables": {"1": "Ann"},
                "shorten_urls": True,
                "smart_encoded": False,
                "max_price": 0.1,
                "attempt": 1,
                "risk_check": "enable",
                "traffic_type": "free",
                "content_retention": "retain",
                "address_retention": "obfuscate",
            },
        },
    ],
    ids=["text", "unicode", "whatsapp", "schedule", "options"],
)
async def test_a_message_is_accepted_by_the_vendors_contract(
    settings: Callable[..., Any], opened: Callable[..., Any], sms: Callable[..., Any], given: dict[str, Any]
) -> None:
    account = settings(base_url="http://127.0.0.1:4060", messaging_service_sid=SERVICE)
    async with opened(account) as transport:
        message = sms(**given)
        transport.validate(message)
        accepted = await transport.send(message)
    assert accepted.provider_message_id.startswith("SM")
    assert accepted.recipients[0].segments == 1


@pytest.mark.parametrize(
    ("account", "options"),
    [
        ({"account_sid": "ACnot-hex"}, {}),
        ({}, {"content_retention": "for ever"}),
        ({}, {"attempt": "once"}),
        ({}, {"shorten_urls": "perhaps"}),
    ],
    ids=str,
)
async def test_a_bad_parameter_is_refused_by_the_vendors_contract(
    settings: Callable[..., Any],
    opened: Callable[..., Any],
    sms: Callable[..., Any],
    account: dict[str, str],
    options: dict[str, str],
) -> None:
    async with opened(settings(base_url="http://127.0.0.1:4060", **account)) as transport:
        with pytest.raises(MessageRejected) as caught:
            await transport.send(sms(provider_options=options))
    assert caught.value.status == 422
