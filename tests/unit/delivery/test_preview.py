"""Dry run: what it shows is what the transport gets, and what it refuses would be refused."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.unit.delivery.sending import NUMBER, email, room_of, route_of, sms

from postroom import Attachment, Config, Email, MessageError, Postroom, Sms, UnsupportedFeature

US = "+12025550123"


def kept_room(stage: ModuleType, folder: Path, script: Any) -> Postroom:
    account = stage.StageSettings(script=script, from_="Post <post@bücher.example>")
    return Postroom(accounts={"a": account}, outbox={"url": f"sqlite:///{folder}/outbox.db"})


@pytest.mark.parametrize(
    "message",
    [
        email(id="m-1", subject="Hi", html="<p>hello", attachments=[Attachment(filename="x.txt", content=b"x")]),
        email(id="m-1", from_name="The Post", cc=["c@example.org"], bcc=["d@example.org"]),
        email(id="m-1", from_="ann@example.org", message_id="<own@example.org>"),
        sms(id="m-1"),
        sms(id="m-1", from_="Post"),
    ],
    ids=["parts", "sender's name", "own sender", "sms", "sms with a sender"],
)
async def test_a_direct_send_the_outbox_and_a_dry_run_prepare_the_same_message(
    stage: ModuleType, tmp_path: Path, message: Email | Sms
) -> None:
    direct, through_outbox = stage.Script(), stage.Script()
    async with kept_room(stage, tmp_path, direct) as room:
        [shown] = room.preview(message)
        assert direct.opened == 0
        await room.send(message)
    async with kept_room(stage, tmp_path, through_outbox) as room:
        await room.enqueue(message)
        await room.work(until_empty=True)
    assert direct.messages == through_outbox.messages == [shown.message]
    assert shown.message
    assert shown.message.recipients == message.recipients
    assert (shown.account, shown.provider, shown.sender) == ("a", "stage", "Post <post@bücher.example>")
    assert (shown.unsupported, shown.left_out, shown.problem) == ((), (), None)


async def test_every_account_of_the_route_has_its_own_sender_and_the_same_message_id(stage: ModuleType) -> None:
    accounts = {name: stage.StageSettings(from_=f"{name}@example.org") for name in "ab"}
    async with Postroom(accounts=accounts, routes={"r": {"via": ["a", "b"]}}, defaults={"email": "r"}) as room:
        shown = [account.message for account in room.preview(email())]
    senders = [str(message.from_) for message in shown if isinstance(message, Email)]
    assert senders == ["a@example.org", "b@example.org"]
    assert len({message.message_id for message in shown if isinstance(message, Email)}) == 1


async def test_a_message_without_an_id_is_shown_with_one_as_a_send_would_give_it(stage: ModuleType) -> None:
    async with room_of(stage, None, from_="p@example.org") as room:
        shown = [room.preview(email())[0].message for _ in range(2)]
    ids = {message.id for message in shown if isinstance(message, Email)}
    assert len(ids) == 2
    assert {message.message_id for message in shown if isinstance(message, Email)} == {
        f"<{id_}@example.org>" for id_ in ids
    }
    assert None not in ids


async def test_what_an_account_would_refuse_or_leave_out_is_named_in_order(stage: ModuleType) -> None:
    more = {"metadata": {"a": "b"}, "reply_to": ["c@example.org"], "headers": {"X-A": "b"}}
    rich = email(html="<p>hello", tags=("x",), from_="p@example.org", **more)
    lacking = ("headers", "html", "metadata", "reply_to", "tags")
    async with room_of(stage, None, "stage-plain") as room:
        [refusing] = room.preview(rich)
    async with room_of(stage, None, "stage-plain", unsupported="warn") as room:
        [warning] = room.preview(rich)
    assert (refusing.message, refusing.unsupported, refusing.left_out) == (None, lacking, ())
    assert (warning.unsupported, warning.left_out, warning.problem) == ((), lacking, None)
    assert isinstance(warning.message, Email)


async def test_what_a_dry_run_shows_cannot_be_changed(stage: ModuleType) -> None:
    async with room_of(stage, None) as room:
        [shown] = room.preview(sms())
    with pytest.raises(FrozenInstanceError):
        shown.account = "b"  # type: ignore[misc]  # what is under test


async def test_a_provider_that_writes_to_all_is_shown_with_an_email_to_all(stage: ModuleType) -> None:
    async with room_of(stage, None, "stage-whole", from_="p@example.org") as room:
        [shown] = room.preview(email(cc=["c@example.org"]))
    assert (shown.unsupported, shown.problem) == ((), None)
    assert shown.message
    assert shown.message.recipients == ("b@example.org", "c@example.org")


async def test_a_feature_that_only_the_transport_knows_it_lacks_is_named_too(stage: ModuleType) -> None:

    def validate(_: object) -> None:
        raise UnsupportedFeature("no smileys", feature="smileys", provider="stage")

    async with room_of(stage, stage.Script(validate=validate)) as room:
        [shown] = room.preview(sms())
    assert (shown.message, shown.unsupported, shown.problem) == (None, ("smileys",), None)


async def test_an_account_without_a_sender_and_one_with_wrong_settings_say_what_is_missing(stage: ModuleType) -> None:
    accounts = {"a": stage.StageSettings(), "b": {"provider": "stage", "tokne": "x"}}
    async with Postroom(accounts=accounts, routes={"r": {"via": ["a", "b"]}}, defaults={"email": "r"}) as room:
        nameless, wrong = room.preview(email())
    assert "no sender" in str(nameless.problem)
    assert "did you mean 'token'" in str(wrong.problem)
    assert (nameless.message, wrong.message, wrong.sender) == (None, None, None)


async def test_credentials_that_a_message_brings_complete_its_account(stage: ModuleType) -> None:
    incomplete = {"provider": "stage", "from": "+15005550006", "token": {"env": "NOT_SET_AT_ALL"}}
    async with Postroom(accounts={"a": incomplete}) as room:
        [without] = room.preview(sms())
        [completed] = room.preview(sms(options={"token": "mine"}))
    assert "NOT_SET_AT_ALL" in str(without.problem)
    assert (completed.problem, completed.sender) == (None, "+15005550006")


async def test_an_email_to_more_recipients_than_the_provider_takes_is_shown_as_refused(stage: ModuleType) -> None:
    everyone = [f"a{number}@example.org" for number in range(3)]
    async with room_of(stage, None, "stage-pairs", from_="p@example.org") as room:
        [fits] = room.preview(email(to=everyone[:2]))
        [exceeds] = room.preview(email(to=everyone))
        with pytest.raises(MessageError) as caught:
            await room.send(email(to=everyone))
    assert fits.problem is None
    assert (exceeds.message, exceeds.problem) == (None, str(caught.value))


async def test_an_sms_that_goes_two_ways_is_shown_on_both(stage: ModuleType) -> None:
    british, american = stage.Script(), stage.Script()
    config = Config.model_validate(
        {
            "accounts": {
                "british": stage.StageSettings(script=british),
                "american": stage.StageSettings(script=american),
            },
            "rules": [{"country": "GB", "use": "british"}],
            "defaults": {"sms": "american"},
        }
    )
    message = sms(id="m-1", to=[US, NUMBER])
    async with Postroom(config) as room:
        shown = room.preview(message)
        assert [target.name for target in room.targets(message)] == ["american", "british"]
        await room.send(message)
    assert {account.account: account.message.recipients for account in shown if account.message} == {
        "american": (US,),
        "british": (NUMBER,),
    }
    assert (american.recipients, british.recipients) == ([US], [NUMBER])


async def test_a_dry_run_of_a_message_that_has_expired_says_so(stage: ModuleType) -> None:
    async with route_of(stage, None) as room:
        with pytest.raises(MessageError, match="expired"):
            room.preview(sms(expires_at="2020-01-01T00:00:00Z"))
