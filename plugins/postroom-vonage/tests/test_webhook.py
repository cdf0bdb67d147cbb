"""Vonage's webhooks: the token with the body's hash, or the signature over the fields; then what they tell."""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vonage_http_client.auth import Auth
from vonage_jwt import verify_signature

from postroom.errors import PayloadInvalid, SignatureInvalid, WebhookError
from postroom.events import EventType
from postroom.plugin import Resources, WebhookRequest
from postroom.receipts import Channel
from postroom_vonage.auth import signature
from postroom_vonage.settings import VonageSettings
from postroom_vonage.transport import VonageSms

URL = "https://post.example.org/v1/webhooks/texts"
SECRET = "canary-signature-secret-never-shown"
ID = "0123456789abcdef0123456789abcdef"
UUID = "aaaaaaaa-bbbb-cccc-dddd-0123456789ab"
FORM = "application/x-www-form-urlencoded"
METHODS = ["md5hash", "md5", "sha1", "sha256", "sha512"]

STATUS = {
    "message_uuid": UUID,
    "to": "447700900000",
    "from": "447700900001",
    "timestamp": "2026-01-01T14:00:00.000Z",
    "status": "delivered",
    "client_ref": ID,
    "channel": "sms",
    "usage": {"currency": "EUR", "price": "0.0333"},
}
FAILED = {
    **STATUS,
    "status": "undeliverable",
    "error": {
        "type": "https://developer.vonage.com/api-errors/messages#1190",
        "title": 1190,
        "detail": "Absent Subscriber Permanent",
        "instance": "bf0ca0bf927b3b52e3cb03217e1a1ddf",
    },
}
INBOUND = {
    "message_uuid": UUID,
    "to": "447700900001",
    "from": "447700900000",
    "timestamp": "2026-01-01T14:00:00.000Z",
    "channel": "sms",
    "message_type": "text",
    "text": "Stop",
    "sms": {"num_messages": "1", "keyword": "STOP"},
}
DLR = {
    "msisdn": "447700900000",
    "to": "Shop",
    "network-code": "12345",
    "messageId": "0A0000001234567B",
    "price": "0.03330000",
    "status": "delivered",
    "scts": "2601011400",
    "err-code": "0",
    "api-key": "abcd1234",
    "client-ref": ID,
    "message-timestamp": "2026-01-01 14:00:00",
}
MO = {
    "api-key": "abcd1234",
    "msisdn": "447700900000",
    "to": "447700900001",
    "messageId": "0A0000000123ABCD1",
    "text": "Yes & no = maybe",
    "type": "text",
    "keyword": "YES",
    "message-timestamp": "2026-01-01 14:00:00 +0000",
    "nonce": "aaaaaaaa-bbbb-cccc-dddd-0123456789ab",
}


def with_token(
    payload: bytes | dict[str, Any], *, secret: str | None = SECRET, algorithm: str = "HS256", **changed: Any
) -> WebhookRequest:
    raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    claims = {"iss": "Vonage", "iat": int(time.time()), "jti": "j-1", "api_key": "abcd1234"}
    claims |= {"payload_hash": hashlib.sha256(raw).hexdigest(), "application_id": "app-1"} | changed
    with warnings.catch_warnings(action="ignore"):
        token = jwt.encode({k: v for k, v in claims.items() if v is not None}, secret, algorithm=algorithm)  # type: ignore[arg-type]
    headers = {"content-type": "application/json", "authorization": f"Bearer {token}"}
    return WebhookRequest("POST", URL, headers, raw)


def with_sig(
    fields: dict[str, str],
    *,
    secret: str = SECRET,
    method: str = "sha256",
    timestamp: int | None = None,
    kind: str = "form",
) -> WebhookRequest:
    whole = {**fields, "timestamp": str(int(time.time()) if timestamp is None else timestamp)}
    whole["sig"] = signature(whole, secret, method)  # type: ignore[arg-type]
    if kind == "query":
        return WebhookRequest("GET", f"{URL}?{urlencode(whole)}", {}, b"")
    if kind == "json":
        return WebhookRequest("POST", URL, {"content-type": "application/json"}, json.dumps(whole).encode())
    return WebhookRequest("POST", URL, {"content-type": FORM}, urlencode(whole).encode())


