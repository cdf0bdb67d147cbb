"""Twilio's webhooks: verified over the public URL and every field, then read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twilio.request_validator import RequestValidator

from postroom.errors import PayloadInvalid, SignatureInvalid, WebhookError
from postroom.events import EventType
from postroom.plugin import Resources, WebhookRequest
from postroom.receipts import Channel
from postroom_twilio.settings import TwilioSettings
from postroom_twilio.transport import TwilioSms

URL = "https://post.example.org/v1/webhooks/texts"
SID = "AC" + "0123456789abcdef" * 2
MESSAGE = "SM" + "0123456789abcdef" * 2
TOKEN = "s3cr3t-t0k3n"
FORM = "application/x-www-form-urlencoded"

STATUS = {
    "SmsSid": MESSAGE,
    "SmsStatus": "delivered",
    "MessageStatus": "delivered",
    "To": "+15005550010",
    "MessageSid": MESSAGE,
    "AccountSid": SID,
    "From": "+15005550006",
    "ApiVersion": "2010-04-01",
}
INCOMING = {
    "ToCountry": "US",
    "SmsMessageSid": MESSAGE,
    "NumMedia": "0",
    "SmsSid": MESSAGE,
    "SmsStatus": "received",
    "Body": "Thanks & see you",
    "To": "+15005550006",
    "NumSegments": "1",
    "MessageSid": MESSAGE,
    "AccountSid": SID,
    "From": "+15005550010",
    "ApiVersion": "2010-04-01",
}


def posted(
    fields: dict[str, str], *, token: str = TOKEN, url: str = URL, signed_url: str | None = None, **changed: Any
) -> WebhookRequest:
    signature = RequestValidator(token).compute_signature(signed_url or url, fields)
    given = {"headers": {"x-twilio-signature": signature, "content-type": f"{FORM}; charset=UTF-8"}}
    return WebhookRequest(**{"method": "POST", "url": url, "body": urlencode(fields).encode(), **given, **changed})


def posted_json(body: Any, *, hashed: bytes | None = None, token: str = TOKEN) -> WebhookRequest:
    raw = json.dumps(body).encode()
    url = f"{URL}?bodySHA256={hashlib.sha256(raw if hashed is None else hashed).hexdigest()}"
    headers = {
        "x-twilio-signature": RequestValidator(token).compute_signature(url, {}),
        "content-type": "application/json",
    }
    return WebhookRequest("POST", url, headers, raw)


def transport_of(**given: Any) -> TwilioSms:
    account = {"provider": "twilio", "account_sid": SID, "auth_token": TOKEN, "from": "+15005550006"} | given
    return TwilioSms("texts", TwilioSettings(**account), Resources())


@pytest.fixture
def read() -> Callable[..., Any]:
    return transport_of().parse_webhook


def test_a_status_callback_says_what_became_of_which_message(read: Callable[..., Any]) -> None:
    [event] = read(posted(STATUS))
    assert event.type is EventType.DELIVERED
    assert (event.channel, event.provider, event.account) == (Channel.SMS, "twilio", "texts")
    assert (event.provider_message_id, event.recipient, event.code) == (MESSAGE, "+15005550010", "delivered")
    assert event.raw == STATUS
    assert not event.dated


@pytest.mark.parametrize(
    ("status", "code", "expected", "permanent"),
    [
        ("accepted", None, EventType.SENT, None),
        ("queued", None, EventType.SENT, None),
        ("sending", None, EventType.SENT, None),
        ("sent", None, EventType.SENT, None),
        ("delivered", "0", EventType.DELIVERED, None),
        ("read", None, EventType.READ, None),
        ("undelivered", "30005", EventType.BOUNCED, True),
        ("undelivered", "30003", EventType.BOUNCED, False),
        ("undelivered", "30007", EventType.BOUNCED, None),
        ("failed", "30001", EventType.BOUNCED, False),
        ("failed", None, EventType.BOUNCED, None),
        ("canceled", None, EventType.OTHER, None),
        ("levitated", None, EventType.OTHER, None),
    ],
)
def test_every_status_has_its_word(
    read: Callable[..., Any], status: str, code: str | None, expected: EventType, permanent: bool | None
) -> None:
    fields = STATUS | {"MessageStatus": status, "SmsStatus": status} | ({"ErrorCode": code} if code else {})
    [event] = read(posted(fields))
    assert (event.type, event.permanent) == (expected, permanent)
    assert event.code == (code if code and code != "0" else status)


def test_an_incoming_message_has_its_sender_and_text(read: Callable[..., Any]) -> None:
    [event] = read(posted(INCOMING))
    assert event.type is EventType.INBOUND
    assert (event.sender, event.recipient, event.text) == ("+15005550010", "+15005550006", "Thanks & see you")


@pytest.mark.parametrize(
    ("wish", "expected"),
    [("STOP", EventType.UNSUBSCRIBED), ("START", EventType.SUBSCRIBED), ("HELP", None)],
)
def test_what_advanced_opt_out_understood_is_an_event_of_its_own(
    read: Callable[..., Any], wish: str, expected: EventType | None
) -> None:
    incoming, *more = read(posted(INCOMING | {"Body": "ARRET", "OptOutType": wish}))
    assert incoming.type is EventType.INBOUND
    assert [(event.type, event.recipient) for event in more] == ([(expected, "+15005550010")] if expected else [])


def test_a_whatsapp_address_is_told_as_a_number(read: Callable[..., Any]) -> None:
    [event] = read(posted(INCOMING | {"From": "whatsapp:+15005550010", "To": "whatsapp:+15005550006"}))
    assert (event.sender, event.recipient) == ("+15005550010", "+15005550006")


def test_a_repeat_is_known_as_one_and_another_status_is_not(read: Callable[..., Any]) -> None:
    first, again = read(posted(STATUS))[0], read(posted(STATUS))[0]
    other = read(posted(STATUS | {"MessageStatus": "sent"}))[0]
    assert first.fingerprint == again.fingerprint != other.fingerprint


def test_a_field_that_is_there_several_times_is_signed_once_and_kept_whole(read: Callable[..., Any]) -> None:
    fields = {**STATUS, "Tag": "a"}
    body = urlencode(fields).encode() + b"&Tag=a"
    [event] = read(posted(fields, body=body))
    assert event.raw["Tag"] == ["a", "a"]


def test_a_json_webhook_is_verified_by_the_hash_of_its_body(read: Callable[..., Any]) -> None:
    [event] = read(posted_json(STATUS))
    assert (event.type, event.provider_message_id) == (EventType.DELIVERED, MESSAGE)


def test_a_json_webhook_with_another_body_is_refused(read: Callable[..., Any]) -> None:
    with pytest.raises(SignatureInvalid):
        read(posted_json(STATUS, hashed=b"{}"))


def test_a_json_webhook_whose_url_hashes_no_body_is_refused(read: Callable[..., Any]) -> None:
    request = posted({}, body=json.dumps(STATUS).encode())
    headers = {**request.headers, "content-type": "application/json"}
    with pytest.raises(SignatureInvalid, match="bodySHA256"):
        read(WebhookRequest("POST", URL, headers, request.body))


def test_a_get_is_verified_over_its_query(read: Callable[..., Any]) -> None:
    url = f"{URL}?{urlencode(STATUS)}"
    signature = RequestValidator(TOKEN).compute_signature(url, {})
    [event] = read(WebhookRequest("GET", url, {"x-twilio-signature": signature}, b""))
    assert event.type is EventType.DELIVERED


@pytest.mark.parametrize("signed_url", ["https://post.example.org:443/v1/webhooks/texts", URL])
def test_twilio_may_sign_with_or_without_the_port(read: Callable[..., Any], signed_url: str) -> None:
    assert read(posted(STATUS, signed_url=signed_url))


@pytest.mark.parametrize("digits", ["1234", "1235"])
def test_the_published_vector_is_verified_and_one_changed_digit_is_not(digits: str) -> None:
    """Twilio docs, "Webhooks security": the example of a signature; it is about a call, so it is no event."""
    fields = {"CallSid": "CA1234567890ABCDE", "Caller": "+12349013030", "Digits": digits, "From": "+12349013030"}
    request = WebhookRequest(
        "POST",
        "https://mycompany.com/myapp.php?foo=1&bar=2",
        {"content-type": FORM, "x-twilio-signature": "0/KCTR6DLpKmkAf8muzZqo1nDgQ="},
        urlencode(fields | {"To": "+18005551212"}).encode(),
    )
    with pytest.raises(PayloadInvalid if digits == "1234" else SignatureInvalid):
        transport_of(auth_token="12345").parse_webhook(request)


def test_the_other_token_of_a_rotation_is_taken_too() -> None:
    rotating = transport_of(secondary_auth_token="the-next-token")
    for token in (TOKEN, "the-next-token"):
        assert rotating.parse_webhook(posted(STATUS, token=token))


@pytest.mark.parametrize(
    "request_",
    [
        posted(STATUS, token="another account's"),
        posted(STATUS, headers={}),
        posted(STATUS, headers={"x-twilio-signature": ""}),
        posted(STATUS, headers={"x-twilio-signature": "ünsigned"}),
        posted(STATUS, signed_url="https://elsewhere.example.org/v1/webhooks/texts"),
        posted(STATUS, body=urlencode(STATUS | {"MessageStatus": "failed"}).encode()),
        posted(STATUS, body=urlencode(STATUS).encode() + b"&Extra=1"),
        posted(STATUS, body=b"\xff\xfe"),
        posted(STATUS, url="https://post.example.org:99999/x", signed_url=URL),
        posted(STATUS, body=b"a=1&" * 2000),
    ],
    ids=["token", "unsigned", "empty", "unicode", "host", "tampered", "extra", "bytes", "port", "fields"],
)
def test_what_is_not_signed_as_it_stands_is_refused(read: Callable[..., Any], request_: WebhookRequest) -> None:
    with pytest.raises(SignatureInvalid, match="^texts: ") as caught:
        read(request_)
    assert TOKEN not in str(caught.value)


def test_an_account_without_a_token_takes_no_webhooks() -> None:
    bare = transport_of(auth_token=None, api_key="SK1", api_secret="s")
    with pytest.raises(SignatureInvalid, match="set auth_token"):
        bare.parse_webhook(posted(STATUS, token=""))


@pytest.mark.parametrize("fields", [{}, {"Hello": "1"}, {"MessageSid": ""}], ids=str)
def test_what_is_signed_and_about_no_message_is_unreadable(read: Callable[..., Any], fields: dict[str, str]) -> None:
    with pytest.raises(PayloadInvalid):
        read(posted(fields))


@pytest.mark.parametrize("body", [[], None, "x", [[]]], ids=str)
def test_a_signed_json_body_of_another_form_is_unreadable(
    read: Callable[..., Any], body: list[Any] | str | None
) -> None:
    with pytest.raises(PayloadInvalid):
        read(posted_json(body))


def test_a_body_beyond_all_messages_is_refused_unread(read: Callable[..., Any]) -> None:
    with pytest.raises(PayloadInvalid, match="bytes"):
        read(posted(STATUS, body=b"a" * 1_048_577))


@given(st.dictionaries(st.text(max_size=8) | st.sampled_from(sorted(STATUS)), st.text(max_size=12), max_size=6))
def test_any_signed_form_is_events_or_a_webhook_error(fields: dict[str, str]) -> None:
    try:
        events = transport_of().parse_webhook(posted(fields))
    except WebhookError:
        return
    for event in events:
        assert event.fingerprint
        assert event.model_dump_json()


@given(st.recursive(st.none() | st.floats() | st.text(max_size=5) | st.integers(), st.lists, max_leaves=5))
def test_any_signed_json_is_events_or_a_webhook_error(value: Any) -> None:
    try:
        events = transport_of().parse_webhook(posted_json({"MessageSid": MESSAGE, "MessageStatus": value, "To": value}))
    except WebhookError:
        return
    assert all(event.fingerprint and event.model_dump_json() for event in events)


@given(st.binary(max_size=64), st.text(st.characters(), max_size=20), st.sampled_from([FORM, "application/json", "x"]))
def test_any_bytes_without_a_signature_are_refused(body: bytes, signature: str, kind: str) -> None:
    headers = {"x-twilio-signature": signature, "content-type": kind}
    with pytest.raises(SignatureInvalid):
        transport_of().parse_webhook(WebhookRequest("POST", URL, headers, body))
    with pytest.raises(SignatureInvalid):
        transport_of().parse_webhook(WebhookRequest("GET", f"https://[/?{signature}", headers, body))
