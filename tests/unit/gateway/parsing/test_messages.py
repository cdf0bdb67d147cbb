"""E-mails and SMS of the wire: every field of the page, what real clients really send, and what is refused where."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom import Email, Sms
from postroom.config.gateway import GatewaySettings
from postroom.gateway.http.errors import ApiError
from postroom.gateway.parsing.email import DENIED_HEADERS, parse_email
from postroom.gateway.parsing.sms import parse_sms
from postroom.messages import MODELLED_HEADERS

LIMITS = GatewaySettings(max_recipients=6)
ANN = {"email": "ann@example.org"}
EMAIL = {"to": [ANN], "subject": "Hi", "html": "<p>Hi</p>"}
SMS = {"data": {"to": "+15005550006", "body": "Hey!"}}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def email(**fields: Any) -> Email:
    return parse_email({**EMAIL, **fields}, LIMITS)


def sms(**fields: Any) -> Sms:
    return parse_sms({**SMS, **fields}, LIMITS)


def told(read: Any, item: Any) -> dict[str, str]:
    with pytest.raises(ApiError) as caught:
        read(item, LIMITS)
    assert caught.value.status == 400
    assert caught.value.code == "invalid_message"
    return {problem.field: problem.message for problem in caught.value.details}


def wrong(**fields: Any) -> dict[str, str]:
    return told(parse_email, {**EMAIL, **fields})


def wrong_sms(**fields: Any) -> dict[str, str]:
    return told(parse_sms, {**SMS, **fields})


def addresses(group: Any) -> list[str]:
    return [str(address) for address in group]


def test_the_pages_sample() -> None:
    read = email(
        to=[{"email": "john@example.com", "type": "to"}],
        from_name="Example Name",
        headers={"Reply-To": "message.reply@example.com"},
        attachments=[],
        images=[],
    )
    assert (addresses(read.to), read.cc, read.bcc) == (["john@example.com"], (), ())
    assert (read.subject, read.html, read.from_name) == ("Hi", "<p>Hi</p>", "Example Name")
    assert addresses(read.reply_to) == ["message.reply@example.com"]
    assert (read.headers, read.attachments, read.required, read.provider) == ({}, (), False, None)


def test_recipients_go_where_their_type_says() -> None:
    kinds = [("to", "a"), ("cc", "b"), ("bcc", "c"), ("BCC ", "d")]
    read = email(to=[{"email": f"{name}@example.org", "type": kind} for kind, name in kinds])
    assert [addresses(g) for g in (read.to, read.cc, read.bcc)] == [
        ["a@example.org"],
        ["b@example.org"],
        ["c@example.org", "d@example.org"],
    ]


def test_a_recipient_without_a_type_or_an_empty_one_is_a_to() -> None:
    read = email(to=[ANN, {**ANN, "type": ""}, {"email": "bob@example.org", "type": None, "name": "Bob"}])
    assert addresses(read.to) == ["ann@example.org", "ann@example.org", "Bob <bob@example.org>"]


@pytest.mark.parametrize("to", ["ann@example.org", ["ann@example.org"], ANN, [{**ANN, "name": ""}]])
def test_plain_texts_single_recipients_and_empty_names_are_taken(to: Any) -> None:
    assert addresses(email(to=to).to) == ["ann@example.org"]


def test_cc_and_bcc_beside_to_are_not_lost() -> None:
    read = email(cc=["c@example.org"], bcc={"email": "d@example.org"})
    assert (addresses(read.cc), addresses(read.bcc)) == (["c@example.org"], ["d@example.org"])


def test_what_forms_leave_empty_is_as_if_it_were_not_there() -> None:
    read = email(subject="", from_name="", html="", headers={"Reply-To": ""}, attachments="", images=None, provider="")
    assert (read.subject, read.from_name, read.html, read.text, read.reply_to) == ("", None, None, "", ())


def test_unknown_fields_and_leaked_options_do_no_harm() -> None:
    assert email(options={"usage": {"a": 1}}, data="x", whatever=[1]).subject == "Hi"


def test_an_item_of_the_javascript_api_is_unwrapped() -> None:
    assert parse_email({"options": EMAIL, "data": {"name": "Ann"}}, LIMITS).html == "<p>Hi</p>"


def test_handlebars_are_passed_through_untouched() -> None:
    assert email(html="{{name}} {{{raw}}}").html == "{{name}} {{{raw}}}"


def test_body_and_text_are_the_plain_text_beside_the_html() -> None:
    assert email(body="plain").text == "plain"
    assert email(text="plain", body="other").text == "plain"
    assert email(body="plain").html == "<p>Hi</p>"


def test_our_own_fields_are_taken_too() -> None:
    read = email(provider="sg", category="marketing", tags=["a"], metadata={"k": "v"}, send_at="2030-01-01T00:00:00Z")
    assert (read.provider, read.category, read.tags, read.metadata) == ("sg", "marketing", ("a",), {"k": "v"})
    assert read.send_at
    assert read.send_at.year == 2030


@pytest.mark.parametrize(
    ("value", "read"),
    [(True, True), ("true", True), ("1", True), (False, False), ("false", False), ("", False), (None, False)],
)
def test_required_is_read_from_json_and_from_forms(value: Any, read: Any) -> None:
    assert email(required=value).required is read
    assert sms(required=value).required is read


def test_headers_are_kept_and_numbers_written_as_json_does() -> None:
    assert email(headers={"X-My-Custom-Header": "value", "X-N": 3, "X-B": True, "X-E": None}).headers == {
        "X-My-Custom-Header": "value",
        "X-N": "3",
        "X-B": "true",
    }


def test_several_reply_addresses_in_one_header() -> None:
    read = email(headers={"reply-to": 'Ann <a@example.org>, "B, C" <b@example.org>'})
    assert addresses(read.reply_to) == ["Ann <a@example.org>", '"B, C" <b@example.org>']


@pytest.mark.parametrize("name", sorted(DENIED_HEADERS | {"Content-Type", "ARC-Seal", "Resent-To", "FROM"}))
def test_a_header_that_a_field_owns_or_receivers_trust_is_refused(name: str) -> None:
    assert "cannot be set" in wrong(headers={name: "x"})[f"headers.{name}"]


def test_all_that_the_message_itself_refuses_is_on_the_list() -> None:
    assert MODELLED_HEADERS <= DENIED_HEADERS


@pytest.mark.parametrize("text", ["a\r\nBcc: x@example.org", "a\nb", "a\rb", "a\0b", "a\u2028b"])
def test_line_breaks_are_refused_wherever_a_header_could_take_them(text: str) -> None:
    assert wrong(subject=text).keys() == {"subject"}
    assert wrong(from_name=text).keys() == {"from_name"}
    assert wrong(headers={"X-A": text}).keys() == {"headers.X-A"}
    assert wrong(headers={f"X-{text}": "v"})
    assert wrong(headers={"Reply-To": f"a@example.org{text}, b@example.org"}).keys() == {"headers.Reply-To"}
    assert wrong(to=[{**ANN, "name": text}]).keys() == {"to[0].email"}
    assert wrong(to=[f"{text}@example.org"]).keys() == {"to[0]"}
    assert wrong(attachments=[{"name": text, "content": "x"}]).keys() == {"attachments[0].name"}
    assert wrong(images=[{"name": text, "content": ""}])
    assert wrong_sms(data={**SMS["data"], "from": text}).keys() == {"data.from"}


def test_every_mistake_is_told_at_once_where_the_caller_wrote_it() -> None:
    found = wrong(
        to=[{"email": "x"}, {**ANN, "type": "cc"}, 3, {"email": "c@", "type": "cc"}, {**ANN, "type": "fax"}],
        cc=[{"email": 7}],
        subject=3,
        headers={"From": "x", "X-A": ["b"]},
        attachments=[
            {"name": "a", "content": "b"},
            {"name": "b", "content": "zz", "encoding": "hex"},
            {"name": "c", "content": "x", "type": "nonsense"},
        ],
        required="perhaps",
        send_at="soon",
    )
    assert found.keys() == {
        *("to[0].email", "to[2]", "to[3].email", "to[4].type", "cc[0].email", "subject", "headers.From"),
        *("headers.X-A", "attachments[1].content", "attachments[2].type", "required", "send_at"),
    }


@pytest.mark.parametrize("to", [None, [], ""])
def test_an_email_to_nobody_is_told_so_once(to: Any) -> None:
    assert wrong(to=to).keys() == {"to"}


def test_too_many_recipients_are_refused_by_number() -> None:
    assert "7 recipients; at most 6" in wrong(to=["a@example.org"] * 5, cc=["a@example.org"] * 2)["to"]
    assert "7 recipients; at most 6" in wrong_sms(data={"to": ["+15005550006"] * 7, "body": "x"})["data.to"]


def test_the_pages_sms_sample() -> None:
    read = sms(
        provider="twilio",
        data={"from": "+123456789", "to": "+987654321", "body": "Hey!"},
        options={"twilio_sid": "AC81", "twilio_auth_token": "canary"},
    )
    assert (read.provider, read.from_, read.to, read.body) == ("twilio", "+123456789", ("+987654321",), "Hey!")
    assert {name: secret.get_secret_value() for name, secret in read.options.items()} == {
        "twilio_sid": "AC81",
        "twilio_auth_token": "canary",
    }
    assert "canary" not in repr(read)


def test_an_sms_to_a_list_and_a_flat_one() -> None:
    assert sms(data={"to": ["+15005550006", "+447700900000"], "body": "x"}).to == ("+15005550006", "+447700900000")
    assert parse_sms({"to": "+15005550006", "body": "x"}, LIMITS).body == "x"
    assert wrong_sms(data={"to": ["+15005550006", "12"], "body": "x"}).keys() == {"data.to[1]"}
    assert told(parse_sms, {"to": "12", "body": "x"}).keys() == {"to[0]"}


def test_media_and_required_are_read_wherever_the_pages_put_them() -> None:
    assert sms(data={**SMS["data"], "mediaUrl": "https://example.org/a.png"}).media == ("https://example.org/a.png",)
    assert sms(options={"required": True}).required
    assert sms(options={"required": True}).options == {}
    assert "data.mediaUrl" in next(iter(wrong_sms(data={**SMS["data"], "mediaUrl": "file:///etc/passwd"})))


def test_what_is_wrong_with_an_sms_is_told_in_its_place() -> None:
    found = wrong_sms(data={"to": {}, "body": 3}, options={"twilio_sid": 3}, required="perhaps")
    assert found.keys() == {"data.to", "data.body", "options.twilio_sid", "required"}
    assert wrong_sms(options="x").keys() == {"options"}
    assert wrong_sms(data={"to": "+15005550006"}).keys() == {""}
    assert told(parse_sms, {}).keys() == {"to"}


def test_credentials_in_requests_can_be_refused() -> None:
    with pytest.raises(ApiError) as caught:
        parse_sms({**SMS, "options": {"twilio_sid": "x"}}, GatewaySettings(request_credentials="deny"))
    assert (caught.value.status, caught.value.code) == (403, "credentials_not_allowed")


@given(
    st.dictionaries(st.sampled_from([*EMAIL, "headers", "attachments", "images", "cc", "options", "required"]), JSON)
)
def test_any_json_is_an_email_or_told_what_is_wrong(item: Any) -> None:
    try:
        assert isinstance(parse_email(item, LIMITS), Email)
    except ApiError as refusal:
        assert refusal.details or refusal.status == 413


@given(
    st.dictionaries(st.sampled_from(["provider", "options", "required", "to", "body", "from", "mediaUrl"]), JSON),
    st.none() | st.dictionaries(st.sampled_from(["to", "body", "from", "media", "required"]), JSON),
)
def test_any_json_is_an_sms_or_told_what_is_wrong(item: Any, data: Any) -> None:
    try:
        assert isinstance(parse_sms({**item, "data": data} if data else item, LIMITS), Sms)
    except ApiError as refusal:
        assert refusal.details


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"headers": {"Reply-To": "@@" + "(" * 2000}}, "headers.Reply-To"),
        ({"headers": {"Reply-To": ", ".join(f"a{n}@example.org" for n in range(80))}}, "headers.Reply-To"),
        ({"headers": {"Reply-To": ", ".join(["a@b.org"] * 100_000)}}, "headers.Reply-To"),
        ({"headers": {f"X-{n}": "1" for n in range(101)}}, "headers"),
        ({"headers": {"X-A": "x" * 10_001}}, "headers.X-A"),
        ({"tags": ["a"] * 51}, "tags"),
        ({"metadata": {str(n): "1" for n in range(101)}}, "metadata"),
        ({"to": [{"email": "ann@example.org", "name": "x" * 1_000_000}]}, "to[0].email"),
        ({"to": ",".join(["a@b.org"] * 100_000)}, "to"),
    ],
)
def test_a_list_is_counted_before_anything_in_it_is_looked_at(fields: Any, field: str) -> None:
    assert field in {path.removesuffix("[0]") if path == "to[0]" else path for path in wrong(**fields)}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"data": {**SMS["data"], "mediaUrl": ["https://example.org/a.png"] * 11}}, "data.mediaUrl"),
        ({"options": {str(n): "1" for n in range(21)}}, "options"),
        ({"data": {**SMS["data"], "to": ["+447700900123"] * 7}}, "data.to"),
    ],
)
def test_the_lists_of_an_sms_are_counted_too(fields: Any, field: str) -> None:
    assert field in wrong_sms(**fields)


LONG = "x" * 10_001
TOO_LONG = {
    "subject": ({"subject": LONG}, "subject"),
    "header": ({"headers": {"X-A": LONG}}, "headers.X-A"),
    "tag": ({"tags": ["a", LONG]}, "tags[1]"),
    "metadata": ({"metadata": {"order": LONG}}, "metadata.order"),
    "name of metadata": ({"metadata": {LONG: "1"}}, f"metadata.{LONG[:100]}"),
}
TOO_LONG_SMS = {
    "media": ({"to": "+15005550006", "mediaUrl": f"https://a.example/{LONG}"}, "data.mediaUrl"),
    "one of several media": ({"to": "+15005550006", "mediaUrl": [f"https://a.example/{LONG}"]}, "data.mediaUrl[0]"),
}


@pytest.mark.parametrize(("fields", "field"), TOO_LONG.values(), ids=TOO_LONG)
def test_a_text_that_is_no_body_is_short(fields: Any, field: str) -> None:
    assert "has more than" in wrong(**fields)[field]


@pytest.mark.parametrize(("data", "field"), TOO_LONG_SMS.values(), ids=TOO_LONG_SMS)
def test_a_text_of_an_sms_that_is_no_body_is_short(data: Any, field: str) -> None:
    assert "has more than" in wrong_sms(data=data)[field]


def test_credentials_are_short() -> None:
    assert "has more than" in wrong_sms(options={"twilio_sid": LONG})["options.twilio_sid"]


def test_texts_of_just_that_length_are_taken() -> None:
    most = LONG[:-1]
    read = email(subject=most, headers={"X-A": most}, tags=[most], metadata={"a": most})
    assert (read.subject, read.tags, read.metadata["a"]) == (most, (most,), most)
