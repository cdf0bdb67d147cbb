"""What SendGrid would refuse is refused before the wire, in words."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from postroom import Attachment, Email, InvalidOption, MessageError
from postroom.testing.http import HttpRecorder
from postroom_sendgrid.bulk import LARGEST_CALL, calls_for
from postroom_sendgrid.limits import size_of
from postroom_sendgrid.transport import SendGridEmail

ATTACHED = "attachments"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"to": (), "bcc": "b@example.org"}, "recipient in `to`"),
        ({"text": ""}, "needs a text"),
        ({"text": None, "calendar": "BEGIN:VCALENDAR"}, "needs a text"),
        ({"subject": ""}, "needs a subject"),
        ({"to": [f"a{n}@example.org" for n in range(1001)]}, "1,000 recipients"),
        ({"cc": "jürgen@example.org"}, "ASCII before the @"),
        ({"reply_to": "jürgen@example.org"}, "ASCII before the @"),
        ({"tags": [str(n) for n in range(11)]}, "10 tags"),
        ({"tags": ["x" * 256]}, "255 characters"),
        ({"tags": ["frühling"]}, "tags of ASCII"),
        ({"metadata": {"k": "v" * 10_000}}, "metadata"),
        ({"metadata": {"k": "é" * 4_990}}, "metadata"),
        ({"metadata": {"postroom_id": "x"}}, "postroom_id"),
        ({"headers": {"X-SG-EID": "x"}}, "x-sg-eid"),
        ({"headers": {"X-A": "1", "x-a": "2"}}, "no header twice"),
        ({"send_at": datetime.now(UTC) + timedelta(hours=73)}, "72 hours"),
        ({"merge_data": {"ann@example.org": {"a": 1}}}, "dynamic template"),
        ({"template": "13b8f94f-bcae", "merge_data": {"ann@example.org": {"a": 1}}}, "begins with d-"),
        ({"cc": "c@example.org", "template": "d-1", "merge_data": {"c@example.org": {"a": 1}}}, "only for recipients"),
        ({ATTACHED: [Attachment(filename="empty.txt", content=b"")]}, "empty.txt"),
        ({ATTACHED: [Attachment(filename="a", content=b"x", content_type="text/csv; charset=utf-8")]}, "parameters"),
        ({ATTACHED: [Attachment(filename="big", content=b"x" * 22_600_000)]}, "30,000,000"),
        ({"text": "\x01" * 5_100_000}, "30,000,000"),
        ({"html": "é" * 15_100_000}, "30,000,000"),
        ({"template": "d-1", "merge_data": {"ann@example.org": {"a": "x" * 30_000_000}}}, "30,000,000"),
    ],
)
async def test_what_sendgrid_would_refuse_is_refused_before_the_wire(
    sendgrid: SendGridEmail, server: HttpRecorder, email: Callable[..., Email], fields: dict[str, Any], said: str
) -> None:
    with pytest.raises(MessageError, match=said) as caught:
        sendgrid.validate(email(**fields))
    assert str(caught.value).startswith("sg: SendGrid ")
    assert "nothing was sent" in str(caught.value)
    assert server.connections == 0


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"to": [f"a{n}@example.org" for n in range(1000)]},
        {"text": None, "subject": "", "template": "d-1"},
        {"text": None, "template": "13b8f94f-bcae"},
        {"tags": [f"{n % 10}" for n in range(20)]},
        {"metadata": {"k": "v" * 9_900}},
        {"headers": {"X-A": "1", "List-Unsubscribe": "<https://example.org/u>"}},
        {"send_at": datetime.now(UTC) + timedelta(hours=71)},
        {"send_at": datetime.now(UTC) - timedelta(hours=1)},
        {ATTACHED: [Attachment(filename="big", content=b"x" * 22_000_000)]},
        {"text": "\x01" * 4_900_000},
        {"to": "ann@müller.example"},
    ],
)
async def test_what_is_within_the_limits_passes(
    sendgrid: SendGridEmail, email: Callable[..., Email], fields: dict[str, Any]
) -> None:
    message = email(**fields)
    sendgrid.validate(message)
    (call,) = calls_for([message], sandbox=True)
    assert len(call.body()) < LARGEST_CALL


def test_all_that_is_wrong_is_said_at_once(sendgrid: SendGridEmail, email: Callable[..., Email]) -> None:
    with pytest.raises(MessageError, match=r"needs a text.*needs a subject.*10 tags"):
        sendgrid.validate(email(text="", subject="", tags=[str(n) for n in range(11)]))


def test_an_option_sendgrid_does_not_have_names_the_nearest(
    sendgrid: SendGridEmail, email: Callable[..., Email]
) -> None:
    with pytest.raises(InvalidOption, match="did you mean 'tracking_settings'") as caught:
        sendgrid.validate(email(provider_options={"tracking_setings": {}}))
    assert caught.value.path == "provider_options.tracking_setings"


@pytest.mark.parametrize("name", ["personalizations", "from", "subject", "send_at", "categories", "template_id"])
def test_an_option_may_not_replace_what_the_message_says(
    sendgrid: SendGridEmail, email: Callable[..., Email], name: str
) -> None:
    with pytest.raises(InvalidOption, match="the message's own fields"):
        sendgrid.validate(email(provider_options={name: []}))


@pytest.mark.parametrize(
    ("name", "value"), [("mail_settings", True), ("asm", 7), ("batch_id", 7), ("ip_pool_name", {})]
)
def test_an_option_of_a_wrong_type_is_refused(
    sendgrid: SendGridEmail, email: Callable[..., Email], name: str, value: Any
) -> None:
    with pytest.raises(InvalidOption, match=f"provider_options.{name}: must be"):
        sendgrid.validate(email(provider_options={name: value}))


@pytest.mark.parametrize(
    "fields",
    [
        {"html": 'é"\n\u2028<' * 30_000, "text": "x" * 70_000},
        {"calendar": "\\" * 70_000, "amp": "\x01" * 70_000},
        {ATTACHED: [Attachment(filename=f"{n}", content=b"x" * (70_000 + n)) for n in range(4)]},
        {"metadata": {"k": "v" * 500}, "subject": "s" * 500, "template": "d-1"},
    ],
)
def test_a_message_is_measured_without_being_built(email: Callable[..., Email], fields: dict[str, Any]) -> None:
    message = email(**fields)
    (call,) = calls_for([message], sandbox=True)
    assert size_of(message) == call.size >= len(call.body())
