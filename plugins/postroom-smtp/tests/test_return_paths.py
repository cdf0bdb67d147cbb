"""Each message has a signed envelope sender of its own, and a bounce counts only when it came to one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from postroom import Email
from postroom.config.accounts import settings_for_message
from postroom.events import Event, EventType
from postroom.plugin import Resources
from postroom.testing.smtp import SmtpRecorder
from postroom_smtp.return_paths import LONGEST_LOCAL_PART, LONGEST_NAME, ReturnPaths
from postroom_smtp.settings import SmtpSettings
from postroom_smtp.transport import SmtpEmail

from .conftest import OpenAccount
from .test_bounces import COMPLAINT, ID, MESSAGE_ID, POSTFIX, SECRET, posted

ADDRESS = "bounces@example.org"
KEY = "0123456789abcdef0123456789abcdef"
PATHS = ReturnPaths(ADDRESS, KEY)
SETTINGS = {"return_path": ADDRESS, "return_path_secret": KEY}
IDS = st.binary(min_size=16, max_size=16).map(bytes.hex)


def read(mail: str) -> list[Event]:
    settings = SmtpSettings(**{"host": "mail.example.org", "bounce_secret": SECRET, **SETTINGS})
    return SmtpEmail("post", settings, Resources()).parse_webhook(posted(mail))


def bounce(to: str, message_id: str = MESSAGE_ID) -> str:
    return POSTFIX.replace("To: post@example.org\n", f"To: {to}\n", 1).replace(MESSAGE_ID, message_id)


async def test_the_envelope_sender_is_the_messages_own_and_the_header_is_not(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    account = await open_account(server, **SETTINGS)
    email = make_email(id=ID)
    await account.send(email)
    [message] = server.messages
    assert message.sender == PATHS.path_for(ID) != ADDRESS
    assert email.from_
    assert f"From: {email.from_.email}".encode() in message.data
    assert PATHS.path_for(ID).encode() not in message.data


async def test_an_id_that_postroom_did_not_give_has_the_address_itself(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    account = await open_account(server, **SETTINGS)
    await account.send(make_email(id="order-7"))
    assert server.messages[0].sender == ADDRESS


@given(IDS)
def test_a_return_path_gives_the_id_back_whatever_became_of_its_case(message_id: str) -> None:
    path = PATHS.path_for(message_id)
    assert len(path.rpartition("@")[0]) <= LONGEST_LOCAL_PART
    for form in (path, path.upper(), f"<{path}>", f"Bounces <{path}>, other@example.org"):
        assert PATHS.message_id(["", form]) == message_id


@given(IDS, st.integers(0, 41), st.sampled_from("abcdefghijklmnopqrstuvwxyz234567"))
def test_a_return_path_that_is_altered_anywhere_names_no_message(message_id: str, at: int, letter: str) -> None:
    name, _, token = PATHS.path_for(message_id).partition("+")
    altered = f"{name}+{token[:at]}{letter}{token[at + 1 :]}"
    assert PATHS.message_id([altered]) in ({message_id} if altered == PATHS.path_for(message_id) else {None})


@given(IDS)
def test_a_return_path_of_another_secret_or_address_names_no_message(message_id: str) -> None:
    for other in (ReturnPaths(ADDRESS, KEY[::-1]), ReturnPaths("bounces@example.net", KEY)):
        assert PATHS.message_id([other.path_for(message_id)]) is None


def test_the_longest_name_leaves_room_for_the_token() -> None:
    longest = "b" * LONGEST_NAME + "@example.org"
    assert len(ReturnPaths(longest, KEY).path_for(ID).rpartition("@")[0]) == LONGEST_LOCAL_PART
    with pytest.raises(ValueError, match="at most 21"):
        SmtpSettings(host="mail.example.org", return_path=f"b{longest}", return_path_secret=KEY)


@pytest.mark.parametrize("field", ["To", "Delivered-To", "X-Original-To"])
def test_a_bounce_to_the_return_path_of_a_message_is_about_it_whatever_it_returns(field: str) -> None:
    mail = bounce("undisclosed", "<another@example.org>").replace("Return-Path: <>", f"{field}: {PATHS.path_for(ID)}")
    bounced, deferred = read(mail)
    assert (bounced.type, bounced.message_id, bounced.permanent) == (EventType.BOUNCED, ID, True)
    assert (deferred.type, deferred.message_id) == (EventType.DEFERRED, ID)
    assert not bounced.verified, "whom it names, the sender of the bounce says"


@pytest.mark.parametrize(
    "to",
    [
        ADDRESS,
        "post@example.org",
        f"bounces+{'a' * 42}@example.org",
        PATHS.path_for(ID).replace("example.org", "e.org"),
    ],
)
def test_a_bounce_to_any_other_address_changes_nothing_though_it_knows_the_message_id(to: str) -> None:
    [event] = read(bounce(to))
    assert (event.type, event.permanent, event.recipient) == (EventType.OTHER, None, None)


def test_a_complaint_names_the_return_path_or_the_message_it_is_about() -> None:
    [by_path] = read(
        COMPLAINT.replace("somespammer@example.net>\nOriginal-Rcpt", f"{PATHS.path_for(ID)}>\nOriginal-Rcpt")
    )
    [by_id] = read(COMPLAINT.replace("<8787KJKJ3K4J3K4J3K4J3.mail@example.net>", MESSAGE_ID))
    assert by_path.message_id == by_id.message_id == ID
    assert {by_path.type, by_id.type} == {EventType.COMPLAINED}
    assert not by_path.verified
    assert not by_id.verified


@pytest.mark.parametrize(
    ("given_", "match"),
    [
        ({"return_path": ADDRESS}, "go together"),
        ({"return_path_secret": KEY}, "go together"),
        ({"return_path": ADDRESS, "return_path_secret": "short"}, "at least 32"),
        ({"return_path": "no address", "return_path_secret": KEY}, "not an e-mail address"),
        ({"return_path": "b\r\nRCPT TO:<x@example.org>", "return_path_secret": KEY}, "line breaks"),
    ],
)
def test_a_return_path_that_cannot_work_is_refused_when_the_settings_load(given_: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        SmtpSettings(host="mail.example.org", **given_)


def test_a_message_with_credentials_of_its_own_has_no_return_path_of_the_account() -> None:
    account = {"provider": "smtp", "host": "mail.example.org", **SETTINGS}
    own = {"username": SecretStr("u"), "password": SecretStr("p")}
    settings = settings_for_message("main", account, SmtpSettings, own)
    assert isinstance(settings, SmtpSettings)
    assert settings.return_paths is None
