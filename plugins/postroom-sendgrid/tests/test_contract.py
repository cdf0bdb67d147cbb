"""SendGrid's own contract: its OpenAPI description, served by a validating mock on loopback."""

from __future__ import annotations

import socket
from datetime import UTC, datetime, timedelta

import pytest

from postroom import Attachment
from postroom.errors import MessageRejected
from postroom.receipts import Accepted

MOCK = ("127.0.0.1", 4061)


def mock_is_up() -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(MOCK) == 0


pytestmark = pytest.mark.skipif(not mock_is_up(), reason="the vendor's mock does not listen on 127.0.0.1:4061")


@pytest.fixture
async def vendor(open_sendgrid):
    async with open_sendgrid(f"http://{MOCK[0]}:{MOCK[1]}", timeout=20) as transport:
        yield transport


SHAPES = [
    {},
    {"cc": "c@example.org", "bcc": "b@example.org", "reply_to": "r@example.org"},
    {"reply_to": ["r@example.org", "s@example.org"]},
    {"html": "<p>x</p>", "amp": "<html amp4email></html>", "calendar": "BEGIN:VCALENDAR\nEND:VCALENDAR"},
    {"template": "d-1", "text": None, "merge_data": {"ann@example.org": {"name": "Ann"}}},
    {"tags": ["a", "b"], "metadata": {"k": "v"}, "headers": {"X-A": "1"}, "priority": "high"},
    {"send_at": datetime.now(UTC) + timedelta(hours=1)},
    {
        "attachments": [
            Attachment(filename="ü.txt", content=b"x"),
            Attachment(filename="i.png", content=b"x", inline=True),
        ]
    },
    {"provider_options": {"asm": {"group_id": 1}, "ip_pool_name": "pool", "tracking_settings": {}}},
]


@pytest.mark.parametrize("fields", SHAPES, ids=lambda fields: "+".join(fields) or "plain")
async def test_the_contract_accepts_every_shape_we_send(vendor, email, fields):
    message = email(**fields)
    vendor.validate(message)
    assert isinstance(await vendor.send(message), Accepted)


async def test_the_contract_refuses_a_wrong_field_and_we_say_so(vendor, email):
    with pytest.raises(MessageRejected) as caught:
        await vendor.send(email(provider_options={"asm": {"group_id": "not a number"}}))
    assert caught.value.status in {400, 422}
