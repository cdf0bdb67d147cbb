from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.header import decode_header, make_header
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st
from sendgrid.helpers import mail as sdk

from postroom import Attachment, Email
from postroom.testing.http import Answer, HttpRecorder
from postroom_sendgrid.bulk import calls_for
from postroom_sendgrid.payload import personalizations, shared_part

if TYPE_CHECKING:
    from .conftest import Opener


SOON = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)


def body_of(email: Email, *, sandbox: bool = False) -> dict[str, Any]:
    return {**shared_part(email, sandbox=sandbox), "personalizations": personalizations(email)}


def written(email: Email) -> dict[str, Any]:
    """What goes over the wire."""
    (call,) = calls_for([email], sandbox=False)
    return json.loads(call.body())  # type: ignore[no-any-return]


def test_every_modelled_field_is_what_the_sdk_makes_of_it(email: Callable[..., Email]) -> None:
    ours = body_of(
        email(
            to=["Ann <ann@example.org>"],
            cc="cy@example.org",
            bcc="bo@example.org",
            reply_to="Reply <reply@example.org>",
            html="<p>Hi</p>",
            attachments=[
                Attachment(filename="a.pdf", content=b"pdf"),
                Attachment(filename="i.png", content=b"png", inline=True, content_id="logo"),
            ],
            headers={"X-One": "1"},
            tags=["spring", "news"],
            metadata={"order": "7"},
            send_at=SOON,
        ),
        sandbox=True,
    )

    envelope = sdk.Personalization()
    envelope.add_to(sdk.To("ann@example.org", "Ann"))
    envelope.add_cc(sdk.Cc("cy@example.org"))
    envelope.add_bcc(sdk.Bcc("bo@example.org"))
    envelope.subject = "Hello"
    envelope.add_header(sdk.Header("Message-ID", "<m1@example.org>"))
    envelope.add_header(sdk.Header("X-One", "1"))
    envelope.add_custom_arg(sdk.CustomArg("order", "7"))
    envelope.add_custom_arg(sdk.CustomArg("postroom_id", "0123456789abcdef0123456789abcdef"))
    envelope.send_at = int(SOON.timestamp())
    theirs = sdk.Mail(from_email=sdk.From("post@example.org", "Post Room"))
    theirs.add_personalization(envelope)
    theirs.reply_to = sdk.ReplyTo("reply@example.org", "Reply")
    theirs.add_content(sdk.Content("text/plain", "Hi"))
    theirs.add_content(sdk.Content("text/html", "<p>Hi</p>"))
    # The SDK inserts each attachment in front of the others, so they are given the other way round.
    theirs.add_attachment(sdk.Attachment("cG5n", "i.png", "image/png", "inline", "logo"))
    theirs.add_attachment(sdk.Attachment("cGRm", "a.pdf", "application/pdf", "attachment"))
    theirs.add_category(sdk.Category("spring"))
    theirs.add_category(sdk.Category("news"))
    theirs.mail_settings = sdk.MailSettings(sandbox_mode=sdk.SandBoxMode(True))

    expected = theirs.get()
    expected["attachments"].sort(key=lambda a: a["filename"])
    expected["categories"].sort()
    ours["attachments"].sort(key=lambda a: a["filename"])
    ours["categories"].sort()
    assert ours == expected


def test_bodies_come_in_the_order_the_api_wants(email: Callable[..., Email]) -> None:
    body = body_of(email(text="t", html="h", amp="a", calendar="BEGIN:VCALENDAR"))
    kinds = [content["type"] for content in body["content"]]
    assert kinds == ["text/plain", "text/x-amp-html", "text/html", "text/calendar"]


def test_amp_stands_where_the_sdk_puts_it(email: Callable[..., Email]) -> None:
    theirs = sdk.Mail()
    for kind, value in (("text/plain", "t"), ("text/html", "h"), ("text/x-amp-html", "a")):
        theirs.add_content(sdk.Content(kind, value))
    assert body_of(email(text="t", html="h", amp="a"))["content"] == theirs.get()["content"]


def test_a_template_with_merge_data_is_what_the_sdk_makes_of_it(email: Callable[..., Email]) -> None:
    message = email(
        text=None, template="d-1", merge_data={"ann@example.org": {"name": "Ann", "items": [1, {"a": None}]}}
    )
    envelope = sdk.Personalization()
    envelope.add_to(sdk.To("ann@example.org"))
    envelope.dynamic_template_data = {"name": "Ann", "items": [1, {"a": None}]}
    theirs = sdk.Mail()
    theirs.add_personalization(envelope)
    theirs.template_id = "d-1"
    (ours,), expected = body_of(message)["personalizations"], theirs.get()
    assert {key: ours[key] for key in ("to", "dynamic_template_data")} == expected["personalizations"][0]
    assert body_of(message)["template_id"] == expected["template_id"]


def test_provider_options_are_what_the_sdk_makes_of_its_settings(email: Callable[..., Email]) -> None:
    theirs = sdk.Mail()
    theirs.asm = sdk.Asm(sdk.GroupId(7), sdk.GroupsToDisplay([7, 8]))
    theirs.ip_pool_name = sdk.IpPoolName("pool")
    theirs.batch_id = sdk.BatchId("batch")
    theirs.mail_settings = sdk.MailSettings(footer_settings=sdk.FooterSettings(True, sdk.FooterText("f")))
    theirs.tracking_settings = sdk.TrackingSettings(click_tracking=sdk.ClickTracking(True, False))
    options = theirs.get()
    assert body_of(email(provider_options=options)) == body_of(email()) | options


def test_several_reply_addresses_become_a_list(email: Callable[..., Email]) -> None:
    body = body_of(email(reply_to=["a@example.org", "b@example.org"]))
    assert body["reply_to_list"] == [{"email": "a@example.org"}, {"email": "b@example.org"}]


