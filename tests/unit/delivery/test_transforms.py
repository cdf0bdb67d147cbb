"""Transforms: what extensions make of a message or its bytes goes out, checked like everything else."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from postroom import (
    Config,
    ContractViolation,
    Email,
    MessageError,
    PluginError,
    Postroom,
    Sms,
    Suppressed,
    UnsupportedFeature,
)
from postroom.delivery.transforms import Transforms


def email(**fields: Any) -> Email:
    return Email(**{"to": ["ann@example.org", "bea@example.org"], "from_": "bob@example.org", "text": "x", **fields})


def room_of(accounts: dict[str, Any]) -> Postroom:
    given = {"accounts": accounts, "routes": {"r": {"via": list(accounts)}}, "defaults": {"email": "r", "sms": "r"}}
    return Postroom(Config.model_validate({**given, "plugins": {"extensions": ["stage-transform"]}}))


def staged(stage: ModuleType, script: Any, provider: str = "stage") -> dict[str, Any]:
    return {"a": stage.StageSettings(provider=provider, script=script)}


async def test_another_message_goes_out_in_place_of_the_one_that_was_prepared(stage: ModuleType) -> None:
    script, seen = stage.Script(), list[Any]()

    def footer(message: Email, account: str) -> Email:
        seen.append((account, message.id, message.message_id, message.from_))
        return message.model_copy(update={"text": f"{message.text}\nfooter"})

    stage.TRANSFORM["message"] = footer
    async with room_of(staged(stage, script)) as room:
        receipt = await room.send(email())
    [sent] = script.messages
    assert (sent.text, sent.id, sent.recipients) == ("x\nfooter", receipt.id, ("ann@example.org", "bea@example.org"))
    assert seen == [("a", receipt.id, receipt.message_id, sent.from_)]


async def test_an_sms_can_be_changed_too(stage: ModuleType) -> None:
    script = stage.Script()
    stage.TRANSFORM["message"] = lambda message, _: message.model_copy(update={"body": "other"})
    async with room_of(staged(stage, script)) as room:
        await room.send(Sms(to="+442079460958", from_="+442079460999", body="one"))
    assert [message.body for message in script.messages] == ["other"]


async def test_only_who_is_left_gets_what_was_changed(stage: ModuleType, tmp_path: Path) -> None:
    script = stage.Script()
    stage.TRANSFORM["message"] = lambda message, _: message.model_copy(update={"text": "y"})
    async with room_of(staged(stage, script)) as room:
        await room.send(email().for_recipients(["bea@example.org"]))
    assert [message.recipients for message in script.messages] == [("bea@example.org",)]


FORBIDDEN: dict[str, Callable[[Email], object]] = {
    "another id": lambda m: m.model_copy(update={"id": "other"}),
    "another Message-ID": lambda m: m.model_copy(update={"message_id": "<other@example.org>"}),
    "somebody more": lambda m: m.model_copy(update={"bcc": email(to="eve@example.org").to}),
    "somebody else": lambda m: m.stamped(recipients=("eve@example.org",)),
    "another class": lambda m: Sms(to="+442079460958", body="x", id=m.id),
    "no message": lambda m: "x",
    "an invalid header": lambda m: m.model_copy(update={"headers": {"X-A": "1\r\nBcc: eve@example.org"}}),
    "an invalid subject": lambda m: m.model_copy(update={"subject": "a\nb"}),
    "a header a field owns": lambda m: m.model_copy(update={"headers": {"Bcc": "eve@example.org"}}),
}


@pytest.mark.parametrize("made", FORBIDDEN.values(), ids=FORBIDDEN.keys())
async def test_what_is_no_valid_message_or_another_one_is_not_sent(
    stage: ModuleType, made: Callable[[Email], object]
) -> None:
    script = stage.Script()
    stage.TRANSFORM["message"] = lambda message, _: made(message)
    async with room_of(staged(stage, script)) as room:
        with pytest.raises((ContractViolation, MessageError)):
            await room.send(email())
    assert script.calls == []


class OwnEmail(Email):
    """A class of the extension's own."""


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda m: Sms(to="+442079460958", body="x", id=m.id), "made Sms of Email"),
        (lambda m: "x", "made str of Email"),
        (lambda m: OwnEmail(**{field: getattr(m, field) for field in m.model_fields_set}), "made OwnEmail of Email"),
        (lambda m: m.model_copy(update={"id": "other"}), "changed id"),
    ],
    ids=["another message", "no message", "a class of its own", "another id"],
)
def test_what_an_extension_must_not_do_is_named(made: Callable[[Email], Any], said: str) -> None:
    transforms = Transforms([("bold", lambda message, account: made(message))])
    with pytest.raises(ContractViolation, match=f"extension 'bold' {said}, .*; nothing was sent"):
        transforms.message(email(id="m-1"), "a")


@pytest.mark.parametrize("error", [Suppressed("not to this one"), RuntimeError("s3cret")])
def test_an_error_of_ours_is_raised_as_it_is_and_any_other_is_the_cause_of_one(error: Exception) -> None:
    def breaks(**_: Any) -> Any:
        raise error

    transforms = Transforms([("bold", breaks)], [("bold", breaks)])
    for call in (lambda: transforms.message(email(), "a"), lambda: transforms.content(b"", email(), "a")):
        with pytest.raises(Suppressed if isinstance(error, Suppressed) else PluginError) as caught:
            call()
        assert error in {caught.value, caught.value.__cause__}


