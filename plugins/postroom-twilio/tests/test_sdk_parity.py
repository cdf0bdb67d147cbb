"""The form built by hand is the form the Twilio SDK builds."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from twilio.rest import Client
from twilio.rest.api.v2010.account.message import MessageList

from postroom.testing.http import Answer, HttpRecorder
from postroom_twilio.payload import OPTIONS, OWNED

from .conftest import SID, TOKEN

NOW = datetime.now(UTC).replace(microsecond=0)
SCALARS = {
    "provide_feedback": True,
    "force_delivery": False,
    "smart_encoded": True,
    "shorten_urls": False,
    "send_as_mms": True,
    "max_price": 0.25,
    "attempt": 3,
    "validity_period": 77,
    "persistent_action": ["geo:1,2", "geo:3,4"],
}
ALL_OPTIONS = {name: SCALARS.get(name, f"{name} & ü") for name in OPTIONS}


def test_fields_and_options_are_every_parameter_of_the_sdk() -> None:
    parameters = set(inspect.signature(MessageList.create_async).parameters) - {"self"}
    assert set(OPTIONS) | OWNED.keys() == parameters
    assert not set(OPTIONS) & OWNED.keys()


@pytest.mark.parametrize(
    ("message", "account", "parameters"),
    [
        ({}, {}, {"from_": "+15005550006", "body": "Hello"}),
        (
            {"body": "Grüße 👍\r\n+&=%", "media": ["https://example.org/a?b=c&d", "https://example.org/é"]},
            {"status_callback": "https://example.org/x?y=z"},
            {
                "from_": "+15005550006",
                "body": "Grüße 👍\r\n+&=%",
                "media_url": ["https://example.org/a?b=c&d", "https://example.org/é"],
                "status_callback": "https://example.org/x?y=z",
            },
        ),
        (
            {"send_at": NOW + timedelta(hours=1), "expires_at": NOW + timedelta(hours=2)},
            {"messaging_service_sid": "MG1"},
            {
                "from_": "+15005550006",
                "body": "Hello",
                "send_at": NOW + timedelta(hours=1),
                "schedule_type": "fixed",
                "validity_period": 3600,
                "messaging_service_sid": "MG1",
            },
        ),
        ({"provider_options": ALL_OPTIONS}, {}, {"from_": "+15005550006", "body": "Hello", **ALL_OPTIONS}),
    ],
    ids=["text", "media", "schedule", "every option"],
)
async def test_the_form_is_the_sdks(
    server: HttpRecorder,
    settings: Callable[..., Any],
    opened: Callable[..., Any],
    sms: Callable[..., Any],
    message: dict[str, Any],
    account: dict[str, str],
    parameters: dict[str, Any],
) -> None:
    logging.getLogger("twilio.http_client").setLevel(logging.WARNING)
    server.answer(Answer(201, {"sid": "SM1"}))
    client = Client(SID, TOKEN)
    client.api.base_url = server.url
    await asyncio.to_thread(client.messages.create, to="+15005550010", **parameters)
    client.http_client.session.close()
    async with opened(settings(base_url=server.url, **account)) as transport:
        await transport.send(sms(**message))
    theirs, ours = server.requests
    assert sorted(ours.form()) == sorted(theirs.form())
    for name in ("authorization", "content-type", "accept"):
        assert ours.headers[name] == theirs.headers[name]
    assert (ours.method, ours.target) == (theirs.method, theirs.target)
