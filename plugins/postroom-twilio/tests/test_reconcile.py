"""A message that Twilio may have taken is found in its message list, or stays in doubt."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qs

import pytest

from postroom import Accepted, Sms
from postroom.errors import AuthenticationFailed, DeliveryError
from postroom.plugin import UnknownAttempt
from postroom.testing.http import Answer, Drop, HttpRecorder

STARTED = datetime(2026, 11, 23, 12, 0, 10, tzinfo=UTC)
SERVICE = "MG" + "0123456789abcdef" * 2


def entry(sid: str | None = "SM7", after: float = 1.0, **changed: Any) -> dict[str, Any]:
    created = format_datetime(STARTED + timedelta(seconds=after))
    given = {
        "sid": sid,
        "to": "+15005550010",
        "from": "+15005550006",
        "body": "Hello",
        "direction": "outbound-api",
        "status": "queued",
        "num_segments": "1",
        "messaging_service_sid": None,
        "date_created": created,
        "date_sent": None,
    }
    return given | changed


def listed(*entries: dict[str, Any], more: str | None = None) -> Answer:
    return Answer(200, {"messages": list(entries), "next_page_uri": more, "page": 0})


@pytest.fixture
def ask(
    server: HttpRecorder, settings: Callable[..., Any], opened: Callable[..., Any], sms: Callable[..., Any]
) -> Callable[..., Any]:
    """Asks about a message, against a list of these pages."""

    async def asking(
        *pages: Answer | Drop, account: dict[str, str] | None = None, message: Sms | None = None
    ) -> asyncio.Task[Any] | Accepted:
        server.answer(*pages)
        async with opened(settings(base_url=server.url, **(account or {}))) as transport:
            return await transport.reconcile(UnknownAttempt(message or sms(), STARTED))  # type: ignore[no-any-return]

    return asking


async def test_a_message_in_the_list_was_accepted_under_its_sid(ask: Callable[..., Any], server: HttpRecorder) -> None:
    found = await ask(listed(entry()))
    assert found.provider_message_id == "SM7"
    assert found.recipients[0].address == "+15005550010"
    assert found.recipients[0].provider_message_id == "SM7"
    assert "queued" in found.detail
    [request] = server.requests
    assert (request.method, request.path.rpartition("/")[2]) == ("GET", "Messages.json")
    assert parse_qs(request.query) == {"To": ["+15005550010"], "From": ["+15005550006"], "PageSize": ["100"]}


@pytest.mark.parametrize(
    "other",
    [
        {"body": "Hello!"},
        {"to": "+15005550011"},
        {"from": "+15005550007"},
        {"direction": "inbound"},
        {"after": -3},
        {"after": 30 + 61},
        {"date_created": None},
        {"date_created": "yesterday"},
        {"sid": None},
    ],
    ids=str,
)
async def test_another_message_is_not_taken_for_it(ask: Callable[..., Any], other: dict[str, Any]) -> None:
    assert await ask(listed(entry(**other))) is None


async def test_nothing_in_the_list_settles_nothing_since_the_list_may_lag(ask: Callable[..., Any]) -> None:
    assert await ask(listed()) is None


async def test_two_equal_messages_settle_nothing(ask: Callable[..., Any]) -> None:
    assert await ask(listed(entry("SM7"), entry("SM8", after=4))) is None


async def test_a_second_equal_message_on_a_later_page_settles_nothing(
    ask: Callable[..., Any], server: HttpRecorder
) -> None:
    pages = listed(entry("SM7"), more="/2010-04-01/Accounts/x/Messages.json?Page=1"), listed(entry("SM8"))
    assert await ask(*pages) is None
    assert [request.query for request in server.requests][1] == "Page=1"


async def test_pages_are_read_until_they_are_older_than_the_message(
    ask: Callable[..., Any], server: HttpRecorder
) -> None:
    old = listed(*(entry(f"SM{n}", after=-60 * n, body="x") for n in range(1, 4)), more="/next")
    found = await ask(listed(entry("SM9", body="newer"), more="/next"), listed(entry(), more="/next"), old)
    assert found.provider_message_id == "SM7"
    assert len(server.requests) == 3


async def test_a_list_without_end_settles_nothing(ask: Callable[..., Any], server: HttpRecorder) -> None:
    assert await ask(listed(entry("SM7"), more="/more"), listed(entry("SM9", body="x"), more="/more")) is None
    assert len(server.requests) == 10


async def test_the_next_page_is_never_asked_for_at_another_host(ask: Callable[..., Any], server: HttpRecorder) -> None:
    found = await ask(listed(entry(), more="@127.0.0.1:9/steal"))
    assert found.provider_message_id == "SM7"
    assert len(server.requests) == 1


async def test_one_entry_is_never_given_to_two_equal_messages(
    server: HttpRecorder, settings: Callable[..., Any], opened: Callable[..., Any], sms: Callable[..., Any]
) -> None:
    server.answer(listed(entry()))
    async with opened(settings(base_url=server.url)) as transport:
        first = await transport.reconcile(UnknownAttempt(sms(id="a" * 32), STARTED))
        second = await transport.reconcile(UnknownAttempt(sms(id="b" * 32), STARTED))
        again = await transport.reconcile(UnknownAttempt(sms(id="a" * 32), STARTED))
    assert first.provider_message_id == again.provider_message_id == "SM7"
    assert second is None


async def test_an_entry_of_an_accepted_message_is_not_given_to_one_in_doubt(
    server: HttpRecorder, settings: Callable[..., Any], opened: Callable[..., Any], sms: Callable[..., Any]
) -> None:
    server.answer(Answer(201, {"sid": "SM7"}), listed(entry()))
    async with opened(settings(base_url=server.url)) as transport:
        await transport.send(sms(id="a" * 32))
        assert await transport.reconcile(UnknownAttempt(sms(id="b" * 32), STARTED)) is None


async def test_with_a_messaging_service_the_sender_is_left_to_it(
    ask: Callable[..., Any], server: HttpRecorder, sms: Callable[..., Any]
) -> None:
    account = {"messaging_service_sid": SERVICE}
    message = sms(**{"from": None})
    theirs = entry("SM1", messaging_service_sid="MG" + "0" * 32)
    found = await ask(listed(theirs, entry(messaging_service_sid=SERVICE)), account=account, message=message)
    assert found.provider_message_id == "SM7"
    assert parse_qs(server.requests[0].query) == {"To": ["+15005550010"], "PageSize": ["100"]}


async def test_a_whatsapp_message_is_looked_for_under_its_prefix(
    ask: Callable[..., Any], server: HttpRecorder, sms: Callable[..., Any]
) -> None:
    theirs = entry(to="whatsapp:+15005550010") | {"from": "whatsapp:+15005550006"}
    found = await ask(listed(theirs), message=sms(to="whatsapp:+15005550010"))
    assert found.recipients[0].address == "+15005550010"


async def test_a_template_is_not_looked_for_since_its_text_is_not_ours(
    ask: Callable[..., Any], server: HttpRecorder, sms: Callable[..., Any]
) -> None:
    message = sms(body="", provider_options={"content_sid": "HX" + "0" * 32})
    assert await ask(listed(entry(body="")), message=message) is None
    assert server.requests == []


@pytest.mark.parametrize("answer", [Answer(500, {"code": 20500}), Answer(503), Drop("request"), Answer(429)], ids=str)
async def test_a_list_that_cannot_be_read_is_an_error(ask: Callable[..., Any], answer: Answer | Drop) -> None:
    with pytest.raises(DeliveryError):
        await ask(answer)


async def test_refused_credentials_are_told(ask: Callable[..., Any]) -> None:
    with pytest.raises(AuthenticationFailed):
        await ask(Answer(401, {"code": 20003, "message": "Authenticate"}))


@pytest.mark.parametrize("body", [b"[]", b"<html>", {"messages": None}, {"messages": ["SM7", 1, None]}], ids=str)
async def test_a_list_of_another_form_settles_nothing(ask: Callable[..., Any], body: bytes | dict[str, Any]) -> None:
    assert await ask(Answer(200, body)) is None