def test_a_reply_address_given_twice_goes_once(email: Callable[..., Email]) -> None:
    body = body_of(email(reply_to=["a@example.org", "A@example.org"]))
    assert body["reply_to"] == {"email": "a@example.org"}
    assert "reply_to_list" not in body


def test_a_template_alone_is_sent_with_a_blank_that_it_overrides(email: Callable[..., Email]) -> None:
    body = written(email(text=None, subject="", template="d-1"))
    assert body["content"] == [{"type": "text/plain", "value": " "}]
    assert "subject" not in body
    assert "subject" not in body["personalizations"][0]


def test_merge_data_gives_each_recipient_a_personalization_of_its_own(email: Callable[..., Email]) -> None:
    message = email(
        to=["a@example.org", "b@example.org"],
        cc="c@example.org",
        template="d-1",
        merge_data={"a@example.org": {"name": "A"}, "b@example.org": {"name": "B"}},
    )
    first, second = personalizations(message)
    assert (first["dynamic_template_data"], second["dynamic_template_data"]) == ({"name": "A"}, {"name": "B"})
    assert "cc" in first
    assert "cc" not in second


def test_an_address_named_twice_goes_out_once(email: Callable[..., Email]) -> None:
    (envelope,) = personalizations(email(to=["a@example.org", "A@example.org"], cc="a@example.org"))
    assert envelope["to"] == [{"email": "a@example.org"}]
    assert "cc" not in envelope


def test_an_address_named_twice_gets_one_merged_message_with_its_first_data(email: Callable[..., Email]) -> None:
    message = email(
        to=["a@example.org", "A@example.org", "b@example.org"],
        cc="b@example.org",
        template="d-1",
        merge_data={"a@example.org": {"n": 1}, "A@example.org": {"n": 2}},
    )
    envelopes = personalizations(message)
    assert [envelope["to"][0]["email"] for envelope in envelopes] == ["a@example.org", "b@example.org"]
    assert [envelope["dynamic_template_data"] for envelope in envelopes] == [{"n": 1}, {}]
    assert not any("cc" in envelope for envelope in envelopes)


def test_a_tag_given_twice_is_one_category(email: Callable[..., Email]) -> None:
    assert body_of(email(tags=["a", "b", "a"]))["categories"] == ["a", "b"]


def test_priority_is_said_in_headers_that_the_messages_own_replace(email: Callable[..., Email]) -> None:
    (high,) = personalizations(email(priority="high"))
    assert high["headers"] == {"Message-ID": "<m1@example.org>", "X-Priority": "1", "Importance": "high"}
    (own,) = personalizations(email(priority="low", headers={"x-priority": "2"}))
    assert own["headers"] == {"Message-ID": "<m1@example.org>", "Importance": "low", "x-priority": "2"}


@given(value=st.text(st.characters(min_codepoint=32, exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=200))
def test_any_header_value_arrives_in_ascii_and_is_read_back(value: str) -> None:
    message = Email(to="a@example.org", from_="p@example.org", subject="s", text="x", headers={"X-Note": f"é {value}"})
    (envelope,) = personalizations(message)
    sent = envelope["headers"]["X-Note"]
    assert sent.isascii()
    assert "\n" not in sent
    assert str(make_header(decode_header(sent))) == message.headers["X-Note"]


def test_international_domains_go_in_ascii(email: Callable[..., Email]) -> None:
    (envelope,) = personalizations(email(to="ann@müller.example"))
    assert envelope["to"] == [{"email": "ann@xn--mller-kva.example"}]


async def test_provider_options_become_fields_beside_the_sandbox(
    open_sendgrid: Opener, server: HttpRecorder, email: Callable[..., Email]
) -> None:
    server.answer(Answer(202))
    async with open_sendgrid(server.url, sandbox=True) as transport:
        await transport.send(
            email(provider_options={"mail_settings": {"footer": {"enable": True}}, "ip_pool_name": "pool"})
        )

    body = server.requests[0].json()
    assert body["ip_pool_name"] == "pool"
    assert body["mail_settings"] == {"footer": {"enable": True}, "sandbox_mode": {"enable": True}}


async def test_the_accounts_sandbox_cannot_be_left_by_a_message(
    open_sendgrid: Opener, server: HttpRecorder, email: Callable[..., Email]
) -> None:
    server.answer(Answer(200))
    async with open_sendgrid(server.url, sandbox=True) as transport:
        await transport.send(email(provider_options={"mail_settings": {"sandbox_mode": {"enable": False}}}))
    assert server.requests[0].json()["mail_settings"] == {"sandbox_mode": {"enable": True}}


async def test_the_region_chooses_the_host(open_sendgrid: Opener) -> None:
    async with open_sendgrid(None) as world, open_sendgrid(None, region="eu") as eu:
        assert (world.base_url, eu.base_url) == ("https://api.sendgrid.com", "https://api.eu.sendgrid.com")


@given(
    text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1),
    subject=st.text(st.characters(min_codepoint=32, exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1),
    data=st.dictionaries(st.text(max_size=5), st.none() | st.booleans() | st.integers() | st.text(max_size=5)),
)
def test_any_text_arrives_as_it_was_given(text: str, subject: str, data: dict[str, Any]) -> None:
    message = Email(
        to="ann@example.org",
        from_="post@example.org",
        subject=subject,
        text=text,
        template="d-1",
        merge_data={"ann@example.org": data},
    )
    body = written(message)
    assert body["content"] == [{"type": "text/plain", "value": text}]
    assert body["subject"] == body["personalizations"][0]["subject"] == message.subject
    assert body["personalizations"][0]["dynamic_template_data"] == data
