"""SendGrid's Event Webhook: verified over timestamp and raw body, then read."""

from __future__ import annotations

import json
import time
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from sendgrid.helpers.eventwebhook import EventWebhook

from postroom.errors import PayloadInvalid, SignatureInvalid, WebhookError
from postroom.events import EventType
from postroom.plugin import Resources, WebhookRequest
from postroom.receipts import Channel
from postroom_sendgrid.settings import SendGridSettings
from postroom_sendgrid.transport import SendGridEmail

KEY, OTHER_KEY = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
ID = "0123456789abcdef0123456789abcdef"
ABOUT = {
    "email": "ann@example.org",
    "timestamp": 1_700_000_000,
    "smtp-id": "<14c5d75ce93.dfd.64b469@ismtpd-555>",
    "category": ["parcels"],
    "sg_event_id": "ZXZlbnQ",
    "sg_message_id": "Q2HhzZs7RwaEV_-QKvS9Dg.recvd-5f54b5d587-5lklm-1-68C1.0",
    "postroom_id": ID,
}

VECTOR_KEY = (
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVpiglSI8eNEc6"
    "wEA3F+g=="
)
VECTOR = WebhookRequest(
    "POST",
    "https://post.example.org/v1/webhooks/sg",
    {
        "x-twilio-email-event-webhook-signature": (
            "MEUCIGHQVtGj+Y3LkG9fLcxf3qfI10QysgDWmMOVmxG0u6ZUAiEAyBiXDWzM+uOe5W0JuG+luQAbPIqHh89M15TluLtEZtM="
        ),
        "x-twilio-email-event-webhook-timestamp": "1600112502",
    },
    b'[{"email":"hello@world.com","event":"dropped","reason":"Bounced Address",'
    b'"sg_event_id":"ZHJvcC0xMDk5NDkxOS1MUnpYbF9OSFN0T0doUTRrb2ZTbV9BLTA",'
    b'"sg_message_id":"LRzXl_NHStOGhQ4kofSm_A.filterdrecv-p3mdw1-756b745b58-kmzbl-18-5F5FC76C-9.0",'
    b'"smtp-id":"<LRzXl_NHStOGhQ4kofSm_A@ismtpd0039p1iad1.sendgrid.net>","timestamp":1600112492}]\r\n',
)
"""Key, signature, timestamp and body of the tests of SendGrid's own libraries."""


