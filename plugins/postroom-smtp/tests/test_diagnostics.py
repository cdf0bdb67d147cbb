"""What a status and a diagnostic text say together of an address: only what nothing contradicts calls it dead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from postroom.events import Event
from postroom_smtp.bounces.diagnostics import diagnose
from postroom_smtp.status_codes import Cause, cause_of

from .test_bounces import POSTFIX, posted, transport_of

BLAMES = {
    Cause.DEAD: "5.1.1 5.1.2 5.1.3 5.1.6 5.1.10 5.2.1",
    Cause.MAILBOX: "5.2.2 4.2.2 4.2.1 5.1.4",
    Cause.SENDER: "5.1.7 5.1.8 4.1.8 5.7.8 5.7.23 5.7.25 5.7.26 5.7.27",
    Cause.POLICY: "5.7.0 5.7.1 5.7.2 5.7.17 5.7.606 4.7.28",
    Cause.MESSAGE: "5.2.3 5.3.4 5.6.1 5.6.7",
    Cause.SYSTEM: "5.3.2 5.4.1 5.4.4 5.4.7 5.5.1 4.4.1 4.3.1",
    Cause.UNSAID: "5.0.0 5.1.0 5.2.0 5.3.0 5.5.0 5.1.90 4.1.1",
}


@pytest.mark.parametrize(
    ("code", "cause"), [(code, cause) for cause, codes in BLAMES.items() for code in codes.split()], ids=str
)
def test_every_enhanced_code_blames_one(code: str, cause: Cause) -> None:
    assert cause_of(code) is cause


DEAD = [
    ("5.1.1", "550 5.1.1 <ann@example.com>: Recipient address rejected: User unknown in virtual alias table"),
    ("5.1.1", "550-5.1.1 The email account that you tried to reach does not exist. Please try"),
    ("5.0.0", "550 5.1.1 <ann@example.com>... User unknown"),
    ("5.0.0", "550 no such user"),
    ("", "550 Unknown user ann@example.com"),
    ("5.5.0", "550 5.5.0 Invalid recipient"),
    ("5.1.1", "<spam-quota-full@example.com>: user unknown"),
    ("5.1.2", ""),
]


@pytest.mark.parametrize(("status", "text"), DEAD)
def test_an_address_is_dead_where_a_code_or_a_refusal_in_words_says_so(status: str, text: str) -> None:
    assert diagnose(status, text).permanent is True


SPARED = [
    ("5.1.1", "550 5.7.1 message refused", Cause.POLICY),
    ("5.1.1", "550 5.1.1 mail from 192.0.2.1 is blocked, see https://lists.example.com", Cause.POLICY),
    ("5.1.1", "550 5.1.1 your message looks like spam", Cause.POLICY),
    ("5.1.1", "552 5.1.1 mailbox full", Cause.MAILBOX),
    ("5.1.1", "550 5.2.2 <ann@example.com>... user is over quota", Cause.MAILBOX),
    ("5.1.1", "550 sender address rejected: domain does not exist", Cause.SENDER),
    ("5.0.0", "550 SPF check failed, user unknown", Cause.SENDER),
    ("5.1.1", "552 message size exceeds the limit", Cause.MESSAGE),
    ("5.2.1", "450 4.2.1 The user you are trying to contact is receiving mail at a rate that", Cause.MAILBOX),
    ("5.1.1", "450 4.1.1 <ann@example.com>: unverified address: Address lookup failed", Cause.MAILBOX),
    ("4.1.1", "user unknown", Cause.SYSTEM),
    ("5.7.1", "550 5.7.1 user unknown", Cause.POLICY),
    ("5.4.1", "550 5.4.1 Recipient address rejected: Access denied", Cause.POLICY),
    ("5.4.4", "Host or domain name not found", Cause.SYSTEM),
]


@pytest.mark.parametrize(("status", "text", "cause"), SPARED)
def test_whatever_blames_another_spares_the_address(status: str, text: str, cause: Cause) -> None:
    found = diagnose(status, text)
    assert (found.cause, found.permanent) == (cause, False)


@pytest.mark.parametrize(("status", "text"), [("5.0.0", ""), ("5.1.0", "550 no"), ("", "user unknown"), ("", "")])
def test_what_nobody_has_said_is_unsaid(status: str, text: str) -> None:
    assert diagnose(status, text).permanent is None


def test_words_count_for_nothing_where_the_recipient_had_been_taken() -> None:
    assert diagnose("5.0.0", "550 user unknown", late=True).permanent is None
    assert diagnose("5.1.1", "550 user unknown", late=True).permanent is True


def test_a_code_in_the_text_says_more_than_a_status_without_detail() -> None:
    assert diagnose("5.0.0", "smtp; 550 5.2.2 mailbox full").code == "5.2.2"
    assert diagnose("5.0.0", "smtp; 550 no").code == "5.0.0"
    assert diagnose("", "smtp; 550 no").code == "550"


@pytest.fixture
def first() -> Callable[[str], Event]:
    read: Callable[..., Any] = transport_of().parse_webhook
    return lambda mail: read(posted(mail))[0]


SAID = "550 5.1.1 <ann@example.com>: Recipient address\n    rejected: User unknown"


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("5.1.8", "550 5.1.8 sender domain"),
        ("5.1.1", "550 5.7.1 blocked"),
        ("5.1.1", "452 4.2.2 mailbox full"),
        ("5.3.4", "552 5.3.4 message too big"),
    ],
)
def test_a_report_that_blames_another_suppresses_nobody(first: Callable[[str], Event], status: str, said: str) -> None:
    assert SAID in POSTFIX
    mail = POSTFIX.replace("Status: 5.1.1", f"Status: {status}").replace(SAID, said)
    assert first(mail).permanent is False


def test_a_server_that_refuses_the_content_knows_the_recipient(first: Callable[[str], Event]) -> None:
    mail = POSTFIX.replace("Status: 5.1.1", "Status: 5.0.0").replace("smtp; 550 5.1.1 <", "smtp; 550 <")
    late = mail.replace(
        "This is the mail system", "<ann@example.com>: host mx said: 550 (in reply to end of DATA command)"
    )
    assert first(mail).permanent is True
    assert first(late).permanent is None
