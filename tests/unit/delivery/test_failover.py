"""A direct send: how short its way is, and that it heeds what the outbox knows of accounts and addresses."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Never

import pytest
from tests.unit.delivery.sending import raising, route_of, sms

import postroom
from postroom import (
    Accepted,
    AuthenticationFailed,
    ConfigError,
    Email,
    Outcome,
    OutcomeUnknown,
    Postroom,
    PostroomError,
    ProviderUnavailable,
    RecipientResult,
    RecipientsRefused,
    Sms,
    Suppressed,
    SuppressionReason,
)
from postroom.delivery.accounts import Target
from postroom.delivery.failover import candidates
from postroom.delivery.routing import PlannedRoute
from postroom.mime import to_bytes
from postroom.plugin.cancellation import was_handed_over

if TYPE_CHECKING:
    from types import ModuleType

MOST_CALLS = 15
"""Calls of our own functions from `Postroom.send` up to the transport's method."""

OURS = str(Path(postroom.__file__).parent)


def email(**more: Any) -> Email:
    return Email(to="ann@example.org", text="x", from_="post@example.org", **more)


class CallLog:
    """The calls of our own functions, in order; comprehensions and the like are no functions of ours."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(OURS) and not code.co_name.startswith("<"):
            self.names.append(f"{Path(code.co_filename).stem}.{code.co_qualname}")


async def test_a_warm_direct_send_reaches_the_transport_after_few_calls(stage: ModuleType) -> None:
    calls = CallLog()
    reached: list[int] = []

    async def act(message: Email) -> Accepted:
        reached.append(len(calls.names))
        accepted: Accepted = await stage.accept(message)
        return accepted

    async with Postroom(accounts={"a": stage.StageSettings(script=stage.Script(act))}) as room:
        await room.send(email())
        message = email()
        calls.names.clear()
        sys.setprofile(calls)
        try:
            await room.send(message)
        finally:
            sys.setprofile(None)
    assert reached[-1] <= MOST_CALLS, "\n".join(calls.names[: reached[-1]])


def outbox_at(folder: Path) -> dict[str, str]:
    return {"url": f"sqlite:///{folder}/outbox.db"}


def room_of(stage: ModuleType, folder: Path, **scripts: Any) -> Postroom:
    accounts = {name: stage.StageSettings(script=script) for name, script in scripts.items()}
    return Postroom(
        accounts=accounts, routes={"r": {"via": list(scripts)}}, defaults={"email": "r"}, outbox=outbox_at(folder)
    )


async def pause(room: Postroom, account: str) -> None:
    """Have the outbox find out that the account's credentials are refused, and then let it work again."""
    script = room.config.accounts[account].script

    async def refuse(_: object) -> Never:
        raise AuthenticationFailed("wrong key")

    works, script.act = script.act, refuse
    await room.enqueue(email(provider=account))
    await room.work(until_empty=True)
    script.act = works


async def test_an_account_that_others_found_paused_is_tried_last(stage: ModuleType, tmp_path: Path) -> None:
    first, second = stage.Script(), stage.Script()
    async with room_of(stage, tmp_path, first=first, second=second) as room:
        assert (await room.send(email())).account == "first"
        await pause(room, "first")
        assert (await room.send(email())).account == "second"


async def test_an_account_that_is_paused_is_still_tried_when_no_other_takes_the_message(
    stage: ModuleType, tmp_path: Path
) -> None:
    async with room_of(stage, tmp_path, only=stage.Script()) as room:
        await pause(room, "only")
        assert (await room.send(email())).account == "only"


async def test_a_process_that_sent_before_there_was_an_outbox_heeds_it_as_soon_as_there_is_one(
    stage: ModuleType, tmp_path: Path
) -> None:
    first, second = stage.Script(), stage.Script()
    async with (
        room_of(stage, tmp_path, first=first, second=second) as room,
        room_of(stage, tmp_path, first=first, second=second) as other,
    ):
        assert (await room.send(email())).account == "first"
        await pause(other, "first")
        assert (await room.send(email())).account == "second"


async def test_an_address_that_a_direct_send_finds_dead_is_suppressed_before_the_next_account_is_tried(
    stage: ModuleType, tmp_path: Path
) -> None:
    async def dead_for_ann(message: Email) -> Accepted:
        results = (
            RecipientResult(
                address="ann@example.org", outcome=Outcome.PERMANENT, code="550", suppress=SuppressionReason.BOUNCED
            ),
            RecipientResult(address="bob@example.org", outcome=Outcome.TRANSIENT, code="451"),
        )
        raise RecipientsRefused("no", recipients=results)

    listed: list[str] = []

    async def look(message: Email) -> Accepted:
        listed.extend(entry.address for entry in await room.outbox.suppressions.list())
        return Accepted()

    both = Email(to=["ann@example.org", "bob@example.org"], text="x", from_="post@example.org")
    async with room_of(stage, tmp_path, first=stage.Script(dead_for_ann), second=stage.Script(look)) as room:
        assert await room.outbox.suppressions.list() == []  # which makes the outbox
        await room.send(both)
        assert listed == ["ann@example.org"]
        with pytest.raises(Suppressed):
            await room.send(email())


async def test_without_an_outbox_an_address_that_is_found_dead_is_an_answer_like_any_other(stage: ModuleType) -> None:
    dead = RecipientsRefused("no", suppress=SuppressionReason.BOUNCED)
    async with accounts_of(stage, a=stage.StageSettings(script=stage.Script(raising(dead)))) as room:
        for _ in range(2):
            with pytest.raises(RecipientsRefused):
                await room.send(email())


