from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vonage_http_client.auth import Auth
from vonage_messages import models
from vonage_sms import SmsMessage

from postroom import InvalidOption, MessageError, Sms, UnsupportedFeature
from postroom.segments import is_gsm7
from postroom_vonage import messages_api, sms_api
from postroom_vonage.auth import signed

ID = "0123456789abcdef0123456789abcdef"


def test_a_plain_text_is_what_the_sdk_makes_of_it(sms):
    model = models.Sms(to="447700900000", from_="447700900001", text="Hey!", client_ref=ID)
    assert messages_api.fields(sms()) == model.model_dump(by_alias=True, exclude_none=True)


def test_an_mms_is_what_the_sdk_makes_of_it(sms):
    url = "https://example.org/i.png"
    model = models.MmsImage(
        to="447700900000",
        from_="447700900001",
        image=models.MmsResource(url=url, caption="Hey!"),
        client_ref=ID,
    )
    assert messages_api.fields(sms(media=url)) == model.model_dump(by_alias=True, exclude_none=True)


def test_a_whatsapp_text_is_what_the_sdk_makes_of_it(sms):
    model = models.WhatsappText(to="447700900000", from_="447700900001", text="Hey!", client_ref=ID)
    assert messages_api.fields(sms(channel="whatsapp")) == model.model_dump(by_alias=True, exclude_none=True)


def test_the_sms_form_is_what_the_sdk_makes_of_it(sms):
    model = SmsMessage(to="447700900000", from_="447700900001", text="Привет", client_ref=ID, type="unicode")
    assert sms_api.fields(sms(body="Привет")) == model.model_dump(by_alias=True, exclude_none=True)


@given(body=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=200))
def test_the_sms_api_is_told_unicode_exactly_when_the_text_is_not_gsm7(body):
    fields = sms_api.fields(Sms(to="+447700900000", from_="Post", body=body))
    assert (fields.get("type") == "unicode") is not is_gsm7(body)


@pytest.mark.parametrize(("left", "seconds"), [(5, 20), (3600, 3600), (10**7, 604_800)])
def test_the_time_to_live_is_in_each_apis_own_unit_and_limits(sms, left, seconds):
    message = sms(expires_at=datetime.now(UTC) + timedelta(seconds=left))
    assert messages_api.fields(message)["ttl"] == pytest.approx(seconds, abs=2)
    assert int(sms_api.fields(message)["ttl"]) == pytest.approx(seconds * 1000, abs=2000)


@pytest.mark.parametrize("method", ["md5", "sha1", "sha256", "sha512"])
def test_the_sdk_accepts_our_signature(method):
    form = signed({"to": "44", "text": "a=b&c", "api_key": "abcd1234"}, "signature-secret", method)
    assert Auth(api_key="abcd1234", signature_secret="signature-secret", signature_method=method).check_signature(form)


def test_the_plain_md5_signature_is_the_digest_of_fields_and_secret(monkeypatch):
    import hashlib
    import time

    monkeypatch.setattr(time, "time", lambda: 1700000000.5)
    form = signed({"to": "44", "text": "x"}, "secret", "md5hash")
    assert form["sig"] == hashlib.md5(b"&text=x&timestamp=1700000000&to=44secret").hexdigest()


async def test_a_signed_account_sends_no_authorization(open_vonage, server, sms, yes):
    server.answer(yes["sms"])
    async with open_vonage(server.url, api="sms", api_secret=None, signature_secret="s3cret") as vonage:
        await vonage.send(sms())

    form = dict(server.requests[0].form())
    assert "authorization" not in server.requests[0].headers
    assert form["api_key"] == "abcd1234"
    assert Auth(api_key="abcd1234", signature_secret="s").check_signature({**form}) is False


async def test_the_paths_are_those_of_the_apis(open_vonage, server, sms, yes):
    server.answer(yes["messages"], yes["sms"])
    async with open_vonage(server.url, api="messages") as one, open_vonage(server.url, api="sms") as two:
        await one.send(sms())
        await two.send(sms())

    assert [request.path for request in server.requests] == ["/v1/messages", "/sms/json"]


@pytest.mark.parametrize(
    ("api", "fields", "error", "said"),
    [
        ("sms", {"media": "https://example.org/i.png"}, UnsupportedFeature, "messages"),
        ("sms", {"channel": "whatsapp"}, UnsupportedFeature, "messages"),
        ("messages", {"body": "x" * 3201}, MessageError, "3200"),
        ("messages", {"channel": "whatsapp", "body": "x" * 4097}, MessageError, "4096"),
        ("messages", {"media": ["https://e.org/1.png", "https://e.org/2.png"]}, MessageError, "one media"),
        ("messages", {"from_": None}, MessageError, "sender"),
        ("messages", {"provider_options": {"webhook_ur": "x"}}, InvalidOption, "webhook_url"),
        ("sms", {"provider_options": {"calback": "x"}}, InvalidOption, "callback"),
        ("messages", {"provider_options": {"text": "x"}}, InvalidOption, "no such option"),
    ],
)
async def test_what_vonage_would_refuse_is_refused_before_the_wire(open_vonage, server, sms, api, fields, error, said):
    async with open_vonage(server.url, api=api) as vonage:
        with pytest.raises(error, match=said):
            vonage.validate(sms(**fields))
    assert server.connections == 0


async def test_provider_options_take_either_spelling(open_vonage, server, sms, yes):
    server.answer(yes["sms"])
    options = {"status_report_req": True, "account-ref": "shop"}
    async with open_vonage(server.url, api="sms") as vonage:
        await vonage.send(sms(provider_options=options))

    form = dict(server.requests[0].form())
    assert (form["status-report-req"], form["account-ref"]) == ("true", "shop")


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("https://e.org/a.jpg", "image"),
        ("https://e.org/a.mp3?x=1", "audio"),
        ("https://e.org/a.mp4", "video"),
        ("https://e.org/a.vcf", "vcard"),
        ("https://e.org/no-ending", "image"),
    ],
)
def test_the_kind_of_media_is_told_by_the_url(url, kind):
    assert messages_api.media_kind(url) == kind
