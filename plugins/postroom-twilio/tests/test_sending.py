"""What goes over the wire for a message, and what comes back as a yes."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from postroom import Sms
from postroom.errors import InvalidOption, MessageError, Outcome
from postroom.testing.http import Answer, HttpRecorder
from postroom_twilio.transport import TwilioSms

SERVICE = "MG" + "0" * 32


async def sent(server: HttpRecorder, transport: TwilioSms, message: Sms) -> dict[str, list[str]]:
    """Validate and send as the core does; return the form as a dict of lists."""
    transport.validate(message)
    await transport.send(message)
    [request] = server.requests
    fields: dict[str, Any] = {}
    for name, value in request.form():
        fields.setdefault(name, []).append(value)
    return fields


async def test_a_text_is_one_authenticated_form_post(
    server: HttpRecorder, transport: TwilioSms, sms: Callable[..., Any]
) -> None:
    fields = await sent(server, transport, sms(body="Grüße & 100 % + 1"))
    [request] = server.requests
    assert (request.method, request.path) == (
        "POST",
        f"/2010-04-01/Accounts/{transport.settings.account_sid}/Messages.json",
    )
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    kind, _, credentials = request.headers["authorization"].partition(" ")
    assert (kind, b64decode(credentials).decode()) == ("Basic", f"{transport.settings.account_sid}:s3cr3t-t0k3n")
    assert fields == {"To": ["+15005550010"], "From": ["+15005550006"], "Body": ["Grüße & 100 % + 1"]}


async def test_an_api_key_replaces_the_token(
    server: HttpRecorder, settings: Callable[..., Any], opened: Callable[..., Any], sms: Callable[..., Any]
) -> None:
    server.answer(Answer(201, {"sid": "SM1"}))
    given = settings(base_url=server.url, api_key="SK1", api_secret="hush")
    async with opened(given) as transport:
        await transport.send(sms())
    [request] = server.requests
    assert b64decode(request.headers["authorization"].split()[1]) == b"SK1:hush"
    assert f"/Accounts/{given.account_sid}/" in request.path


async def test_a_created_message_is_accepted_with_sid_segments_and_request_id(
    transport: TwilioSms, sms: Callable[..., Any]
) -> None:
    accepted = await transport.send(sms())
    [result] = accepted.recipients
    assert (accepted.provider_message_id, accepted.request_id, accepted.detail) == ("SM1", "RQ1", "queued")
    assert (result.address, result.outcome, result.provider_message_id) == ("+15005550010", Outcome.ACCEPTED, "SM1")
    assert (result.segments, result.status) == (2, 201)


async def test_segments_not_counted_yet_are_not_reported(
    server: HttpRecorder, settings: Callable[..., Any], opened: Callable[..., Any], sms: Callable[..., Any]
) -> None:
    server.answer(Answer(201, {"sid": "SM1", "num_segments": "0"}))
    async with opened(settings(base_url=server.url)) as transport:
        accepted = await transport.send(sms())
    assert accepted.recipients[0].segments is None


async def test_media_are_repeated_fields(server: HttpRecorder, transport: TwilioSms, sms: Callable[..., Any]) -> None:
    media = ["https://example.org/a.png", "https://example.org/b?x=1&y=2"]
    fields = await sent(server, transport, sms(body="", media=media))
    assert fields["MediaUrl"] == media
    assert "Body" not in fields


async def test_whatsapp_prefixes_both_addresses_once(
    server: HttpRecorder, transport: TwilioSms, sms: Callable[..., Any]
) -> None:
    fields = await sent(server, transport, sms(to="whatsapp:+15005550010", **{"from": "whatsapp:+15005550006"}))
    assert (fields["To"], fields["From"]) == (["whatsapp:+15005550010"], ["whatsapp:+15005550006"])


async def test_a_messaging_service_and_a_status_callback_of_the_account_go_along(
    server: HttpRecorder, settings: Callable[..., Any], opened: Callable[..., Any], sms: Callable[..., Any]
) -> None:
    server.answer(Answer(201, {"sid": "SM1"}))
    given = settings(base_url=server.url, messaging_service_sid=SERVICE, status_callback="https://example.org/t?a=b")
    async with opened(given) as transport:
        fields = await sent(server, transport, sms(**{"from": None}))
    assert fields["MessagingServiceSid"] == [SERVICE]
    assert fields["StatusCallback"] == ["https://example.org/t?a=b"]
    assert "From" not in fields


async def test_a_schedule_is_sent_in_utc_with_its_type(
    server: HttpRecorder, settings: Callable[..., Any], opened: Callable[..., Any], sms: Callable[..., Any]
) -> None:
    server.answer(Answer(201, {"sid": "SM1"}))
    when = datetime.now(timezone(timedelta(hours=5, minutes=30))) + timedelta(hours=1)
    async with opened(settings(base_url=server.url, messaging_service_sid=SERVICE)) as transport:
        fields = await sent(server, transport, sms(send_at=when))
    assert fields["SendAt"] == [when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")]
    assert fields["ScheduleType"] == ["fixed"]


async def test_a_schedule_that_has_come_is_sent_at_once(
    server: HttpRecorder, transport: TwilioSms, sms: Callable[..., Any]
) -> None:
    fields = await sent(server, transport, sms(send_at=datetime.now(UTC) - timedelta(seconds=1)))
    assert not {"SendAt", "ScheduleType"} & fields.keys()


async def test_an_expiry_bounds_the_wait_in_the_queue(
    server: HttpRecorder, transport: TwilioSms, sms: Callable[..., Any]
) -> None:
    fields = await sent(server, transport, sms(expires_at=datetime.now(UTC) + timedelta(minutes=10)))
    assert 595 <= int(fields["ValidityPeriod"][0]) <= 600


async def test_an_expiry_of_a_scheduled_message_counts_from_its_schedule(
    server: HttpRecorder, settings: Callable[..., Any], opened: Callable[..., Any], sms: Callable[..., Any]
) -> None:
    server.answer(Answer(201, {"sid": "SM1"}))
    when = datetime.now(UTC) + timedelta(hours=1)
    async with opened(settings(base_url=server.url, messaging_service_sid=SERVICE)) as transport:
        fields = await sent(server, transport, sms(send_at=when, expires_at=when + timedelta(seconds=90)))
    assert fields["ValidityPeriod"] == ["90"]


async def test_an_expiry_beyond_twilios_queue_needs_no_field(
    server: HttpRecorder, transport: TwilioSms, sms: Callable[..., Any]
) -> None:
    fields = await sent(server, transport, sms(expires_at=datetime.now(UTC) + timedelta(days=2)))
    assert "ValidityPeriod" not in fields


async def test_provider_options_are_sent_under_twilios_names_and_win_over_the_account(
    server: HttpRecorder, settings: Callable[..., Any], opened: Callable[..., Any], sms: Callable[..., Any]
) -> None:
    server.answer(Answer(201, {"sid": "SM1"}))
    options = {
        "content_sid": "HX1",
        "content_variables": {"1": "Ann"},
        "shorten_urls": True,
        "max_price": 0.5,
        "persistent_action": ["geo:1,2", "geo:3,4"],
        "status_callback": "https://example.org/mine",
        "risk_check": None,
    }
    async with opened(settings(base_url=server.url, status_callback="https://example.org/ours")) as transport:
        fields = await sent(server, transport, sms(body="", provider_options=options))
    assert fields["ContentSid"] == ["HX1"]
    assert fields["ContentVariables"] == ['{"1": "Ann"}']
    assert fields["ShortenUrls"] == ["true"]
    assert fields["MaxPrice"] == ["0.5"]
    assert fields["PersistentAction"] == ["geo:1,2", "geo:3,4"]
    assert fields["StatusCallback"] == ["https://example.org/mine"]
    assert "RiskCheck" not in fields


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"statuscallback": "x"}, "did you mean 'status_callback'?"),
        ({"ShortenUrls": True}, "did you mean 'shorten_urls'?"),
        ({"qwxz": 1}, "no such parameter"),
        ({"body": "other"}, "use the message's field body"),
        ({"media_url": []}, "use the message's field media"),
        ({"persistent_action": [1]}, "text only"),
    ],
)
async def test_an_option_twilio_has_not_is_refused_before_anything_is_sent(
    server: HttpRecorder, transport: TwilioSms, sms: Callable[..., Any], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidOption) as caught:
        transport.validate(sms(provider_options=options))
    assert said in str(caught.value)
    assert str(caught.value).startswith(f"provider_options.{next(iter(options))}: ")
    with pytest.raises(InvalidOption):
        await transport.send(sms(provider_options=options))
    assert server.requests == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"body": "é" * 1601}, "1,601 characters"),
        ({"media": ["https://example.org/a"] * 11}, "11 media"),
        ({"from": None}, "no sender"),
        ({"send_at": timedelta(hours=1)}, "messaging_service_sid"),
        ({"send_at": timedelta(minutes=2)}, "between 5 minutes and 35 days"),
        ({"send_at": timedelta(days=36)}, "between 5 minutes and 35 days"),
        ({"expires_at": timedelta(0)}, "expires_at is past"),
    ],
)
async def test_what_twilio_cannot_send_is_refused_with_the_reason(
    transport: TwilioSms, sms: Callable[..., Any], given: dict[str, Any], said: str
) -> None:
    given = {name: datetime.now(UTC) + v if isinstance(v, timedelta) else v for name, v in given.items()}
    with pytest.raises(MessageError, match=said):
        transport.validate(sms(**given))


async def test_limits_are_inclusive(transport: TwilioSms, sms: Callable[..., Any]) -> None:
    transport.validate(sms(body="x" * 1600, media=["https://example.org/a"] * 10))


async def test_a_service_named_by_the_message_is_a_sender_and_may_schedule(
    transport: TwilioSms, sms: Callable[..., Any]
) -> None:
    options = {"messaging_service_sid": SERVICE}
    when = datetime.now(UTC) + timedelta(hours=1)
    transport.validate(sms(**{"from": None}, send_at=when, provider_options=options))


async def test_check_reads_the_account_and_sends_nothing(
    server: HttpRecorder, settings: Callable[..., Any], opened: Callable[..., Any]
) -> None:
    server.answer(Answer(200, {"status": "active", "friendly_name": "Acme"}), Answer(200, {"status": "suspended"}))
    async with opened(settings(base_url=server.url)) as transport:
        report, suspended = await transport.check(), await transport.check()
    assert (report.ok, report.summary) == (True, "account 'Acme' is active")
    assert not suspended.ok
    assert [(r.method, r.path) for r in server.requests] == [
        ("GET", f"/2010-04-01/Accounts/{transport.settings.account_sid}.json")
    ] * 2


async def test_check_with_an_api_key_reads_what_such_a_key_may(
    server: HttpRecorder, settings: Callable[..., Any], opened: Callable[..., Any]
) -> None:
    server.answer(Answer(200, {"messages": []}))
    async with opened(settings(base_url=server.url, api_key="SK1", api_secret="hush")) as transport:
        assert (await transport.check()).ok
    [request] = server.requests
    assert (request.method, request.path.rpartition("/")[2], request.query) == ("GET", "Messages.json", "PageSize=1")


async def test_check_of_something_that_is_not_twilio_is_not_ok(
    server: HttpRecorder, settings: Callable[..., Any], opened: Callable[..., Any]
) -> None:
    server.answer(Answer(200, "<html>hello</html>"))
    async with opened(settings(base_url=server.url)) as transport:
        report = await transport.check()
    assert not report.ok
    assert "base_url" in report.summary
