"""Bounces and complaints that come by mail, vouched for by the account's own mail server."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from time import process_time
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.errors import PayloadInvalid, SignatureInvalid, WebhookError
from postroom.events import EventType
from postroom.plugin import Resources, WebhookRequest
from postroom.receipts import Channel
from postroom_smtp.settings import SmtpSettings
from postroom_smtp.transport import SmtpEmail

SECRET = "canary-bounce-secret"
ID = "0123456789abcdef0123456789abcdef"
MESSAGE_ID = f"<{ID}@example.org>"

POSTFIX = """\
Return-Path: <>
Date: Thu,  1 Jan 2026 14:00:01 +0000 (UTC)
From: MAILER-DAEMON@mail.example.org (Mail Delivery System)
Subject: Undelivered Mail Returned to Sender
To: post@example.org
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
\tboundary="4WXYZ.1767276001/mail.example.org"
Message-Id: <20260101140001.4WXYZ@mail.example.org>

This is a MIME-encapsulated message.

--4WXYZ.1767276001/mail.example.org
Content-Description: Notification
Content-Type: text/plain; charset=us-ascii

This is the mail system at host mail.example.org.

--4WXYZ.1767276001/mail.example.org
Content-Description: Delivery report
Content-Type: message/delivery-status

Reporting-MTA: dns; mail.example.org
X-Postfix-Queue-ID: 4WXYZ
X-Postfix-Sender: rfc822; post@example.org
Arrival-Date: Thu,  1 Jan 2026 14:00:00 +0000 (UTC)

Final-Recipient: rfc822; ann@elsewhere.example
Original-Recipient: rfc822;ann@example.com
Action: failed
Status: 5.1.1
Remote-MTA: dns; mx.example.com
Diagnostic-Code: smtp; 550 5.1.1 <ann@example.com>: Recipient address
    rejected: User unknown

Final-Recipient: rfc822; bob@example.com
Action: delayed
Status: 4.4.1
Last-Attempt-Date: Thu, 1 Jan 2026 15:30:00 +0100
Diagnostic-Code: X-Postfix; connect to mx.example.com: Connection timed out

--4WXYZ.1767276001/mail.example.org
Content-Description: Undelivered Message
Content-Type: message/rfc822

Message-ID: <0123456789abcdef0123456789abcdef@example.org>
From: post@example.org
To: ann@example.com, bob@example.com
Subject: Hello

Hello
--4WXYZ.1767276001/mail.example.org--
"""

COMPLAINT = """\
From: <abusedesk@example.com>
Date: Thu, 8 Jan 2026 17:40:36 +0000
Subject: FW: Earn money
To: <abuse@example.net>
MIME-Version: 1.0
Content-Type: multipart/report; report-type=feedback-report;
     boundary="part1_13d.2e68ed54_boundary"

--part1_13d.2e68ed54_boundary
Content-Type: text/plain; charset="US-ASCII"

This is an email abuse report.
--part1_13d.2e68ed54_boundary
Content-Type: message/feedback-report

Feedback-Type: abuse
User-Agent: SomeGenerator/1.0
Version: 1
Original-Mail-From: <somespammer@example.net>
Original-Rcpt-To: <user@example.com>
Arrival-Date: Thu, 8 Jan 2026 14:00:00 -0500

--part1_13d.2e68ed54_boundary
Content-Type: text/rfc822-headers

From: <somespammer@example.net>
Subject: Earn money
Message-ID: <8787KJKJ3K4J3K4J3K4J3.mail@example.net>

