"""SendGrid's own contract: its OpenAPI description, served by a validating mock on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from postroom import Attachment, Email
from postroom.errors import MessageRejected, Outcome
from postroom.receipts import Accepted
from postroom_sendgrid.transport import SendGridEmail

if TYPE_CHECKING:
    from .conftest import Opener


MOCK = "http://127.0.0.1:4061"
pytestmark = pytest.mark.system("sendgrid")


@pytest.fixture
async def vendor(open_sendgrid: Opener) -> AsyncIterator[SendGridEmail]:
    async with open_sendgrid(MOCK, timeout=20) as transport:
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
    {"to": ["Ann Übel <ann@example.org>", "bo@müller.example"], "subject": "Grüße 📮", "text": "Ünïcode \u2028"},
    {"to": [f"a{n}@example.org" for n in range(1000)]},
    {"headers": {"X-Note": "Grüße", "List-Unsubscribe": "<https://example.org/u>"}, "priority": "low"},
    {
        "to": ["ann@example.org", "bo@example.org"],
        "cc": "c@example.org",
        "template": "d-1",
        "merge_data": {"bo@example.org": {"items": [{"n": 1.5, "ok": None}]}},
    },
    {"template": "d-1", "text": None},
    {"category": "marketing", "provider_options": {"mail_settings": {"footer": {"enable": True}}, "batch_id": "b"}},
    {"provider_options": {"asm": {"group_id": 1}, "ip_pool_name": "pool", "tracking_settings": {}}},
]


@pytest.mark.parametrize("fields", SHAPES, ids=lambda fields: "+".join(fields) or "plain")
async def test_the_contract_accepts_every_shape_we_send(
    vendor: SendGridEmail, email: Callable[..., Email], fields: dict[str, Any]
) -> None:
    message = email(**fields)
    vendor.validate(message)
    assert isinstance(await vendor.send(message), Accepted)


async def test_the_contract_accepts_a_bulk_call(vendor: SendGridEmail, email: Callable[..., Email]) -> None:
    batch = [
        email(
            to=f"a{n}@example.org",
            subject=f"News {n}",
            id=f"id-{n}",
            metadata={"n": str(n)},
            headers={"X-N": str(n)},
            send_at=datetime.now(UTC) + timedelta(hours=1 + n / 100),
        )
        for n in range(1000)
    ]
    assert all(isinstance(answer, Accepted) for answer in await vendor.send_many(batch))


async def test_the_contract_accepts_the_sandbox(open_sendgrid: Opener, email: Callable[..., Email]) -> None:
    async with open_sendgrid(MOCK, timeout=20, sandbox=True) as transport:
        assert isinstance(await transport.send(email()), Accepted)


@pytest.mark.parametrize(
    "fields",
    [
        {"provider_options": {"asm": {"group_id": "not a number"}}},
        {"provider_options": {"mail_settings": {"footer": {"enable": "yes"}}}},
        {"provider_options": {"ip_pool_name": "x"}},
        {"subject": ""},
        {"tags": [str(n) for n in range(11)]},
        {"tags": ["x" * 256]},
        {"attachments": [Attachment(filename="empty", content=b"")]},
    ],
)
async def test_what_the_contract_refuses_is_rejected_in_the_contracts_own_words(
    vendor: SendGridEmail, email: Callable[..., Email], fields: dict[str, Any]
) -> None:
    """Handed over without our own check, which refuses most of these before the wire."""
    with pytest.raises(MessageRejected) as caught:
        await vendor.send(email(**fields))
    assert caught.value.status == 400
    assert caught.value.outcome is Outcome.PERMANENT
    assert caught.value.detail == "error message (field_name)"


async def test_the_contract_refuses_a_bulk_call_whole_and_once(
    vendor: SendGridEmail, email: Callable[..., Email]
) -> None:
    batch = [email(to=f"a{n}@example.org", provider_options={"ip_pool_name": "x"}) for n in range(3)]
    assert all(isinstance(answer, MessageRejected) for answer in await vendor.send_many(batch))
