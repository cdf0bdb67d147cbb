"""The `inbox` fixture keeps what a program sends, and says what is there when an assertion fails."""

from __future__ import annotations

import pytest

from postroom import Email, Sms
from postroom.testing.inbox import Inbox


async def test_both_channels_are_kept_in_the_order_of_sending(inbox: Inbox) -> None:
    await inbox.room.send(Email(to="ann@example.org", subject="Hello", text="Hi"))
    await inbox.room.send(Sms(to="+442079460001", body="Hey"))
    assert [message.channel_name for message in inbox] == ["email", "sms"]
    assert [email.subject for email in inbox.emails] == ["Hello"]
    assert [text.body for text in inbox.texts] == ["Hey"]
    assert len(inbox) == 2


async def test_a_message_is_found_by_any_of_its_recipients(inbox: Inbox) -> None:
    await inbox.room.send(Email(to="ann@example.org", cc="cy@example.org", bcc="bob@example.org", text="Hi"))
    await inbox.room.send(Sms(to=["+442079460001", "+442079460002"], body="Hey"))
    for address in ("ann@example.org", "cy@example.org", "bob@example.org"):
        assert inbox.only(address).text == "Hi"
    assert inbox.only("+442079460002").body == "Hey"
    assert inbox.to("nobody@example.org") == []


async def test_only_lists_the_inbox_when_there_are_several(inbox: Inbox) -> None:
    for name in ("ann", "bob"):
        await inbox.room.send(Email(to=f"{name}@example.org", subject=f"For {name}", text="Hi"))
    with pytest.raises(AssertionError) as caught:
        inbox.only()
    assert str(caught.value) == (
        "2 messages were sent, not 1; the inbox holds\n"
        "  email to ann@example.org: 'For ann'\n"
        "  email to bob@example.org: 'For bob'"
    )
    with pytest.raises(AssertionError, match="0 messages to cy@example.org were sent, not 1"):
        inbox.only("cy@example.org")


def test_an_empty_inbox_says_so(inbox: Inbox) -> None:
    inbox.assert_empty()
    with pytest.raises(AssertionError, match="0 messages were sent, not 1; the inbox is empty"):
        inbox.only()


async def test_an_inbox_that_should_be_empty_lists_what_is_in_it(inbox: Inbox) -> None:
    await inbox.room.send(Sms(to="+442079460001", body="Hey"))
    with pytest.raises(AssertionError, match="nothing should have been sent; the inbox holds\n  sms .*'Hey'"):
        inbox.assert_empty()
    inbox.clear()
    inbox.assert_empty()


def test_programs_without_asyncio_have_a_room_too(inbox: Inbox) -> None:
    receipt = inbox.blocking.send(Email(to="ann@example.org", text="Hi"))
    assert receipt.accepted
    assert inbox.only().recipients == ("ann@example.org",)


def test_an_inbox_works_without_pytest() -> None:
    with Inbox() as inbox:
        inbox.blocking.send(Sms(to="+442079460001", body="Hey"))
        assert inbox.only().body == "Hey"


def test_each_test_has_an_inbox_of_its_own(inbox: Inbox) -> None:
    inbox.assert_empty()
