"""What goes out is what the SDK's own models make; what Vonage would refuse does not go out."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vonage_messages import models
from vonage_sms import SmsMessage

from postroom import InvalidOption, MessageError, Sms, UnsupportedFeature
from postroom.segments import count_segments
from postroom.testing.http import HttpRecorder
from postroom_vonage import messages_api, sms_api
from postroom_vonage.options import OWNED, known_fields

from .conftest import ID, YES

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
TO = {"to": "447700900000", "from_": "447700900001", "client_ref": ID}
PNG, MP3, PDF, VCF = (f"https://example.org/a{ending}?b=c" for ending in (".png", ".mp3", ".pdf", ".vcf"))


def dumped(model: Any) -> dict[str, Any]:
    return json.loads(json.dumps(model.model_dump(by_alias=True, exclude_none=True)))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("given", "model"),
    [
        ({}, models.Sms(**TO, text="Hey!")),
        ({"body": "Grüße 👍"}, models.Sms(**TO, text="Grüße 👍")),
        ({"from_": "Post Room"}, models.Sms(**TO | {"from_": "Post Room"}, text="Hey!")),
        ({"expires_at": LATER}, models.Sms(**TO, text="Hey!", ttl=3600)),
        ({"media": PNG}, models.MmsImage(**TO, image=models.MmsResource(url=PNG, caption="Hey!"))),
        ({"media": VCF, "body": ""}, models.MmsVcard(**TO, vcard=models.MmsResource(url=VCF))),
        ({"media": MP3, "expires_at": LATER}, models.MmsAudio(**TO, audio={"url": MP3, "caption": "Hey!"}, ttl=3600)),
        ({"channel": "whatsapp"}, models.WhatsappText(**TO, text="Hey!")),
        ({"channel": "whatsapp", "expires_at": LATER}, models.WhatsappText(**TO, text="Hey!")),
        (
            {"channel": "whatsapp", "media": PDF},
            models.WhatsappFile(**TO, file={"url": PDF, "caption": "Hey!"}),
        ),
        (
            {
                "channel": "whatsapp",
                "body": "",
                "provider_options": {
                    "message_type": "template",
                    "template": {"name": "ns:verify", "parameters": ["1234"]},
                    "whatsapp": {"policy": "deterministic", "locale": "en_US"},
                },
            },
            models.WhatsappTemplate(
                **TO,
                template={"name": "ns:verify", "parameters": ["1234"]},
                whatsapp={"policy": "deterministic", "locale": "en_US"},
            ),
        ),
        (
            {"provider_options": {"webhook_url": "https://e.org", "sms": {"pool_id": "p"}, "trusted_recipient": True}},
            models.Sms(**TO, text="Hey!", webhook_url="https://e.org", sms={"pool_id": "p"}, trusted_recipient=True),
        ),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else type(value).__name__,
)
def test_the_json_is_what_the_sdk_makes(sms: Callable[..., Any], given: dict[str, Any], model: Any) -> None:
    assert json.loads(json.dumps(messages_api.fields(sms(**given), NOW))) == dumped(model)


@pytest.mark.parametrize(
    ("given", "more"),
    [
        ({}, {}),
        ({"body": "Grüße"}, {"text": "Grüße"}),
        ({"body": "Привет"}, {"text": "Привет", "type": "unicode"}),
        ({"expires_at": LATER}, {"ttl": 3_600_000}),
        (
            {"provider_options": {"callback": "https://e.org", "message-class": 1, "account_ref": "shop"}},
            {"callback": "https://e.org", "message_class": 1, "account_ref": "shop"},
        ),
        (
            {"body": "", "provider_options": {"type": "binary", "body": "0011", "udh": "06", "protocol_id": 127}},
            {"text": "", "type": "binary", "body": "0011", "udh": "06", "protocol_id": 127},
        ),
    ],
    ids=str,
)
def test_the_form_is_what_the_sdk_makes(sms: Callable[..., Any], given: dict[str, Any], more: dict[str, Any]) -> None:
    model = SmsMessage(**TO | {"text": "Hey!"} | more)
    expected = {name: str(value) for name, value in dumped(model).items()}
    assert sms_api.fields(sms(**given), NOW) == expected


def test_true_and_false_go_out_as_the_documentation_writes_them(sms: Callable[..., Any]) -> None:
    fields = sms_api.fields(sms(provider_options={"status_report_req": False, "trusted-number": True}), NOW)
    assert (fields["status-report-req"], fields["trusted-number"]) == ("false", "true")


@given(body=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=200))
def test_the_sms_api_is_told_unicode_exactly_when_our_segments_are(body: str) -> None:
    fields = sms_api.fields(Sms(to="+447700900000", from_="Post", body=body), NOW)
    assert fields.get("type") == ("unicode" if count_segments(body).encoding == "ucs2" else None)
    assert fields["text"] == body


@pytest.mark.parametrize(
    ("given", "left", "seconds"),
    [
        ({}, 0.5, 20),
        ({}, 25.9, 25),
        ({}, 10**7, 604_800),
        ({"media": PNG}, 25.9, 300),
        ({"media": PNG}, 10**7, 259_200),
    ],
)
def test_the_time_to_live_keeps_the_channels_limits(
    sms: Callable[..., Any], given: dict[str, str], left: float, seconds: int
) -> None:
    message = sms(expires_at=NOW + timedelta(seconds=left), **given)
    assert messages_api.fields(message, NOW)["ttl"] == seconds


@pytest.mark.parametrize(("left", "milliseconds"), [(0.5, 20_000), (25.9, 25_900), (10**7, 604_800_000)])
def test_the_sms_apis_time_to_live_is_in_milliseconds(sms: Callable[..., Any], left: float, milliseconds: int) -> None:
    assert sms_api.fields(sms(expires_at=NOW + timedelta(seconds=left)), NOW)["ttl"] == str(milliseconds)


@pytest.mark.parametrize("base", ["", "/regional/eu"])
async def test_the_paths_are_those_of_the_apis(
    open_vonage: Callable[..., Any], server: HttpRecorder, sms: Callable[..., Any], base: str
) -> None:
    server.answer(YES["messages"], YES["sms"])
    async with open_vonage(server.url + base) as one, open_vonage(server.url + base, api="sms") as two:
        await one.send(sms())
        await two.send(sms())
    assert [(request.method, request.path, request.query) for request in server.requests] == [
        ("POST", f"{base}/v1/messages", ""),
        ("POST", f"{base}/sms/json", ""),
    ]
    assert server.requests[0].headers["content-type"] == "application/json"
    assert server.requests[1].headers["content-type"] == "application/x-www-form-urlencoded"


async def test_without_base_url_the_hosts_are_vonages(open_vonage: Callable[..., Any]) -> None:
    async with open_vonage(None) as one, open_vonage(None, api="sms") as two:
        assert (one.base_url, two.base_url) == ("https://api.nexmo.com", "https://rest.nexmo.com")


@pytest.mark.parametrize(
    ("api", "fields", "error", "said"),
    [
        ("sms", {"media": PNG}, UnsupportedFeature, 'api = "messages"'),
        ("sms", {"channel": "whatsapp"}, UnsupportedFeature, 'api = "messages"'),
        ("sms", {"from_": None}, MessageError, "no sender"),
        ("sms", {"expires_at": NOW - timedelta(days=400)}, MessageError, "expires_at is past"),
        ("sms", {"body": "", "provider_options": {"callback": "x"}}, MessageError, "no body"),
        ("sms", {"provider_options": {"calback": "x"}}, InvalidOption, "did you mean 'callback'"),
        ("sms", {"provider_options": {"callback": {}}}, InvalidOption, "must be text"),
        ("sms", {"provider_options": {"sig": "x"}}, InvalidOption, "no such field"),
        ("sms", {"provider_options": {"api_secret": "x"}}, InvalidOption, "no such field"),
        ("messages", {"body": "x" * 3201}, MessageError, "3,201 characters, more than 3,200"),
        ("messages", {"channel": "whatsapp", "body": "x" * 4097}, MessageError, "4,096"),
        ("messages", {"media": PNG, "body": "x" * 3001}, MessageError, "3,000"),
        ("messages", {"media": [PNG, MP3]}, MessageError, "more than one media"),
        ("messages", {"channel": "whatsapp", "media": MP3}, MessageError, "no text with audio"),
        ("messages", {"from_": None}, MessageError, "no sender"),
        ("messages", {"expires_at": NOW - timedelta(days=400)}, MessageError, "expires_at is past"),
        ("messages", {"body": "", "provider_options": {"webhook_url": "x"}}, MessageError, "no body"),
        ("messages", {"provider_options": {"webhook_ur": "x"}}, InvalidOption, "did you mean 'webhook_url'"),
        ("messages", {"provider_options": {"zzz": "x"}}, InvalidOption, "it has client_ref, "),
        ("messages", {"provider_options": {"text": "x"}}, InvalidOption, "use the message's field body"),
        ("messages", {"provider_options": {"context": {}}}, InvalidOption, "no such field"),
    ],
)
async def test_what_vonage_would_refuse_is_refused_before_the_wire(
    open_vonage: Callable[..., Any],
    server: HttpRecorder,
    sms: Callable[..., Any],
    api: str,
    fields: dict[str, Any],
    error: type[Any],
    said: str,
) -> None:
    async with open_vonage(server.url, api=api) as vonage:
        with pytest.raises(error, match=said):
            vonage.validate(sms(**fields))
    assert server.connections == 0


@pytest.mark.parametrize(("api", "longest"), [("messages", 3200), ("sms", 100_000)])
async def test_the_longest_text_is_taken(
    open_vonage: Callable[..., Any], server: HttpRecorder, sms: Callable[..., Any], api: str, longest: int
) -> None:
    async with open_vonage(server.url, api=api) as vonage:
        vonage.validate(sms(body="x" * longest))


async def test_an_account_that_only_warns_sends_the_text_without_media(
    open_vonage: Callable[..., Any], server: HttpRecorder, sms: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    server.answer(YES["sms"])
    message = sms(media=PNG)
    async with open_vonage(server.url, api="sms", unsupported="warn") as vonage:
        with caplog.at_level(logging.WARNING):
            vonage.validate(message)
        await vonage.send(message)
    assert "cannot send media" in caplog.text
    assert dict(server.requests[0].form())["text"] == "Hey!"


@pytest.mark.parametrize("kind", ["sms-api", "sms", "mms", "whatsapp"])
def test_options_are_the_sdks_fields_that_the_message_does_not_own(kind: str) -> None:
    known = known_fields(kind)
    assert known
    assert not known.keys() & {*OWNED, "sig"}


@pytest.mark.parametrize("sender", ["+447700900001", "447700900001", "whatsapp:+447700900001"])
def test_the_sender_goes_out_as_vonage_writes_it(sms: Callable[..., Any], sender: str) -> None:
    message = sms(from_=sender, channel="whatsapp")
    assert messages_api.fields(message, NOW)["from"] == sms_api.fields(message, NOW)["from"] == "447700900001"


def test_an_option_of_none_is_left_out(sms: Callable[..., Any]) -> None:
    assert "webhook_url" not in messages_api.fields(sms(provider_options={"webhook_url": None}), NOW)


@pytest.mark.parametrize(
    ("url", "kind", "type_"),
    [
        ("https://e.org/a.JPG", "mms", "image"),
        ("https://e.org/a.mp3?x=1.png", "mms", "audio"),
        ("https://e.org/a.mp4#t", "whatsapp", "video"),
        ("https://e.org/a.vcf", "mms", "vcard"),
        ("https://e.org/a.vcf", "whatsapp", "file"),
        ("https://e.org/a.pdf", "mms", "file"),
        ("https://e.org/no-ending", "mms", "image"),
    ],
)
def test_the_type_of_media_is_told_by_the_url(url: str, kind: str, type_: str) -> None:
    assert messages_api.media_type(url, kind) == type_  # type: ignore[arg-type]
