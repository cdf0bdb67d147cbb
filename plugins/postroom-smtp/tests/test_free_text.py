"""Bounces in words alone, in the manner of servers that know no RFC 3464: hints, which never suppress anybody."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.events import Event, EventType
from postroom_smtp.return_paths import ReturnPaths

from .test_bounces import ID, MESSAGE_ID, SECRET, posted, transport_of

OURS = (
    f"Received: from a\nMessage-ID: {MESSAGE_ID}\nFrom: post@example.org\nTo: ann@example.com\nSubject: Hello\n\nHello"
)


def bounce(
    words: str, *, sender: str = "MAILER-DAEMON@mx.example.com", subject: str = "failure notice", more: str = ""
) -> str:
    return f"From: {sender}\nTo: post@example.org\nSubject: {subject}\n{more}\n{words}\n"


def read(mail: str, **settings: Any) -> list[Event]:
    return transport_of(**settings).parse_webhook(posted(mail))


QMAIL = f"""\
Hi. This is the qmail-send program at mx.example.com.
I'm afraid I wasn't able to deliver your message to the following addresses.
This is a permanent error; I've given up. Sorry it didn't work out.

<ann@example.com>:
Sorry, no mailbox here by that name. (#5.1.1)

--- Below this line is a copy of the message.

{OURS}
"""
EXIM = f"""\
This message was created automatically by mail delivery software.

A message that you sent could not be delivered to one or more of its
recipients. This is a permanent error. The following address(es) failed:

  ann@example.com
    host mx.example.com [192.0.2.1]
    SMTP error from remote mail server after RCPT TO:<ann@example.com>:
    550 5.2.2 over quota

------ This is a copy of the message, including all the headers. ------

{OURS}
"""
SENDMAIL = f"""\
The original message was received at Thu, 1 Jan 1998 00:00:00 GMT
from mail.example.org [192.0.2.7]

   ----- The following addresses had permanent fatal errors -----
<ann@example.com>

   ----- Transcript of session follows -----
... while talking to mx.example.com.:
>>> RCPT To:<ann@example.com>
<<< 550 <ann@example.com>... User unknown

   ----- Original message follows -----

{OURS}
"""
POSTFIX_NOTICE = f"""\
This is the Postfix program at host mail.example.org.

<ann@example.com>: host mx.example.com[192.0.2.1] said: 554 5.7.1
    Service unavailable; Client host blocked (in reply to RCPT TO command)

{OURS}
"""
DOMINO = """\
Your message

  Subject: Hello

was not delivered to:

  ann@example.com

because:

  User Ann (ann@example.com) not listed in Domino Directory
"""
NOTES = f"""\
------- Failure Reasons  --------

User not listed in public Name & Address Book
ann@example.com

------- Returned Message --------
{OURS}
"""
EXCHANGE = """\
Your message

  To:      ann@example.com
  Subject: Hello
  Sent:    Thu, 1 Jan 2004 00:00:00 -0000

did not reach the following recipient(s):

ann@example.com on Thu, 1 Jan 2004 00:00:00 -0000
    The recipient name is not recognized
"""
OUTLOOK = """\
Delivery has failed to these recipients or groups:

ann@example.com
The email address you entered couldn't be found. Please check it.

Remote Server returned '550 5.1.1 RESOLVER.ADR.RecipNotFound; not found'
"""
YAHOO = f"""\
Sorry, we were unable to deliver your message to the following address.

<ann@example.com>:
554: delivery error: This user doesn't have an example.com account

--- Below this line is a copy of the message.

{OURS}
"""
GMX = f"""\
This message was created automatically by mail delivery software.

A message that you sent could not be delivered to one or more of
its recipients. The following address failed:

"ann@example.com":
SMTP error from remote server after RCPT command:
host: mx.example.com
5.1.1 unknown recipient

--- The header of the original message is following. ---

{OURS}
"""
T_ONLINE = f"""\
|------------------------- Message log follows: -------------------------|
 no valid recipients were found for this message
|------------------------- Failed addresses follow: ---------------------|
 <ann@example.com> ... unknown user
|------------------------- Message text follows: ------------------------|
{OURS}
"""

OF_SERVERS = {
    "qmail": (QMAIL, "dead"),
    "Exim": (EXIM, "mailbox"),
    "Sendmail": (SENDMAIL, "dead"),
    "Postfix": (POSTFIX_NOTICE, "policy"),
    "Domino": (DOMINO, "dead"),
    "Notes": (NOTES, "dead"),
    "Exchange": (EXCHANGE, "dead"),
    "Outlook.com": (OUTLOOK, "dead"),
    "Yahoo": (YAHOO, "dead"),
    "GMX": (GMX, "dead"),
    "T-Online": (T_ONLINE, "dead"),
}


@pytest.mark.parametrize(("words", "cause"), OF_SERVERS.values(), ids=OF_SERVERS)
def test_the_words_of_a_server_are_a_hint_that_suppresses_nobody(words: str, cause: str) -> None:
    [event] = read(bounce(words, subject="Undeliverable: Hello"))
    assert (event.type, event.recipient) == (EventType.BOUNCED, "ann@example.com")
    assert (event.raw["confidence"], event.raw["cause"]) == ("high", cause)
    assert event.permanent is None
    assert not event.verified
    assert event.message_id == (ID if MESSAGE_ID in words else None)


def test_a_warning_is_a_delay() -> None:
    words = (
        "Your message to the following address has been delayed, and will be retried for 2 more days:\n\n"
        "  ann@example.com\n\nThe recipient server did not accept our requests to connect: connection timed out\n"
    )
    [event] = read(bounce(words, subject="Warning: could not send message for past 4 hours"))
    assert (event.type, event.recipient, event.raw["cause"]) == (EventType.DEFERRED, "ann@example.com", "system")


def test_each_recipient_has_the_words_that_stand_behind_the_name() -> None:
    words = QMAIL.replace("\n--- Below", "\n<b@example.com>:\nmailbox is full. (#5.2.2)\n\n--- Below").replace(
        "To: ann@example.com", "To: ann@example.com, b@example.com"
    )
    events = read(bounce(words))
    assert [(event.recipient, event.code) for event in events] == [
        ("ann@example.com", "5.1.1"),
        ("b@example.com", "5.2.2"),
    ]


def test_whom_the_message_was_for_besides_has_not_failed() -> None:
    words = EXCHANGE.replace("To:      ann@example.com", "To:      b@example.com; ann@example.com")
    assert [event.recipient for event in read(bounce(words))] == ["ann@example.com"]
    unsaid = words.replace("ann@example.com on", "Ann on")
    assert [event.type for event in read(bounce(unsaid))] == [EventType.OTHER]


def test_the_header_that_exim_writes_names_the_recipients() -> None:
    mail = bounce(
        "It failed.", sender="desk@example.com", more="X-Failed-Recipients: ann@example.com,\n b@example.com\n"
    )
    assert [(event.recipient, event.raw["confidence"]) for event in read(mail)] == [
        ("ann@example.com", "high"),
        ("b@example.com", "high"),
    ]


def test_html_is_read_where_nothing_else_is_there() -> None:
    words = "<html><p>was not delivered to:<br>&lt;ann@example.com&gt;<br>550 no such user</p></html>"
    [event] = read(bounce(words, more="Content-Type: text/html\n"))
    assert (event.type, event.recipient, event.raw["cause"]) == (EventType.BOUNCED, "ann@example.com", "dead")


def test_a_person_who_writes_of_a_bounce_changes_nothing() -> None:
    [event] = read(bounce(QMAIL, sender="ann@example.net", subject="Fwd: failure notice"))
    assert (event.type, event.raw["confidence"], event.permanent) == (EventType.OTHER, "low", None)
    [asked] = read(
        bounce("Why was this not delivered to bob@example.com?", sender="ann@example.net", subject="a question")
    )
    assert (asked.type, asked.recipient) == (EventType.OTHER, None)


@pytest.mark.parametrize("subject", ["Out of office", "Automatic reply: Hello", "Auto-Reply"])
def test_an_absence_note_is_no_bounce(subject: str) -> None:
    words = "I am away. Until then your message was not delivered to me; write to bob@example.com."
    [event] = read(bounce(words, sender="ann@example.com", subject=subject, more="Return-Path: <>\n"))
    assert (event.type, event.recipient) == (EventType.OTHER, None)


def test_whom_a_bounce_comes_from_and_goes_to_is_no_recipient() -> None:
    words = (
        "was not delivered to\n\npost@example.org\nMAILER-DAEMON@mx.example.com\npostmaster@mx.example.com\n550 no\n"
    )
    assert all(event.type is EventType.OTHER for event in read(bounce(words)))


def test_words_too_count_only_at_a_signed_return_path() -> None:
    signing = {"return_path": "bounces@example.org", "return_path_secret": SECRET * 2}
    path = ReturnPaths("bounces@example.org", SECRET * 2).path_for(ID)
    [other] = read(bounce(QMAIL), **signing)
    assert (other.type, other.recipient) == (EventType.OTHER, None)
    [ours] = read(bounce(QMAIL, more=f"Delivered-To: {path}\n"), **signing)
    assert (ours.type, ours.message_id, ours.permanent) == (EventType.BOUNCED, ID, None)


WORDS = st.sampled_from([*QMAIL.splitlines(), *SENDMAIL.splitlines(), *EXIM.splitlines(), "<a@b.example>", "550 no"])


@given(st.lists(WORDS | st.text(max_size=30), max_size=30))
def test_no_words_make_an_address_dead(lines: list[str]) -> None:
    words = "\n".join(lines).encode("utf-8", "replace").decode()
    events = read(bounce(words))
    assert events
    assert all(event.permanent is None and event.model_dump_json() for event in events)