def changed(request: WebhookRequest, **changes: Any) -> WebhookRequest:
    given = {name: getattr(request, name) for name in ("method", "url", "headers", "body")}
    return WebhookRequest(**given | changes)


def transport_of(**given: Any) -> VonageSms:
    base = {"api_key": "abcd1234", "api_secret": "s", "signature_secret": SECRET, "signature_method": "sha256"}
    return VonageSms("texts", VonageSettings.model_validate(base | given), Resources())


@pytest.fixture
def read() -> Callable[..., Any]:
    return transport_of().parse_webhook


@pytest.mark.parametrize(
    ("request_", "handle", "recipient"),
    [
        (lambda: with_token(STATUS), UUID, "+447700900000"),
        (lambda: with_sig(DLR), "0A0000001234567B", "+447700900000"),
        (lambda: with_sig(DLR, kind="query"), "0A0000001234567B", "+447700900000"),
        (lambda: with_sig(DLR, kind="json"), "0A0000001234567B", "+447700900000"),
    ],
    ids=["messages", "form", "query", "json"],
)
def test_a_status_says_what_became_of_which_message(
    read: Callable[..., Any], request_: Callable[..., Any], handle: str, recipient: str
) -> None:
    [event] = read(request_())
    assert event.type is EventType.DELIVERED
    assert (event.channel, event.provider, event.account) == (Channel.SMS, "vonage", "texts")
    assert (event.message_id, event.provider_message_id, event.recipient) == (ID, handle, recipient)
    assert (event.occurred_at, event.dated) == (datetime(2026, 1, 1, 14, tzinfo=UTC), True)
    assert "sig" not in event.raw


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ({**STATUS, "status": "submitted"}, (EventType.SENT, "submitted", None)),
        ({**STATUS, "status": "read"}, (EventType.READ, "read", None)),
        (FAILED, (EventType.BOUNCED, "1190", True)),
        ({**FAILED, "status": "rejected"}, (EventType.REJECTED, "1190", True)),
        ({**STATUS, "status": "levitated"}, (EventType.OTHER, "levitated", None)),
        ({**STATUS, "status": None}, (EventType.OTHER, None, None)),
        ({**STATUS, "status": "undeliverable", "error": "odd"}, (EventType.BOUNCED, "undeliverable", None)),
    ],
    ids=str,
)
def test_every_status_of_the_messages_api_has_its_word(
    read: Callable[..., Any], payload: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    [event] = read(with_token(payload))
    assert (event.type, event.code, event.permanent) == expected


@pytest.mark.parametrize(
    ("status", "code", "expected", "permanent"),
    [
        ("accepted", "0", EventType.SENT, None),
        ("buffered", "0", EventType.DEFERRED, None),
        ("delivered", "0", EventType.DELIVERED, None),
        ("failed", "3", EventType.BOUNCED, True),
        ("failed", "2", EventType.BOUNCED, False),
        ("expired", "1", EventType.BOUNCED, None),
        ("rejected", "6", EventType.REJECTED, None),
        ("unknown", "99", EventType.OTHER, None),
    ],
)
def test_every_status_of_the_sms_api_has_its_word(
    read: Callable[..., Any], status: str, code: str, expected: EventType, permanent: bool | None
) -> None:
    [event] = read(with_sig({**DLR, "status": status, "err-code": code}))
    assert (event.type, event.permanent) == (expected, permanent)
    assert event.code == (code if code != "0" else status)


@pytest.mark.parametrize(
    ("request_", "text"),
    [(lambda: with_token(INBOUND), "Stop"), (lambda: with_sig(MO), MO["text"])],
    ids=["messages", "sms"],
)
def test_an_incoming_message_has_its_sender_and_text(
    read: Callable[..., Any], request_: Callable[..., Any], text: str
) -> None:
    [event] = read(request_())
    assert event.type is EventType.INBOUND
    assert (event.sender, event.recipient, event.text) == ("+447700900000", "+447700900001", text)
    assert event.message_id is None


def test_numbers_of_the_first_messages_api_are_read(read: Callable[..., Any]) -> None:
    told = {**STATUS, "to": {"type": "sms", "number": "447700900000"}, "from": {"type": "sms", "id": "Shop"}}
    assert read(with_token(told))[0].recipient == "+447700900000"


@pytest.mark.parametrize("reference", ["order 7", "-7", "x" * 65, "", None, {"order": 7}], ids=str)
def test_a_reference_that_no_message_can_have_is_not_taken_for_an_id(read: Callable[..., Any], reference: Any) -> None:
    assert read(with_token({**STATUS, "client_ref": reference}))[0].message_id is None


@pytest.mark.parametrize(
    "told",
    [
        lambda: with_token({**STATUS, "client_ref": "order-17"}),
        lambda: with_sig({**DLR, "client-ref": "order-17"}),
    ],
    ids=["by token", "by signature"],
)
def test_a_report_names_a_message_whose_id_is_the_callers_own(
    read: Callable[..., Any], told: Callable[[], WebhookRequest]
) -> None:
    assert read(told())[0].message_id == "order-17"


@pytest.mark.parametrize(
    ("told", "hour"),
    [("2026-01-01 14:00:00 +0000", 14), ("2026-01-01 16:00:00 +0200", 14), ("2026-01-01T14:00:00Z", 14)],
)
def test_times_are_read_in_every_form_vonage_writes(read: Callable[..., Any], told: str, hour: int) -> None:
    [event] = read(with_token({**STATUS, "timestamp": told}))
    assert event.occurred_at == datetime(2026, 1, 1, hour, tzinfo=UTC)


@pytest.mark.parametrize("told", ["", "soon", None, 7], ids=str)
def test_a_report_without_a_readable_time_is_undated(read: Callable[..., Any], told: int | str | None) -> None:
    assert not read(with_token({**STATUS, "timestamp": told}))[0].dated


def test_a_repeat_under_a_new_signature_is_known_as_one(read: Callable[..., Any]) -> None:
    old = int(time.time()) - 200
    pairs = [
        (with_token(STATUS, iat=old), with_token(STATUS, jti="j-2")),
        (with_sig(DLR, timestamp=old), with_sig(DLR)),
    ]
    for first, again in pairs:
        assert read(first)[0].fingerprint == read(again)[0].fingerprint


@pytest.mark.parametrize("method", METHODS)
def test_each_way_of_signing_is_verified_and_no_other(method: str) -> None:
    for other in METHODS:
        take = transport_of(signature_method=method).parse_webhook
        if other == method:
            assert take(with_sig(DLR, method=other))
            continue
        with pytest.raises(SignatureInvalid):
            take(with_sig(DLR, method=other))


@pytest.mark.parametrize("method", METHODS[1:])
def test_signatures_here_are_those_that_the_sdk_verifies(method: str) -> None:
    sdk = Auth(api_key="abcd1234", signature_secret=SECRET, signature_method=method)
    whole = {**MO, "timestamp": "1700000000"}
    assert sdk.check_signature({**whole, "sig": signature(whole, SECRET, method)})  # type: ignore[arg-type]
    assert verify_signature(with_token(STATUS).headers["authorization"].removeprefix("Bearer "), SECRET)


def test_a_sig_in_capitals_is_taken(read: Callable[..., Any]) -> None:
    request = with_sig(DLR)
    head, _, digits = request.body.rpartition(b"sig=")
    assert read(changed(request, body=head + b"sig=" + digits.upper()))


TOKENS = {
    "secret": lambda: with_token(STATUS, secret="another secret that is long enough"),
    "algorithm": lambda: with_token(STATUS, algorithm="HS512"),
    "none": lambda: with_token(STATUS, secret=None, algorithm="none"),
    "body": lambda: changed(with_token(STATUS), body=json.dumps(FAILED).encode()),
    "space": lambda: changed(with_token(STATUS), body=with_token(STATUS).body + b" "),
    "no-hash": lambda: with_token(STATUS, payload_hash=None),
    "odd-hash": lambda: with_token(STATUS, payload_hash=["x"]),
    "no-iat": lambda: with_token(STATUS, iat=None),
    "old": lambda: with_token(STATUS, iat=int(time.time()) - 3600),
    "future": lambda: with_token(STATUS, iat=int(time.time()) + 3600),
    "expired": lambda: with_token(STATUS, exp=int(time.time()) - 3600),
    "key": lambda: with_token(STATUS, api_key="another1"),
    "garbage": lambda: changed(with_token(STATUS), headers={"authorization": "Bearer x.y.z"}),
    "unicode": lambda: changed(with_token(STATUS), headers={"authorization": "Bearer ü"}),
    "empty": lambda: changed(with_token(STATUS), headers={"authorization": "Bearer "}),
    "missing": lambda: changed(with_token(STATUS), headers={"content-type": "application/json"}),
}
SIGNED = {
    "secret": lambda: with_sig(DLR, secret="another"),
    "tampered": lambda: changed(with_sig(DLR), body=with_sig(DLR).body.replace(b"delivered", b"failed")),
    "added": lambda: changed(with_sig(DLR), body=with_sig(DLR).body + b"&extra=1"),
    "twice": lambda: changed(with_sig(DLR), body=b"status=failed&" + with_sig(DLR).body),
    "old": lambda: with_sig(DLR, timestamp=int(time.time()) - 3600),
    "future": lambda: with_sig(DLR, timestamp=int(time.time()) + 3600),
    "unsigned": lambda: changed(with_sig(DLR), body=urlencode(DLR).encode()),
    "empty-sig": lambda: changed(with_sig(DLR), body=urlencode({**DLR, "sig": ""}).encode()),
    "odd-sig": lambda: changed(with_sig(DLR), body=urlencode({**DLR, "sig": "ü"}).encode()),
    "no-json": lambda: changed(with_sig(DLR, kind="json"), body=b"{"),
    "json-list": lambda: changed(with_sig(DLR, kind="json"), body=b"[]"),
    "nested": lambda: changed(with_sig(DLR, kind="json"), body=b'{"sig": "aa", "to": {"status": "delivered"}}'),
    "bytes": lambda: changed(with_sig(DLR), body=b"\xff\xfe"),
    "nothing": lambda: changed(with_sig(DLR), body=b""),
    "fields": lambda: changed(with_sig(DLR), body=b"a=1&" * 2000),
}


@pytest.mark.parametrize("request_", [*TOKENS.values(), *SIGNED.values()], ids=[*TOKENS, *(f"sig-{n}" for n in SIGNED)])
def test_what_is_not_signed_as_it_stands_is_refused(read: Callable[..., Any], request_: Callable[..., Any]) -> None:
    with pytest.raises(SignatureInvalid, match="^texts: ") as caught:
        read(request_())
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("hidden", sorted({*DLR, "timestamp"}))
def test_no_field_can_be_hidden_in_the_name_of_another_under_the_same_signature(method: str, hidden: str) -> None:
    whole = {**DLR, "timestamp": "1500000000"}
    names = sorted(whole)
    whole["sig"] = signature(whole, SECRET, method)  # type: ignore[arg-type]
    place = names.index(hidden)
    carrier = names[place + 1] if place + 1 < len(names) else names[place - 1]
    first, second = sorted((hidden, carrier))
    folded = {name: value for name, value in whole.items() if name not in {first, second}}
    folded[f"{first}={whole[first]}&{second}"] = whole[second]
    assert signature({n: v for n, v in folded.items() if n != "sig"}, SECRET, method) == whole["sig"]  # type: ignore[arg-type]
    taken = transport_of(signature_method=method, webhook_max_age=1e12)
    for kind, body in ((FORM, urlencode(folded).encode()), ("application/json", json.dumps(folded).encode())):
        with pytest.raises(SignatureInvalid, match="in its name"):
            taken.parse_webhook(WebhookRequest("POST", URL, {"content-type": kind}, body))


@pytest.mark.parametrize("moment", [None, "", "now", "-5", "1.5e9", "2026-01-01 14:00:00"])
def test_a_form_that_is_signed_without_its_time_is_refused(read: Callable[..., Any], moment: str | None) -> None:
    whole = DLR if moment is None else {**DLR, "timestamp": moment}
    signed_ = {**whole, "sig": signature(whole, SECRET, "sha256")}
    with pytest.raises(SignatureInvalid, match="timestamp"):
        read(WebhookRequest("POST", URL, {"content-type": FORM}, urlencode(signed_).encode()))


def test_another_application_is_refused() -> None:
    ours = transport_of(application_id="app-2")
    with pytest.raises(SignatureInvalid, match="application_id"):
        ours.parse_webhook(with_token(STATUS))


@pytest.mark.parametrize("secret", [None, ""])
def test_an_account_without_a_secret_takes_no_webhooks(secret: str | None) -> None:
    with pytest.raises(SignatureInvalid, match="set signature_secret"):
        transport_of(signature_secret=secret).parse_webhook(with_sig(DLR, secret=""))


def test_a_short_secret_is_taken_as_vonage_gives_it() -> None:
    assert transport_of(signature_secret="short").parse_webhook(with_token(STATUS, secret="short"))


def test_the_age_can_be_raised() -> None:
    request = with_token(STATUS, iat=int(time.time()) - 3600)
    assert transport_of(webhook_max_age=86_400).parse_webhook(request)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"[" * 100_000, {}, {"status": "delivered"}], ids=str)
