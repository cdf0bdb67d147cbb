"""Reports in every form that servers give them: nested, misnamed, beyond ASCII, returned in part or quoted."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from postroom.events import Event, EventType

from .test_bounces import COMPLAINT, ID, MESSAGE_ID, POSTFIX, posted, transport_of

RETURNED = f"Message-ID: {MESSAGE_ID}\nFrom: post@example.org\nTo: ann@example.com\nSubject: Hello\n"


def read(mail: str | bytes) -> list[Event]:
    return transport_of().parse_webhook(posted(mail))


def report(
    *fields: str,
    kind: str = "message/delivery-status",
    returned: str = RETURNED,
    of: str = "message/rfc822",
    whole: str = "multipart/report; report-type=delivery-status",
    encoding: str = "8bit",
) -> str:
    body = "\n".join(["Reporting-MTA: dns; mx.example.com", "", *fields])
    return (
        f"From: MAILER-DAEMON@mx.example.com\nTo: post@example.org\nSubject: Returned\n"
        f'Content-Type: {whole}; boundary="b"\n\n--b\n\nSorry.\n'
        f"--b\nContent-Type: {kind}\nContent-Transfer-Encoding: {encoding}\n\n{body}\n\n"
        f"--b\nContent-Type: {of}\n\n{returned}\n--b--\n"
    )


def failed(recipient: str, *more: str, **changed: Any) -> Event:
    [event] = read(report(recipient, "Action: failed", "Status: 5.1.1", *more, **changed))
    return event


@pytest.mark.parametrize("whole", ["multipart/mixed", "multipart/report", "multipart/report; report-type=other"])
@pytest.mark.parametrize(
    "of",
    ["message/rfc822", "text/rfc822-headers", "message/global", "message/global-headers", "text/rfc822-header"],
)
def test_a_report_is_known_by_its_parts_whatever_holds_them(whole: str, of: str) -> None:
    event = failed("Final-Recipient: rfc822; ann@example.com", whole=whole, of=of)
    assert (event.type, event.recipient, event.permanent) == (EventType.BOUNCED, "ann@example.com", True)
    assert event.message_id == ID


def test_a_report_within_other_parts_is_found() -> None:
    inner = report("Final-Recipient: rfc822; ann@example.com", "Action: failed", "Status: 5.1.1").partition(
        "Content-Type"
    )
    mail = (
        "From: gate@example.org\nSubject: Fwd\n"
        f'Content-Type: multipart/mixed; boundary="o"\n\n--o\n\nA footer.\n--o\nContent-Type{inner[2]}\n--o--\n'
    )
    [event] = read(mail)
    assert (event.type, event.recipient, event.message_id) == (EventType.BOUNCED, "ann@example.com", ID)


def test_a_report_whose_boundary_is_another_than_it_says_is_a_hint() -> None:
    mail = report("Final-Recipient: rfc822; ann@example.com", "Action: failed", "Status: 5.1.1")
    [event] = read(mail.replace("Sorry.", "It was not delivered to her.").replace('boundary="b"', 'boundary="c"'))
    assert (event.type, event.recipient, event.message_id) == (EventType.BOUNCED, "ann@example.com", ID)
    assert event.permanent is None


def test_the_report_within_a_returned_mail_is_not_the_report() -> None:
    [event] = read(
        "From: ann@example.com\nSubject: look\nContent-Type: message/rfc822\n\n"
        + report("Final-Recipient: rfc822; ann@example.com", "Action: failed", "Status: 5.1.1")
    )
    assert event.type is EventType.OTHER


def test_the_message_may_be_quoted_in_the_text() -> None:
    mail = report("Final-Recipient: rfc822; ann@example.com", "Action: failed", "Status: 5.1.1", returned="X: y")
    [event] = read(mail.replace("Sorry.\n", f"Sorry.\n\n> Received: from a\n> Message-ID: {MESSAGE_ID}\n"))
    assert (event.message_id, event.permanent) == (ID, True)


@pytest.mark.parametrize("kind", ["message/global-delivery-status", "message/delivery-status"])
@pytest.mark.parametrize(
    ("field", "recipient"),
    [
        ("Final-Recipient: utf-8; \\x{e4}nn@example.com", "änn@example.com"),
        ("Final-Recipient: utf-8; änn@ex\\x{E4}mple.com", "änn@exämple.com"),
        ("Final-Recipient: UTF-8; \\x{1F600}@example.com", "\U0001f600@example.com"),
        ("Original-Recipient: rfc822; ann+40example.com", "ann@example.com"),
        ("Original-Recipient: rfc822; ann+2Bnews@example.com", "ann+news@example.com"),
        ("Original-Recipient: rfc822; ann+40@example.com", "ann+40@example.com"),
        ("Final-Recipient: rfc822; <ann@example.com> (Ann (at home))", "ann@example.com"),
        ("Final-Recipient: (so far) rfc822;(x)ann@example.com", "ann@example.com"),
        ("Final-Recipient: ann@example.com", "ann@example.com"),
        ("Final-Recipient: RFC822; @mx.example.com:ann@example.com", "ann@example.com"),
        ("Final-Recipient: rfc822; Ann Example <ann@example.com>", "ann@example.com"),
    ],
)
def test_an_address_is_read_in_every_form(kind: str, field: str, recipient: str) -> None:
    assert failed(field, kind=kind).recipient == recipient


def test_a_report_may_be_encoded() -> None:
    mail = report("Final-Recipient: rfc822;=20ann=40example.com", "Action: failed", encoding="quoted-printable")
    assert read(mail)[0].recipient == "ann@example.com"


@pytest.mark.parametrize(
    ("original", "final", "recipient"),
    [
        ("ann@example.com", "inbox@elsewhere.example", "ann@example.com"),
        ("list@elsewhere.example", "ann@example.com", "ann@example.com"),
        ("x@elsewhere.example", "y@elsewhere.example", "x@elsewhere.example"),
        ("ann+2Bx@example.com", "y@elsewhere.example", "ann+x@example.com"),
    ],
)
def test_of_two_recipients_the_one_the_message_was_sent_to_is_ours(original: str, final: str, recipient: str) -> None:
    event = failed(f"Original-Recipient: rfc822; {original}", f"Final-Recipient: rfc822; {final}")
    assert event.recipient == recipient


def test_which_of_two_readings_is_meant_the_returned_message_says() -> None:
    returned = RETURNED.replace("ann@", "ann+2Bx@")
    assert (
        failed("Original-Recipient: rfc822; ann+2Bx@example.com", returned=returned).recipient == "ann+2Bx@example.com"
    )


def test_each_recipient_of_a_report_has_what_is_said_of_them() -> None:
    said = [("a", "failed", "5.1.1"), ("b", "delayed", "4.4.1"), ("c", "relayed", "2.1.9"), ("d", "expanded", "2.0.0")]
    fields = [
        line
        for name, action, status in said
        for line in (f"Final-Recipient: rfc822; {name}@example.com", f"Action: {action}", f"Status: {status}", "")
    ]
    events = read(report(*fields))
    assert [event.type for event in events] == ["bounced", "deferred", "sent", "sent"]
    assert [event.recipient for event in events] == [f"{name}@example.com" for name, _, _ in said]
    assert [event.code for event in events] == [status for _, _, status in said]


@pytest.mark.parametrize(("status", "expected"), [("5.0.0", "bounced"), ("4.0.0", "deferred"), ("no", "other")])
def test_a_report_without_an_action_means_what_its_status_does(status: str, expected: str) -> None:
    [event] = read(report("Final-Recipient: rfc822; ann@example.com", f"Status: {status}"))
    assert event.type == expected


def test_a_line_broken_without_an_indent_belongs_to_its_field() -> None:
    event = failed(
        "Final-Recipient: rfc822; ann@example.com", "Diagnostic-Code: smtp; 550 5.1.1 no", "such user at all"
    )
    assert event.detail == "550 5.1.1 no such user at all"


@pytest.mark.parametrize("date", ["Fri, 1 Jan 2100 00:00:00 +0000", "Mon, 1 Jan 1900 00:00:00 +0000", "1 Jan 9999", ""])
def test_a_report_dated_when_no_server_can_have_written_it_is_dated_when_it_came(date: str) -> None:
    before = datetime.now(UTC)
    [event] = read(f"Date: {date}\n" + report("Final-Recipient: rfc822; ann@example.com", f"Last-Attempt-Date: {date}"))
    assert before <= event.occurred_at <= datetime.now(UTC)
    assert not event.dated


def complaint(*fields: str, returned: str = RETURNED) -> list[Event]:
    return read(
        'From: fbl@example.com\nContent-Type: multipart/report; boundary="b"\n\n--b\n\nA complaint.\n'
        "--b\nContent-Type: message/feedback-report\n\n" + "\n".join(fields) + "\n"
        f"--b\nContent-Type: message/rfc822\n\n{returned}\n--b--\n"
    )


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("abuse", "complained"),
        ("Fraud", "complained"),
        ("virus", "complained"),
        ("opt-out", "unsubscribed"),
        ("other", "other"),
        ("not-spam", "other"),
        ("auth-failure", "other"),
    ],
)
def test_every_kind_of_feedback_is_what_it_is(kind: str, expected: str) -> None:
    [event] = complaint(f"Feedback-Type: {kind}", "Original-Rcpt-To: <ann@example.com>")
    assert (event.type, event.code, event.recipient) == (expected, kind.lower(), "ann@example.com")


def test_a_complaint_has_an_event_for_each_recipient_it_names() -> None:
    events = complaint(
        "Feedback-Type: abuse", "Original-Rcpt-To: rfc822; ann@example.com", "Original-Rcpt-To: <b@example.com>"
    )
    assert [event.recipient for event in events] == ["ann@example.com", "b@example.com"]


@pytest.mark.parametrize(
    ("to", "recipient"), [("ann@example.com", "ann@example.com"), ("ann@example.com, b@example.com", None)]
)
def test_a_complaint_that_names_nobody_is_of_the_only_recipient(to: str, recipient: str | None) -> None:
    [event] = complaint("Feedback-Type: abuse", returned=RETURNED.replace("ann@example.com", to))
    assert (event.type, event.recipient, event.message_id) == (EventType.COMPLAINED, recipient, ID)


def test_what_outlook_passes_on_is_a_complaint() -> None:
    [event] = read(
        "From: staff@hotmail.com\nSubject: complaint about message from 192.0.2.1\n"
        'Content-Type: multipart/mixed; boundary="b"\n\n--b\nContent-Type: message/rfc822\n\n'
        f"X-HmXmrOriginalRecipient: ann@example.com\n{RETURNED}\n--b--\n"
    )
    assert (event.type, event.recipient, event.message_id) == (EventType.COMPLAINED, "ann@example.com", ID)
    assert not event.verified


def test_the_example_of_the_standard_is_still_read() -> None:
    assert [event.type for event in read(COMPLAINT)] == [EventType.COMPLAINED]
    assert [event.type for event in read(POSTFIX)] == [EventType.BOUNCED, EventType.DEFERRED]