--part1_13d.2e68ed54_boundary--
"""
"""After the example of RFC 5965, appendix B.2."""


def posted(mail: bytes | str, **changed: Any) -> WebhookRequest:
    raw = mail if isinstance(mail, bytes) else mail.replace("\n", "\r\n").encode()
    headers = {"content-type": "message/rfc822", "authorization": f"Bearer {SECRET}"}
    given = {"method": "POST", "url": "https://post.example.org/v1/webhooks/post", "headers": headers, "body": raw}
    return WebhookRequest(**given | changed)


def transport_of(**given: Any) -> SmtpEmail:
    return SmtpEmail("post", SmtpSettings(**{"host": "mail.example.org", "bounce_secret": SECRET} | given), Resources())


@pytest.fixture
def read() -> Callable[..., Any]:
    return transport_of().parse_webhook


def test_a_bounce_has_an_event_for_each_recipient(read: Callable[..., Any]) -> None:
    bounced, deferred = read(posted(POSTFIX))
    assert (bounced.channel, bounced.provider, bounced.account) == (Channel.EMAIL, "smtp", "post")
    assert (bounced.message_id, bounced.provider_message_id) == (ID, MESSAGE_ID)
    assert (bounced.type, bounced.recipient, bounced.code) == (EventType.BOUNCED, "ann@example.com", "5.1.1")
    assert bounced.permanent is True
    assert bounced.detail == "550 5.1.1 <ann@example.com>: Recipient address rejected: User unknown".strip("<>")
    assert bounced.occurred_at == datetime(2026, 1, 1, 14, 0, 1, tzinfo=UTC)
    assert (deferred.type, deferred.recipient, deferred.permanent) == (EventType.DEFERRED, "bob@example.com", None)
    assert deferred.occurred_at == datetime(2026, 1, 1, 14, 30, tzinfo=UTC)
    assert deferred.raw["Action"] == "delayed"


def test_line_ends_of_either_kind_are_read_alike(read: Callable[..., Any]) -> None:
    by_pipe = read(posted(POSTFIX.encode()))
    assert [event.fingerprint for event in by_pipe] == [event.fingerprint for event in read(posted(POSTFIX))]


@pytest.mark.parametrize(
    ("action", "status", "expected", "permanent"),
    [
        ("failed", "5.1.1", EventType.BOUNCED, True),
        ("failed", "5.1.10 (no mail)", EventType.BOUNCED, True),
        ("Failed", "5.2.1", EventType.BOUNCED, True),
        ("failed", "5.2.2", EventType.BOUNCED, False),
        ("failed", "5.7.26", EventType.BOUNCED, False),
        ("failed", "4.4.7", EventType.BOUNCED, False),
        ("failed", "no idea", EventType.BOUNCED, None),
        ("delayed", "4.4.1", EventType.DEFERRED, None),
        ("delivered", "2.0.0", EventType.DELIVERED, None),
        ("relayed", "2.0.0", EventType.SENT, None),
        ("expanded", "2.0.0", EventType.SENT, None),
        ("levitated", "2.0.0", EventType.OTHER, None),
    ],
)
def test_every_action_has_its_word(
    read: Callable[..., Any], action: str, status: str, expected: EventType, permanent: bool | None
) -> None:
    mail = POSTFIX.replace("Action: failed", f"Action: {action}").replace("Status: 5.1.1", f"Status: {status}")
    mail = mail.replace("smtp; 550 5.1.1 <ann@example.com>: Recipient address\n    rejected: User unknown", "smtp; no")
    event = read(posted(mail))[0]
    assert (event.type, event.permanent) == (expected, permanent)


def test_a_report_that_returns_no_message_id_says_of_no_address_that_it_is_dead(read: Callable[..., Any]) -> None:
    event = read(posted(POSTFIX.replace("Message-ID:", "X-Gone:")))[0]
    assert (event.type, event.permanent, event.provider_message_id) == (EventType.BOUNCED, None, None)


def test_a_message_is_known_by_its_headers_alone_or_by_in_reply_to(read: Callable[..., Any]) -> None:
    headers = POSTFIX.replace("Content-Type: message/rfc822\n", "Content-Type: text/rfc822-headers\n")
    reply = POSTFIX.replace("Message-ID:", "X-Gone:").replace("Return-Path: <>", f"In-Reply-To: {MESSAGE_ID}")
    for mail in (headers, reply):
        assert read(posted(mail))[0].message_id == ID


def test_a_message_id_that_is_not_ours_is_a_handle_alone(read: Callable[..., Any]) -> None:
    event = read(posted(POSTFIX.replace(MESSAGE_ID, "<order-7@example.org>")))[0]
    assert (event.message_id, event.provider_message_id) == (None, "<order-7@example.org>")


def test_a_complaint_names_who_complained_about_which_message(read: Callable[..., Any]) -> None:
    [event] = read(posted(COMPLAINT))
    assert (event.type, event.recipient, event.code) == (EventType.COMPLAINED, "user@example.com", "abuse")
    assert event.provider_message_id == "<8787KJKJ3K4J3K4J3K4J3.mail@example.net>"
    assert event.occurred_at == datetime(2026, 1, 8, 19, tzinfo=UTC)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("fraud", EventType.COMPLAINED), ("opt-out", EventType.UNSUBSCRIBED), ("not-spam", EventType.OTHER)],
)
def test_every_kind_of_feedback_has_its_word(read: Callable[..., Any], kind: str, expected: EventType) -> None:
    assert read(posted(COMPLAINT.replace("Feedback-Type: abuse", f"Feedback-Type: {kind}")))[0].type is expected


def test_a_complaint_that_hides_its_recipient_has_none(read: Callable[..., Any]) -> None:
    [event] = read(posted(COMPLAINT.replace("Original-Rcpt-To:", "X-Hidden:")))
    assert (event.type, event.recipient) == (EventType.COMPLAINED, None)


def test_another_mail_is_an_event_that_changes_nothing(read: Callable[..., Any]) -> None:
    [event] = read(posted("From: Ann <ann@example.com>\nSubject: Out of office\n\nI am away.\n"))
    assert (event.type, event.sender, event.detail) == (EventType.OTHER, "ann@example.com", "Out of office")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": SECRET},
        {"authorization": f"Basic {SECRET}"},
        {"authorization": "Bearer "},
        {"authorization": f"Bearer {SECRET}x"},
        {"authorization": "Bearer ü"},
    ],
    ids=str,
)
def test_without_the_secret_nothing_is_read(read: Callable[..., Any], headers: dict[str, str]) -> None:
    with pytest.raises(SignatureInvalid, match="^post: ") as caught:
        read(posted(POSTFIX, headers={"content-type": "message/rfc822", **headers}))
    assert SECRET not in str(caught.value)


def test_an_account_without_a_secret_takes_no_bounces() -> None:
    with pytest.raises(SignatureInvalid, match="set bounce_secret"):
        transport_of(bounce_secret=None).parse_webhook(posted(POSTFIX, headers={"authorization": "Bearer "}))


@pytest.mark.parametrize("secret", ["", "short"])
def test_a_secret_that_can_be_guessed_is_refused_when_the_settings_load(secret: str) -> None:
    with pytest.raises(ValueError, match="at least 16"):
        SmtpSettings(host="mail.example.org", bounce_secret=secret)


@pytest.mark.parametrize("kind", ["application/json", "", "text/plain"])
def test_what_is_not_posted_as_a_mail_is_refused(read: Callable[..., Any], kind: str) -> None:
    with pytest.raises(PayloadInvalid, match="message/rfc822"):
        read(posted(POSTFIX, headers={"content-type": kind, "authorization": f"Bearer {SECRET}"}))


@pytest.mark.parametrize("body", [b"", b"\n", b"no header at all"], ids=str)
def test_what_is_no_mail_is_unreadable(read: Callable[..., Any], body: bytes) -> None:
    with pytest.raises(PayloadInvalid, match="no header"):
        read(posted(body))


def test_parts_nested_without_end_are_refused_or_ignored(read: Callable[..., Any]) -> None:
    levels = range(5000)
    mail = b"From: a@example.org\n" + b"".join(
        b'Content-Type: multipart/mixed; boundary="b%d"\n\n--b%d\n' % (level, level) for level in levels
    )
    with pytest.raises(PayloadInvalid, match="nested"):
        read(posted(mail))


def nested(levels: int) -> bytes:
    opened = b"".join(
        b'Content-Type: multipart/mixed; boundary="b%d"\n\n--b%d\n' % (level, level) for level in range(levels)
    )
    return b"From: a@example.org\n" + opened + b"\n" * 1_000_000


MANY_PARTS = {
    "ninety levels of parts": nested(90),
    "ninety levels of mails": b"From: a@example.org\n" + b"Content-Type: message/rfc822\n\n" * 90,
    "levels whose type stands on the next line": nested(90).replace(b"Type: ", b"Type:\n\t "),
    "many parts": b'Content-Type: multipart/mixed; boundary="b"\n\n' + b"--b\n\n" * 50_000,
    "many parts parted by carriage returns": b'Content-Type: multipart/mixed; boundary="b"\r\r' + b"--b\r\r" * 50_000,
}


@pytest.mark.parametrize("mail", MANY_PARTS.values(), ids=MANY_PARTS)
def test_more_parts_than_a_report_has_are_refused_before_they_are_parsed(read: Callable[..., Any], mail: bytes) -> None:
    with pytest.raises(PayloadInvalid, match="more parts"):
        read(posted(mail))


LONG_TYPES = {
    "parameters": "multipart/report" + '; a="b"' * 2000,
    "parameters on further lines": "multipart/report" + ';\n\ta="b"' * 2000,
    "a boundary": f'multipart/report; boundary="{"b" * 10_000}"',
}


@pytest.mark.parametrize("kind", LONG_TYPES.values(), ids=LONG_TYPES)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_type_that_takes_long_to_take_apart_is_refused(read: Callable[..., Any], kind: str, end: str) -> None:
    inside = f"From: a@example.org\nContent-Type: message/rfc822\n\nX: y\ncontent-type :{kind}\n\nx"
    for mail in (f"Content-Type: {kind}\n\nx", inside):
        with pytest.raises(PayloadInvalid, match="Content-Type of more than"):
            read(posted(mail.replace("\n", end).encode()))


def calls_of(work: Callable[[], object]) -> int:
    """How many functions are called: a cost that is the same on every machine."""
    calls = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(before)
    return calls


COSTLY = {
    "parts nested 20,000 deep": b"From: a@example.org\n"
    + b"".join(b'Content-Type: multipart/mixed; boundary="b%d"\n\n--b%d\n' % (n, n) for n in range(20_000)),
    "20,000 parts side by side": b'From: a@example.org\nContent-Type: multipart/mixed; boundary="b"\n\n'
    + b"--b\n\n" * 20_000,
    "100,000 commas in From": b"From: " + b"," * 100_000 + b"\n\nhello",
    "50,000 brackets in From": b"From: " + b"(" * 50_000 + b"\n\nhello",
    "50,000 brackets in To and Date": b"To: " + b"(" * 50_000 + b"\nDate: " + b"(" * 50_000 + b"\n\nhello",
    "50,000 brackets around a recipient": POSTFIX.replace("rfc822;ann@", "rfc822;" + "(" * 50_000 + "ann@").encode(),
    "a notice of brackets": b"From: MAILER-DAEMON@a.example\n\nwas not delivered to\n" + (b"<" * 500 + b"\n") * 400,
}


@pytest.mark.parametrize("mail", COSTLY.values(), ids=COSTLY)
def test_a_mail_that_is_made_to_cost_much_costs_little_and_has_an_answer_for_good(mail: bytes) -> None:
    def read_or_refuse() -> None:
        with suppress(PayloadInvalid):  # 400; anything else were 503, and the mail server would try for days
            transport_of().parse_webhook(posted(mail))

    assert calls_of(read_or_refuse) < 100_000
    begun = process_time()
    read_or_refuse()
    assert process_time() - begun < 10, "half a second at most on any machine of today"


def statuses(count: int) -> bytes:
    groups = "".join(f"Final-Recipient: rfc822; r{n}@example.com\nAction: failed\n\n" for n in range(count))
    mail = POSTFIX.replace("Final-Recipient: rfc822; bob", f"{groups}Final-Recipient: rfc822; bob")
    return ("X: y\n" * 8 * count + mail).encode()


def complaint(count: int) -> bytes:
    fields = "".join(f"Original-Rcpt-To: <r{n}@example.com>\n" for n in range(count)) + "X: y\n" * 8 * count
    return COMPLAINT.replace("Version: 1\n", f"Version: 1\n{fields}").encode()


@pytest.mark.parametrize("make", [statuses, complaint])
def test_twice_as_many_recipients_and_fields_cost_twice_as_much(
    read: Callable[..., Any], make: Callable[[int], bytes]
) -> None:
    once, twice = (calls_of(partial(read, posted(make(size)))) for size in (200, 400))
    assert twice < 2.5 * once


ODD = st.sampled_from(["(" * 2000, "@@" * 40, "<" * 300, '"', "Mon, 01 Jan 0001 00:00:00 +2359", "1 Jan 9999 23:59 -2359",
                       "Thu, 32 Dec 99999999999999999999 00:00:00 +99999999999", "\udcff", "=?utf-8?q?=28?="])  # fmt: skip


@given(ODD | st.text(max_size=30), ODD | st.text(max_size=30))
def test_a_mail_with_any_from_and_date_is_taken(sender: str, date: str) -> None:
    lines = [f"From: {sender}", f"Date: {date}", "Subject: out of office", "", "away"]
    mail = "\n".join(line.replace("\n", " ").replace("\r", " ") for line in lines[:3]) + "\n\naway"
    [event] = transport_of().parse_webhook(posted(mail.encode("utf-8", "surrogatepass")))
    assert event.type is EventType.OTHER
    assert event.occurred_at.astimezone(UTC).timestamp() > 0
    assert event.model_dump_json()


def test_the_fields_that_an_event_keeps_are_bounded(read: Callable[..., Any]) -> None:
    many = "".join(f"X-{number}: {'x' * 5000}\n" for number in range(90))
    events = read(posted(COMPLAINT.replace("Version: 1\n", f"Version: 1\n{many}")))
    assert all(len(event.model_dump_json()) < 50_000 for event in events)


def test_a_mail_is_read_to_a_bound_and_its_report_is_before_that(read: Callable[..., Any]) -> None:
    mail = POSTFIX.replace("Hello\n--", "x" * 5_000_000 + "\n--")
    assert [event.type for event in read(posted(mail))] == [EventType.BOUNCED, EventType.DEFERRED]


def test_recipients_are_read_to_a_bound(read: Callable[..., Any]) -> None:
    groups = "".join(f"Final-Recipient: rfc822; r{n}@example.com\nAction: failed\n\n" for n in range(3000))
    assert (
        len(read(posted(POSTFIX.replace("Final-Recipient: rfc822; bob", f"{groups}Final-Recipient: rfc822; bob"))))
        == 1000
    )


LINES = st.sampled_from([*POSTFIX.splitlines(), *COMPLAINT.splitlines(), "", "Status: 5", "Final-Recipient: ;"])


@given(st.lists(LINES | st.text(max_size=20), max_size=40))
def test_any_mixture_of_lines_is_events_or_a_webhook_error(lines: list[str]) -> None:
    try:
        events = transport_of().parse_webhook(posted("\n".join(lines).encode("utf-8", "surrogatepass")))
    except WebhookError:
        return
    assert all(event.fingerprint and event.model_dump_json() for event in events)


@given(st.binary(max_size=200), st.integers(0, len(POSTFIX)))
def test_any_bytes_in_a_report_are_events_or_a_webhook_error(junk: bytes, at: int) -> None:
    raw = POSTFIX.encode()
    for mail in (junk, raw[:at] + junk + raw[at:], COMPLAINT.encode()[: at // 2] + junk):
        try:
            events = transport_of().parse_webhook(posted(mail))
        except WebhookError:
            continue
        assert all(event.fingerprint and event.model_dump_json() for event in events)


@given(st.binary(max_size=64), st.text(st.characters(), max_size=20))
def test_any_bytes_without_the_secret_are_refused(body: bytes, given_secret: str) -> None:
    headers = {"content-type": "message/rfc822", "authorization": f"Bearer {given_secret}"}
    with pytest.raises(SignatureInvalid):
        transport_of().parse_webhook(posted(body, headers=headers))