def test_what_is_signed_and_about_no_message_is_unreadable(
    read: Callable[..., Any], body: bytes | dict[str, str]
) -> None:
    with pytest.raises(PayloadInvalid):
        read(with_token(body))


def test_a_body_beyond_all_messages_is_refused_unread(read: Callable[..., Any]) -> None:
    with pytest.raises(PayloadInvalid, match="bytes"):
        read(changed(with_sig(DLR), body=b"a" * 1_048_577))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*FAILED, *INBOUND, *DLR]), json_values) | json_values)
def test_any_signed_json_is_events_or_a_webhook_error(payload: Any) -> None:
    try:
        events = transport_of().parse_webhook(with_token(json.dumps(payload).encode()))
    except WebhookError:
        return
    assert all(event.fingerprint and event.model_dump_json() for event in events)


@given(st.dictionaries(st.sampled_from([*DLR, *MO]) | st.text(max_size=6).filter(lambda n: n != "sig"), st.text()))
def test_any_signed_form_is_events_or_a_webhook_error(fields: dict[str, str]) -> None:
    try:
        events = transport_of().parse_webhook(with_sig(fields))
    except WebhookError:
        return
    assert all(event.fingerprint and event.model_dump_json() for event in events)


@given(st.binary(max_size=64), st.text(st.characters(), max_size=30), st.sampled_from([FORM, "application/json", ""]))
def test_any_bytes_without_a_signature_are_refused(body: bytes, token: str, kind: str) -> None:
    for authorization in (f"Bearer {token}", token):
        headers = {"content-type": kind, "authorization": authorization}
        for url in (URL, f"https://[/?{token}"):
            with pytest.raises(SignatureInvalid):
                transport_of().parse_webhook(WebhookRequest("POST", url, headers, body))