def shown(key: ec.EllipticCurvePrivateKey) -> str:
    """A verification key as SendGrid's settings show it."""
    return b64encode(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()


def posted(
    signed: bytes | list[dict[str, Any]],
    *,
    key: ec.EllipticCurvePrivateKey = KEY,
    timestamp: str | None = None,
    **changed: Any,
) -> WebhookRequest:
    timestamp = str(int(time.time())) if timestamp is None else timestamp
    raw = signed if isinstance(signed, bytes) else json.dumps(signed).encode()
    headers = {
        "content-type": "application/json",
        "x-twilio-email-event-webhook-signature": b64encode(
            key.sign(timestamp.encode() + raw, ec.ECDSA(SHA256()))
        ).decode(),
        "x-twilio-email-event-webhook-timestamp": timestamp,
    }
    given = {"method": "POST", "url": "https://post.example.org/v1/webhooks/sg", "headers": headers, "body": raw}
    return WebhookRequest(**given | changed)


def transport_of(**given: Any) -> SendGridEmail:
    settings = SendGridSettings.model_validate({"api_key": "SG.x", "webhook_public_key": shown(KEY)} | given)
    return SendGridEmail("sg", settings, Resources())


@pytest.fixture
def read() -> Callable[..., Any]:
    return transport_of().parse_webhook


def test_an_event_says_what_became_of_which_message(read: Callable[..., Any]) -> None:
    [event] = read(posted([{**ABOUT, "event": "delivered", "response": "250 OK"}]))
    assert event.type is EventType.DELIVERED
    assert (event.channel, event.provider, event.account) == (Channel.EMAIL, "sendgrid", "sg")
    assert (event.message_id, event.provider_message_id) == (ID, "Q2HhzZs7RwaEV_-QKvS9Dg")
    assert (event.recipient, event.detail) == ("ann@example.org", "250 OK")
    assert (event.occurred_at, event.dated) == (datetime.fromtimestamp(1_700_000_000, UTC), True)
    assert event.raw["sg_event_id"] == "ZXZlbnQ"


@pytest.mark.parametrize(
    ("told", "expected", "permanent"),
    [
        ({"event": "processed"}, EventType.SENT, None),
        ({"event": "deferred", "response": "400 try again later", "attempt": "5"}, EventType.DEFERRED, None),
        ({"event": "bounce", "type": "bounce", "status": "5.0.0"}, EventType.BOUNCED, True),
        ({"event": "bounce", "type": "blocked", "status": "5.7.1"}, EventType.BOUNCED, False),
        ({"event": "blocked", "status": "4.0.0"}, EventType.BOUNCED, False),
        ({"event": "dropped", "reason": "Bounced Address", "status": "5.0.0"}, EventType.REJECTED, None),
        ({"event": "open", "sg_machine_open": False}, EventType.OPENED, None),
        ({"event": "click", "url": "https://example.org/a"}, EventType.CLICKED, None),
        ({"event": "spamreport"}, EventType.COMPLAINED, None),
        ({"event": "unsubscribe"}, EventType.UNSUBSCRIBED, None),
        ({"event": "group_unsubscribe", "asm_group_id": 10}, EventType.UNSUBSCRIBED, None),
        ({"event": "group_resubscribe", "asm_group_id": 10}, EventType.SUBSCRIBED, None),
        ({"event": "levitated"}, EventType.OTHER, None),
        ({"event": ["open"]}, EventType.OTHER, None),
        ({}, EventType.OTHER, None),
    ],
    ids=str,
)
def test_every_event_has_its_word(
    read: Callable[..., Any], told: dict[str, Any], expected: EventType, permanent: bool | None
) -> None:
    [event] = read(posted([{**ABOUT, **told}]))
    assert (event.type, event.permanent, event.code) == (expected, permanent, told.get("status") or event.code)
    assert event.detail == (told.get("url") or told.get("reason") or told.get("response"))


def test_an_unknown_event_does_not_cost_the_others(read: Callable[..., Any]) -> None:
    events = read(posted([{**ABOUT, "event": name} for name in ("delivered", "levitated", "open")]))
    assert [event.type for event in events] == [EventType.DELIVERED, EventType.OTHER, EventType.OPENED]


@pytest.mark.parametrize(
    ("told", "handle"),
    [
        ("14c5d75ce93.dfd.64b469.filter0001.16648.5515E0B88.0", "14c5d75ce93.dfd.64b469"),
        ("LRzXl_NHStOGhQ4kofSm_A.filterdrecv-p3mdw1-756b745b58-kmzbl-18-5F5FC76C-9.0", "LRzXl_NHStOGhQ4kofSm_A"),
        ("plain", "plain"),
        (17, None),
    ],
    ids=str,
)
def test_the_message_is_known_by_the_id_that_its_call_got(
    read: Callable[..., Any], told: int | str, handle: str | None
) -> None:
    assert read(posted([{**ABOUT, "sg_message_id": told}]))[0].provider_message_id == handle


def test_a_report_repeated_under_another_event_id_is_the_same(read: Callable[..., Any]) -> None:
    first, again, later = (
        read(posted([{**ABOUT, "event": "open", **change}]))[0]
        for change in ({}, {"sg_event_id": "other"}, {"timestamp": 1_700_000_001})
    )
    assert first.fingerprint == again.fingerprint != later.fingerprint


@pytest.mark.parametrize("timestamp", [None, "soon", True, 1e300, -1e300, 10**30, []], ids=str)
def test_an_event_without_a_readable_time_is_undated(read: Callable[..., Any], timestamp: Any) -> None:
    [event] = read(posted([{**ABOUT, "event": "open", "timestamp": timestamp}]))
    assert not event.dated


def test_the_published_vector_is_verified() -> None:
    [event] = transport_of(webhook_public_key=VECTOR_KEY, webhook_max_age=1e12).parse_webhook(VECTOR)
    assert (event.type, event.recipient, event.detail) == (EventType.REJECTED, "hello@world.com", "Bounced Address")


def test_signatures_here_are_those_that_the_sdk_verifies() -> None:
    request = posted([ABOUT])
    signature, timestamp = list(request.headers.values())[1:]
    assert EventWebhook(shown(KEY)).verify_signature(request.body.decode(), signature, timestamp)


def test_the_signature_is_over_bytes_and_not_over_text(read: Callable[..., Any]) -> None:
    with pytest.raises(PayloadInvalid, match="not JSON"):
        read(posted(b"\xff\xfe"))


@pytest.mark.parametrize(
    "request_",
    [
        posted([ABOUT], key=OTHER_KEY),
        posted([ABOUT], body=b"[]"),
        posted([ABOUT], body=posted([ABOUT]).body + b"\n"),
        posted([ABOUT], headers={}),
        posted([ABOUT], headers={**posted([ABOUT]).headers, "x-twilio-email-event-webhook-timestamp": "1700000001"}),
        posted([ABOUT], headers={**posted([ABOUT]).headers, "x-twilio-email-event-webhook-timestamp": ""}),
        posted([ABOUT], headers={**posted([ABOUT]).headers, "x-twilio-email-event-webhook-signature": "!"}),
        posted([ABOUT], headers={**posted([ABOUT]).headers, "x-twilio-email-event-webhook-signature": "MEUC"}),
        posted([ABOUT], headers={**posted([ABOUT]).headers, "x-twilio-email-event-webhook-signature": "ü"}),
    ],
    ids=["key", "body", "newline", "unsigned", "timestamp", "no-timestamp", "no-base64", "no-der", "unicode"],
)
def test_what_is_not_signed_as_it_stands_is_refused(read: Callable[..., Any], request_: WebhookRequest) -> None:
    with pytest.raises(SignatureInvalid, match="^sg: "):
        read(request_)


def test_an_account_without_a_key_takes_no_webhooks() -> None:
    with pytest.raises(SignatureInvalid, match="set webhook_public_key"):
        transport_of(webhook_public_key=None).parse_webhook(posted([ABOUT]))


@pytest.mark.parametrize(("age", "taken"), [(0, True), (250, True), (3600, False), (-3600, False)])
def test_an_old_signature_is_refused_where_the_account_says_so(age: int, taken: bool) -> None:
    limited = transport_of(webhook_max_age=300)
    request = posted([ABOUT], timestamp=str(int(time.time()) - age))
    if taken:
        assert limited.parse_webhook(request)
        return
    with pytest.raises(SignatureInvalid, match="webhook_max_age"):
        limited.parse_webhook(request)


@pytest.mark.parametrize(("hours", "taken"), [(0, True), (24, True), (26, False), (24 * 365, False)])
def test_a_signature_older_than_sendgrid_repeats_is_refused_by_default(
    read: Callable[..., Any], hours: int, taken: bool
) -> None:
    request = posted([ABOUT], timestamp=str(int(time.time()) - hours * 3600))
    if taken:
        assert read(request)
        return
    with pytest.raises(SignatureInvalid, match="webhook_max_age"):
        read(request)


@pytest.mark.parametrize("body", [b"", b"{", b"{}", b"null", b"[[]]", b"[null]", b"[NaN]", b"[" * 100_000], ids=str)
def test_what_is_signed_and_no_list_of_events_is_unreadable(read: Callable[..., Any], body: bytes) -> None:
    with pytest.raises(PayloadInvalid):
        read(posted(body))


def test_a_body_beyond_all_batches_is_refused_unread(read: Callable[..., Any]) -> None:
    with pytest.raises(PayloadInvalid, match="bytes"):
        read(posted([], body=b" " * 8_388_609))


@pytest.mark.parametrize(
    "key",
    ["", "MFkw", "not base64", shown(KEY)[:-8], "A" * 124, "apikey"],
    ids=["empty", "short", "no base64", "cut", "no key", "another key"],
)
def test_what_is_no_verification_key_is_refused_when_the_settings_load(key: str) -> None:
    with pytest.raises(ValueError, match="verification key"):
        SendGridSettings.model_validate({"api_key": "SG.x", "webhook_public_key": key})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
entries = st.dictionaries(st.sampled_from([*ABOUT, "event", "url", "status", "type"]), json_values)


@given(st.lists(entries | json_values, max_size=3))
def test_any_signed_json_is_events_or_a_webhook_error(body: list[Any]) -> None:
    try:
        events = transport_of().parse_webhook(posted(json.dumps(body, allow_nan=True).encode()))
    except WebhookError:
        return
    assert len(events) == len(body)
    assert all(event.fingerprint and event.model_dump_json() for event in events)


@given(st.binary(max_size=64))
def test_any_signed_bytes_are_events_or_a_webhook_error(body: bytes) -> None:
    try:
        transport_of().parse_webhook(posted(body))
    except WebhookError:
        return


@given(st.binary(max_size=64), st.text(st.characters(), max_size=20), st.text(st.characters(), max_size=20))
def test_any_bytes_without_a_signature_are_refused(body: bytes, signature: str, timestamp: str) -> None:
    headers = dict(zip(list(posted([]).headers)[1:], (signature, timestamp), strict=True))
    with pytest.raises(SignatureInvalid):
        transport_of().parse_webhook(posted([], body=body, headers=headers))