def records_of(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    return [(record.levelno, record.getMessage().partition(": ")[2]) for record in caplog.records]


def accounts_of(stage: ModuleType, **accounts: Any) -> Postroom:
    return Postroom(accounts=accounts, routes={"r": {"via": list(accounts)}}, defaults={"email": "r"})


WRONG = {"provider": "stage", "tokne": "x"}


async def test_the_only_account_that_cannot_be_tried_is_an_error_and_not_logged(
    stage: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    async with accounts_of(stage, a=WRONG) as room:
        with pytest.raises(ConfigError, match="tokne"):
            await room.send(email())
    assert records_of(caplog) == []


@pytest.mark.parametrize("kind", ["wrong settings", "what it cannot express"])
async def test_an_account_that_is_passed_over_is_logged_by_how_much_it_matters(
    stage: ModuleType, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    first = WRONG if kind == "wrong settings" else stage.StageSettings(provider="stage-plain")
    caplog.set_level(logging.INFO, "postroom")
    async with accounts_of(stage, a=first, b=stage.StageSettings(script=stage.Script())) as room:
        receipt = await room.send(email(html="<p>hello"))
    assert receipt.account == "b"
    [(level, text)] = records_of(caplog)
    assert level == (logging.WARNING if kind == "wrong settings" else logging.INFO)
    assert text.startswith("passing over account 'a': ")
    assert receipt.id in caplog.text


@pytest.mark.parametrize("first", ["tried and refused", "not tried either"])
async def test_the_last_account_is_logged_when_what_is_raised_is_about_another(
    stage: ModuleType, caplog: pytest.LogCaptureFixture, first: str
) -> None:
    refused = stage.StageSettings(script=stage.Script(raising(ProviderUnavailable("later"))))
    async with accounts_of(stage, a=refused if first == "tried and refused" else WRONG, b=WRONG) as room:
        with pytest.raises((ProviderUnavailable, ConfigError), match=r"later|accounts\.a\.tokne"):
            await room.send(email())
    passed_over = [text.partition("'")[2][0] for _, text in records_of(caplog)]
    assert passed_over == (["b"] if first == "tried and refused" else ["a", "b"])


ONE, TWO, THREE = (Target(name, "stage") for name in ("one", "two", "three"))


def way(*recipients: str) -> list[PlannedRoute]:
    return [PlannedRoute(sms(to=list(recipients)), "r", [ONE, TWO, THREE])]


NUMBERS = ("+442079460951", "+442079460952")


def test_an_account_is_not_a_candidate_for_those_it_was_tried_for() -> None:
    found = list(candidates(way(*NUMBERS), tried={"one": NUMBERS, "two": NUMBERS[:1]}))
    assert [(candidate.target, candidate.recipients) for candidate in found] == [(TWO, NUMBERS[1:]), (THREE, NUMBERS)]


def test_a_recipient_in_doubt_has_one_candidate_the_account_that_may_have_served_them() -> None:
    found = list(candidates(way(*NUMBERS), doubted_at={NUMBERS[0]: "two"}))
    assert [(candidate.target, candidate.recipients) for candidate in found] == [
        (ONE, NUMBERS[1:]),
        (TWO, NUMBERS),
        (THREE, NUMBERS[1:]),
    ]


def test_candidates_come_in_the_order_that_is_given_and_the_last_is_known() -> None:
    found = list(candidates(way(*NUMBERS), order=lambda targets, _: targets[::-1]))
    assert [(candidate.target, candidate.is_last) for candidate in found] == [
        (THREE, False),
        (TWO, False),
        (ONE, True),
    ]
    for candidate in found:
        assert (candidate.route, candidate.message, candidate.recipients) == ("r", sms(to=list(NUMBERS)), NUMBERS)


@pytest.mark.parametrize(
    ("first", "note"),
    [
        (None, "a0: some recipients were served already"),
        (OutcomeUnknown("quiet"), "a0: some recipients were served already"),
        (OutcomeUnknown("quiet", detail="the line went dead"), "the line went dead"),
        (ProviderUnavailable("later"), None),
    ],
    ids=["accepted", "unknown", "unknown, with a detail", "refused"],
)
async def test_a_send_cancelled_at_its_second_account_says_what_the_first_has_done(
    stage: ModuleType, first: PostroomError | None, note: str | None
) -> None:
    opening = asyncio.Event()

    async def never() -> None:
        opening.set()
        await asyncio.Event().wait()

    async def act(message: Sms) -> Accepted:
        if message.recipients == NUMBERS[1:]:
            raise ProviderUnavailable("later")
        if first is None:
            return Accepted()
        raise first

    scripts = stage.Script(act), stage.Script(opening=never)
    async with route_of(stage, *scripts) as room:
        sending = asyncio.ensure_future(room.send(sms(to=list(NUMBERS))))
        await opening.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await sending
        assert was_handed_over(caught.value) is (True if note else None)
        assert getattr(caught.value, "__notes__", []) == ([note] if note else [])
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()


async def test_the_next_account_gets_the_very_email_that_the_first_one_got(stage: ModuleType) -> None:
    first, second = stage.Script(raising(ProviderUnavailable("later"))), stage.Script()
    async with route_of(stage, first, second) as room:
        await room.send(email(html="<p>x</p>"))
    assert to_bytes(first.messages[0]) == to_bytes(second.messages[0])