def test_what_the_core_goes_by_stays_through_a_change() -> None:
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    before = email(id="m-1", options={"token": "mine"}).for_recipients(["bea@example.org"]).stamped(date=moment)
    transforms = Transforms([("louder", lambda message, account: message.model_copy(update={"text": "X"}))])
    after = transforms.message(before, "a")
    assert isinstance(after, Email)
    assert (after.text, after.recipients, after.date) == ("X", ("bea@example.org",), moment)
    assert (after.options, type(after.options)) == (before.options, type(before.options))


async def test_what_it_adds_is_held_to_what_the_provider_can(stage: ModuleType) -> None:
    script = stage.Script()
    stage.TRANSFORM["message"] = lambda message, _: message.model_copy(update={"html": "<p>x</p>"})
    async with room_of(staged(stage, script, "stage-plain")) as room:
        with pytest.raises(UnsupportedFeature):
            await room.send(email())
    assert script.calls == []


async def test_one_that_breaks_keeps_the_message_and_shows_nothing_of_it(stage: ModuleType) -> None:
    def broken(message: Email, account: str) -> Email:
        raise RuntimeError("s3cret")

    script = stage.Script()
    stage.TRANSFORM["message"] = broken
    async with room_of(staged(stage, script)) as room:
        with pytest.raises(PluginError, match="stage-transform.*nothing was sent") as caught:
            await room.send(email())
    assert "s3cret" not in str(caught.value)
    assert script.calls == []


def filed(folder: Path) -> dict[str, Any]:
    return {"a": {"provider": "file", "path": str(folder)}}


async def test_the_bytes_that_it_made_are_the_bytes_that_travel(stage: ModuleType, tmp_path: Path) -> None:
    given: list[bytes] = []

    def signed(content: bytes, message: Email, account: str) -> bytes:
        given.append(content)
        assert (account, message.recipients) == ("a", ("ann@example.org", "bea@example.org"))
        return b"DKIM-Signature: v=1;\r\n b=abc\r\n" + content

    stage.TRANSFORM["content"] = signed
    async with room_of(filed(tmp_path)) as room:
        await room.send(email())
    [path] = tmp_path.glob("*.eml")
    assert path.read_bytes().endswith(b"DKIM-Signature: v=1;\r\n b=abc\r\n" + given[0])


BAD_BYTES: dict[str, Callable[[bytes], object]] = {
    "no bytes": lambda c: c.decode(),
    "a bare line feed": lambda c: c + b"a\n",
    "a bare carriage return": lambda c: c + b"a\rb\r\n",
    "a NUL": lambda c: c + b"a\0\r\n",
    "no end of the last line": lambda c: c + b"a",
    "a long line": lambda c: c + b"a" * 999 + b"\r\n",
    "a blind copy": lambda c: b"Bcc: eve@example.org\r\n" + c,
    "a blind copy in other letters": lambda c: b"X: 1\r\nbCC : eve@example.org\r\n" + c,
    "no headers": lambda _: b"hello\r\n",
    "nothing": lambda _: b"",
}


@pytest.mark.parametrize("made", BAD_BYTES.values(), ids=BAD_BYTES.keys())
async def test_bytes_that_may_not_travel_are_not_sent(
    stage: ModuleType, tmp_path: Path, made: Callable[[bytes], object]
) -> None:
    stage.TRANSFORM["content"] = lambda content, message, account: made(content)
    async with room_of(filed(tmp_path)) as room:
        with pytest.raises(ContractViolation, match="nothing was sent"):
            await room.send(email())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("no bytes", "made str of bytes"),
        ("a blind copy", "left no headers, or one that shows who got a blind copy"),
        ("a NUL", "left a line that does not end in CRLF, or a NUL"),
        ("a long line", "made a line of more than 998 octets"),
    ],
)
def test_what_is_wrong_with_the_bytes_is_said(case: str, said: str) -> None:
    def made(content: bytes, message: Email, account: str) -> Any:
        return BAD_BYTES[case](content)

    content = b"X-A: 1\r\n\r\nx\r\n"
    transforms = Transforms((), [("bold", made)])
    with pytest.raises(ContractViolation, match=f"extension 'bold' {said}"):
        transforms.content(content, email(), "a")


def test_a_line_may_have_998_octets() -> None:
    content = b"X-A: 1\r\n\r\n" + b"a" * 998 + b"\r\n"
    assert Transforms((), [("long", lambda **_: content)]).content(b"", email(), "a") == content


async def test_one_that_stands_aside_changes_nothing(stage: ModuleType, tmp_path: Path) -> None:
    stage.TRANSFORM.update(message=lambda *_: None, content=lambda *_: None)
    async with room_of(filed(tmp_path)) as room:
        await room.send(email())
    [path] = tmp_path.glob("*.eml")
    assert path.read_bytes().endswith(b"\r\n\r\nx\r\n")
