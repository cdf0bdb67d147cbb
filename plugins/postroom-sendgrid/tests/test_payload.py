from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sendgrid.helpers import mail as sdk

from postroom import Attachment, Email, InvalidOption, MessageError
from postroom.testing.http import Answer
from postroom_sendgrid.payload import personalizations, shared_part

SOON = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)


def body_of(email, *, sandbox=False):
    return {**shared_part(email, sandbox=sandbox), "personalizations": personalizations(email)}


def test_every_modelled_field_is_what_the_sdk_makes_of_it(email):
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


def test_bodies_come_in_the_order_the_api_wants(email):
    body = body_of(email(text="t", html="h", amp="a", calendar="BEGIN:VCALENDAR"))
    kinds = [content["type"] for content in body["content"]]
    assert kinds == ["text/plain", "text/x-amp-html", "text/html", "text/calendar"]


def test_several_reply_addresses_become_a_list(email):
    body = body_of(email(reply_to=["a@example.org", "b@example.org"]))
    assert body["reply_to_list"] == [{"email": "a@example.org"}, {"email": "b@example.org"}]


def test_merge_data_gives_each_recipient_a_personalization_of_its_own(email):
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


def test_an_address_named_twice_goes_out_once(email):
    (envelope,) = personalizations(email(to=["a@example.org", "A@example.org"], cc="a@example.org"))
    assert envelope["to"] == [{"email": "a@example.org"}]
    assert "cc" not in envelope


def test_international_domains_go_in_ascii(email):
    (envelope,) = personalizations(email(to="ann@müller.example"))
    assert envelope["to"] == [{"email": "ann@xn--mller-kva.example"}]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"to": (), "bcc": "b@example.org"}, "recipient in `to`"),
        ({"text": ""}, "needs a text"),
        ({"subject": ""}, "needs a subject"),
        ({"to": [f"a{n}@example.org" for n in range(1001)]}, "1000 recipients"),
        ({"tags": [str(n) for n in range(11)]}, "10 tags"),
        ({"metadata": {"k": "v" * 10_000}}, "metadata"),
        ({"metadata": {"postroom_id": "x"}}, "postroom_id"),
        ({"headers": {"X-SG-EID": "x"}}, "x-sg-eid"),
        ({"send_at": datetime.now(UTC) + timedelta(hours=73)}, "72 hours"),
        ({"merge_data": {"ann@example.org": {"a": 1}}}, "template"),
        ({"attachments": [Attachment(filename="big", content=b"x" * 25_000_000)]}, "30,000,000"),
    ],
)
async def test_what_sendgrid_would_refuse_is_refused_before_the_wire(sendgrid, server, email, fields, said):
    with pytest.raises(MessageError, match=said):
        sendgrid.validate(email(**fields))
    assert server.connections == 0


def test_an_option_sendgrid_does_not_have_names_the_nearest(sendgrid, email):
    with pytest.raises(InvalidOption, match="did you mean 'tracking_settings'"):
        sendgrid.validate(email(provider_options={"tracking_setings": {}}))


async def test_provider_options_become_fields_beside_the_sandbox(open_sendgrid, server, email):
    server.answer(Answer(202))
    async with open_sendgrid(server.url, sandbox=True) as transport:
        await transport.send(
            email(provider_options={"mail_settings": {"footer": {"enable": True}}, "ip_pool_name": "pool"})
        )

    body = server.requests[0].json()
    assert body["ip_pool_name"] == "pool"
    assert body["mail_settings"] == {"footer": {"enable": True}, "sandbox_mode": {"enable": True}}


async def test_the_region_chooses_the_host(open_sendgrid):
    async with open_sendgrid(None) as world, open_sendgrid(None, region="eu") as eu:
        assert (world.base_url, eu.base_url) == ("https://api.sendgrid.com", "https://api.eu.sendgrid.com")


@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
def test_any_text_arrives_as_it_was_given(text):
    message = Email(to="ann@example.org", from_="post@example.org", text=text)
    body = json.loads(json.dumps(body_of(message)))
    assert body["content"] == [{"type": "text/plain", "value": text}]
