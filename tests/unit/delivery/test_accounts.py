"""The account pool: opened once when first used, closed whatever happens; credentials that a message brings."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from types import ModuleType
from typing import Any, Never

import pytest
from tests.unit.delivery.results import receipt_of, receipts_of
from tests.unit.delivery.sending import NUMBER, Turnstile, email, raising, room_of, settled, sms

from postroom import (
    AuthenticationFailed,
    Channel,
    Config,
    ConfigError,
    ContractViolation,
    Email,
    InvalidOption,
    MessageRejected,
    MissingCredential,
    Postroom,
    PostroomClosed,
    ProviderUnavailable,
    Sms,
    Status,
)
from postroom.delivery.accounts import MOST_AD_HOC, Accounts, Target
from postroom.delivery.middleware import SendMiddleware
from postroom.plugin import CheckReport
from postroom.receipts import Accepted
from postroom.registry.registry import Registry


async def test_a_slow_opening_does_not_tear_the_first_batch_apart(stage: ModuleType) -> None:
    opened = asyncio.Event()
    script = stage.Script(opening=opened.wait)
    async with room_of(stage, script, "stage-batch") as room, asyncio.TaskGroup() as group:
        for _ in range(1000):
            group.create_task(room.send(sms()))
        await settled()
        opened.set()
    assert [len(call) for call in script.calls] == [1000]
    assert (script.opened, script.closed) == (1, 1)


async def test_a_slow_opening_keeps_no_other_account_waiting(stage: ModuleType) -> None:
    never = asyncio.Event()
    slow, quick = stage.Script(opening=never.wait), stage.Script()
    accounts = {"slow": stage.StageSettings(script=slow), "quick": stage.StageSettings(script=quick)}
    async with Postroom(accounts=accounts) as room:
        waiting = asyncio.ensure_future(room.send(sms(provider="slow")))
        await settled()
        await asyncio.wait_for(room.send(sms(provider="quick")), 60)
        never.set()
        await waiting


async def test_an_opening_that_breaks_is_the_plugins_fault_and_is_tried_again(stage: ModuleType) -> None:
    async def opening() -> None:
        if script.opened == 1:
            raise RuntimeError("s3cret")

    script = stage.Script(opening=opening)
    async with room_of(stage, script) as room:
        with pytest.raises(ContractViolation, match=r"RuntimeError.*nothing was sent") as caught:
            await room.send(sms())
        assert "s3cret" not in str(caught.value)
        assert (await room.send(sms())).status is Status.SENT


async def test_an_opening_that_cannot_reach_the_provider_is_an_attempt_like_any_other(stage: ModuleType) -> None:
    async def opening() -> Never:
        raise ProviderUnavailable("closed today", retry_after=60)

    script = stage.Script(opening=opening)
    async with room_of(stage, script) as room:
        results = await room.send_many([sms(), sms()])
    assert [type(result) for result in results] == [ProviderUnavailable] * 2
    assert receipt_of(results[0]).id != receipt_of(results[1]).id
    [attempt] = receipt_of(results[0]).attempts
    assert (attempt.retry_after, attempt.duration, attempt.recipients) == (60, 0, (NUMBER,))
    assert script.calls == []


@pytest.mark.parametrize("error", [RuntimeError("no"), asyncio.CancelledError()], ids=["broken", "cancelled"])
async def test_an_opening_that_fails_is_told_to_whoever_asked_and_to_nobody_else(
    stage: ModuleType, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    async with room_of(stage, stage.Script(opening=raising_without_message(error))) as room:
        with pytest.raises(ContractViolation, match=r"a: stage raised \w+ when it was opened, .* nothing was sent"):
            await room.send(sms())
    await settled()
    assert [record.name for record in caplog.records if record.name == "asyncio"] == []


@pytest.mark.parametrize("options", [{}, {"token": "mine"}])
async def test_one_who_waits_for_an_opening_and_is_cancelled_does_not_stop_it_for_the_others(
    stage: ModuleType, options: dict[str, str]
) -> None:
    gate = asyncio.Event()
    script = stage.Script(opening=gate.wait)
    async with room_of(stage, script) as room:
        first, second = (asyncio.ensure_future(room.send(sms(options=options))) for _ in range(2))
        await settled()
        first.cancel()
        await asyncio.wait([first])
        gate.set()
        assert (await second).status is Status.SENT
    assert first.cancelled()
    assert (script.opened, len(script.calls)) == (1, 1)


@pytest.mark.parametrize("options", [{}, {"token": "mine"}])
async def test_closing_while_an_account_opens_closes_it_too(stage: ModuleType, options: dict[str, str]) -> None:
    gate = asyncio.Event()
    script = stage.Script(opening=gate.wait)
    room = room_of(stage, script)
    sending = asyncio.ensure_future(room.send(sms(options=options)))
    await settled()
    closing = asyncio.ensure_future(room.close())
    await settled()
    gate.set()
    await closing
    await asyncio.wait([sending])
    assert (script.opened, script.closed) == (1, 1)


@pytest.mark.parametrize("error", [RuntimeError("stuck"), asyncio.CancelledError()], ids=["broken", "cancelled"])
async def test_a_transport_that_fails_to_close_is_logged_and_the_others_are_closed(
    stage: ModuleType, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    bad, good = stage.Script(closing=raising_without_message(error)), stage.Script()
    accounts = {"bad": stage.StageSettings(script=bad), "good": stage.StageSettings(script=good)}
    async with Postroom(accounts=accounts) as room:
        await room.send(sms(provider="bad"))
        await room.send(sms(provider="good"))
    assert good.closed == 1
    assert "bad: closing failed" in caplog.text


@pytest.mark.parametrize("passes", [True, False])
async def test_a_closing_that_is_cancelled_ends_as_such_unless_the_plugin_makes_another_error_of_it(
    stage: ModuleType, caplog: pytest.LogCaptureFixture, *, passes: bool
) -> None:
    begun = asyncio.Event()

    async def closing() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if not passes:
                raise RuntimeError("in its place") from None
            raise

    accounts = accounts_of(a=stage.StageSettings(script=stage.Script(closing=closing)))
    dispatcher = await accounts.own_dispatcher(Target("a", "stage"), Channel.SMS)
    ending = asyncio.ensure_future(dispatcher.close())
    await begun.wait()
    ending.cancel()
    await asyncio.wait([ending])
    assert ending.cancelled() is passes
    assert ("closing failed" in caplog.text) is not passes


async def test_a_wrong_sender_of_an_account_is_a_configuration_error_and_opens_nothing(stage: ModuleType) -> None:
    script = stage.Script()
    async with room_of(stage, script, from_="nobody at all") as room:
        with pytest.raises(ConfigError, match=r"accounts\.a\.from"):
            await room.send(Email(to="b@example.org", text="hello"))
    assert script.opened == 0


def raising_without_message(error: BaseException) -> Callable[[], Awaitable[Never]]:
    async def act() -> Never:
        raise error

    return act


class TestOptions:
    """Credentials a message brings with it."""

    def room(self, stage: ModuleType, script: Any, **settings: Any) -> Postroom:
        return Postroom(accounts={"a": stage.StageSettings(script=script, **settings)})

    @pytest.mark.parametrize("name", ["token", "stage_token", "stage_secret"])
    async def test_are_taken_by_field_prefixed_field_or_the_providers_own_name(
        self, stage: ModuleType, name: str
    ) -> None:
        script = stage.Script()
        async with self.room(stage, script, token="base", from_="+15005550006", user="ann") as room:
            await room.send(sms(options={name: "mine"}))
        (seen,) = script.settings_seen
        assert seen.token.get_secret_value() == "mine"
        assert (seen.from_, seen.user) == ("+15005550006", "ann")

    async def test_open_one_transport_for_each_set_and_keep_it(self, stage: ModuleType) -> None:
        script = stage.Script()
        async with self.room(stage, script, token="base") as room:
            for token in ("one", "two", "one", "two", None):
                await room.send(sms(options={"token": token} if token else {}))
        assert script.opened == script.closed == 3
        assert [s.token.get_secret_value() for s in script.settings_seen] == ["one", "two", "one", "two", "base"]

    async def test_never_share_a_batch_with_other_credentials(self, stage: ModuleType) -> None:
        script = stage.Script()
        accounts = {"a": stage.StageSettings(provider="stage-batch", script=script)}
        async with Postroom(accounts=accounts) as room:
            await room.send_many([sms(options={"token": str(n % 3)}) for n in range(30)])
        for call in script.calls:
            assert len({m.options["token"].get_secret_value() for m in call}) == 1
        assert len(script.messages) == 30

    async def test_replace_all_credentials_of_the_account(self, stage: ModuleType) -> None:
        script = stage.Script()
        async with self.room(stage, script, token="base") as room:
            await room.send(sms(options={"key": "mine"}))
        assert (script.settings_seen[0].key.get_secret_value(), script.settings_seen[0].token) == ("mine", None)

    async def test_cannot_change_a_setting_that_is_no_credential(self, stage: ModuleType) -> None:
        script = stage.Script()
        async with self.room(stage, script, token="base") as room:
            with pytest.raises(InvalidOption, match="no such option"):
                await room.send(sms(options={"user": "bob"}))
        assert script.calls == []

    async def test_complete_an_account_that_has_no_credentials_and_keep_its_sender(self, stage: ModuleType) -> None:
        stage.STAGE.__init__()
        account = {"provider": "stage", "from": "+15005550006", "token": {"env": "NOT_SET_AT_ALL"}}
        async with Postroom(accounts={"a": account}) as room:
            with pytest.raises(MissingCredential, match=r"accounts\.a\.token: .*NOT_SET_AT_ALL"):
                await room.send(sms())
            await room.send(sms(options={"token": "mine"}))
        (seen,) = stage.STAGE.settings_seen
        assert (seen.token.get_secret_value(), seen.from_) == ("mine", "+15005550006")

    async def test_are_enough_for_a_provider_without_an_account(self, stage: ModuleType) -> None:
        stage.STAGE.__init__()
        async with Postroom() as room:
            receipt = await room.send(sms(provider="stage", options={"stage_secret": "mine"}))
        assert (receipt.account, receipt.provider) == ("stage", "stage")
        assert stage.STAGE.settings_seen[0].token.get_secret_value() == "mine"

    async def test_that_the_provider_does_not_know_are_refused_by_name_only(self, stage: ModuleType) -> None:
        script = stage.Script()
        async with self.room(stage, script) as room:
            with pytest.raises(InvalidOption, match=r"options\.tokne: .*did you mean 'token'") as caught:
                await room.send(sms(options={"tokne": "s3cret"}))
        assert "s3cret" not in str(caught.value)
        assert script.calls == []

    @pytest.mark.parametrize(
        "name", ["provider", "from", "timeout", "rate", "concurrency", "on_unknown", "unsupported", "base_url"]
    )
    async def test_cannot_change_the_limits_or_the_address_of_an_account(self, stage: ModuleType, name: str) -> None:
        script = stage.Script()
        async with self.room(stage, script) as room:
            with pytest.raises(InvalidOption, match=rf"options\.{name}: .* no such option"):
                await room.send(sms(options={name: "1"}))
        assert script.calls == []

    async def test_stay_out_of_errors_and_text(self, stage: ModuleType) -> None:
        message = sms(options={"token": "s3cret"})
        async with self.room(stage, stage.Script(raising(MessageRejected("no")))) as room:
            with pytest.raises(MessageRejected) as caught:
                await room.send(message)
        shown = f"{caught.value!r} {receipt_of(caught.value)!r} {message!r} {room!r}"
        assert "s3cret" not in shown

    async def test_of_many_tenants_do_not_pile_up(self, stage: ModuleType) -> None:
        script = stage.Script()
        async with self.room(stage, script) as room:
            for number in range(300):
                await room.send(sms(options={"token": str(number)}))
            assert script.opened - script.closed <= 256
        assert script.opened == script.closed == 300

    async def test_of_many_tenants_at_once_close_nobody_at_work(self, stage: ModuleType) -> None:
        go = asyncio.Event()

        async def act(message: Sms) -> Accepted:
            await go.wait()
            return Accepted()

        script = stage.Script(act)
        async with self.room(stage, script) as room:
            sending = asyncio.ensure_future(room.send_many([sms(options={"token": str(n)}) for n in range(300)]))
            while len(script.calls) < 300:
                await asyncio.sleep(0)
            assert script.closed == 0
            go.set()
            assert {receipt.status for receipt in receipts_of(await sending)} == {Status.SENT}


async def test_a_providers_own_environment_variables_are_enough(
    stage: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.STAGE.__init__()
    monkeypatch.setenv("STAGE_TOKEN", "from the surroundings")
    async with Postroom() as room:
        await room.send(sms(provider="stage"))
    assert stage.STAGE.settings_seen[0].token.get_secret_value() == "from the surroundings"


def test_settings_of_another_provider_are_refused(stage: ModuleType) -> None:
    from postroom.builtin.memory import MemorySettings

    with pytest.raises(InvalidOption, match=r"accounts\.a: needs a StageSettings"):
        Postroom(accounts={"a": MemorySettings(provider="stage")}).validate()


def accounts_of(**accounts: Any) -> Accounts:
    return Accounts(Config.model_validate({"accounts": accounts}), Registry(), SendMiddleware())


async def test_a_policy_for_unknown_outcomes_is_the_accounts_or_its_providers_default(stage: ModuleType) -> None:
    accounts = accounts_of(
        risky={"provider": "stage", "on_unknown": "retry"},
        incomplete={"provider": "stage", "token": {"env": "NOT_SET_AT_ALL"}},
    )
    policies = [accounts.on_unknown(Target(name, "stage"), Channel.SMS) for name in ("risky", "incomplete")]
    assert policies == ["retry", "hold"]


class Shared:
    """What the transports of one client share."""

    def __init__(self) -> None:
        self.closed = 0

    async def close(self) -> None:
        self.closed += 1


async def test_a_provider_without_an_account_has_settings_in_its_own_name(stage: ModuleType) -> None:
    settings = accounts_of().settings(Target("stage-batch", "stage-batch", configured=False), Channel.SMS)
    assert settings.provider == "stage-batch"


async def test_the_settings_of_an_account_are_validated_once() -> None:
    accounts = accounts_of(a={"provider": "memory"})
    target = Target("a", "memory")
    assert accounts.settings(target, Channel.SMS) is accounts.settings(target, Channel.SMS)


async def test_what_accounts_share_is_closed_after_them(stage: ModuleType) -> None:
    order = []

    async def closing() -> None:
        order.append(shared.closed)

    accounts = accounts_of(a=stage.StageSettings(script=stage.Script(closing=closing)))
    shared = accounts.resources.shared(Shared)
    await accounts.own_dispatcher(Target("a", "stage"), Channel.SMS)
    await accounts.close()
    assert (order, shared.closed) == ([0], 1)


async def test_an_account_is_ready_once_it_is_open_and_only_for_messages_without_credentials(stage: ModuleType) -> None:
    accounts = accounts_of(a=stage.StageSettings(script=stage.Script()))
    target = Target("a", "stage")
    assert accounts.ready(target, sms()) is None
    assert accounts.opened(target, Channel.SMS) is None
    opened = await accounts.dispatcher_for(target, sms())
    assert accounts.ready(target, sms()) is accounts.opened(target, Channel.SMS) is opened
    assert accounts.ready(target, sms(options={"token": "mine"})) is None
    assert accounts.opened(target, Channel.EMAIL) is None
    await accounts.close()


async def test_an_account_is_opened_once_whoever_asks_for_it(stage: ModuleType) -> None:
    script = stage.Script()
    accounts = accounts_of(a=stage.StageSettings(script=script))
    target = Target("a", "stage")
    opened = await accounts.own_dispatcher(target, Channel.SMS)
    assert await accounts.own_dispatcher(target, Channel.SMS) is opened
    assert await accounts.dispatcher_for(target, sms()) is opened
    await accounts.close()
    assert script.opened == script.closed == 1


async def test_a_transport_that_cannot_be_made_is_the_plugins_fault(stage: ModuleType) -> None:
    def making() -> Never:
        raise KeyError("s3cret")

    accounts = accounts_of(a=stage.StageSettings(script=stage.Script(making=making)))
    target = Target("a", "stage")
    with pytest.raises(ContractViolation, match="stage raised KeyError when it was made") as caught:
        accounts.unopened(target, sms())
    assert isinstance(caught.value.__cause__, KeyError)
    assert "s3cret" not in str(caught.value)
    with pytest.raises(ContractViolation, match="stage raised KeyError when it was opened"):
        await accounts.dispatcher_for(target, sms())


@pytest.mark.parametrize("works", [True, False])
async def test_what_a_check_opens_it_closes(stage: ModuleType, *, works: bool) -> None:
    async def check() -> CheckReport:
        if works:
            return CheckReport(ok=True, summary="fine")
        raise AuthenticationFailed("wrong key")

    script = stage.Script(check=check)
    accounts = accounts_of(a=stage.StageSettings(script=script))
    with nullcontext() if works else pytest.raises(AuthenticationFailed):
        assert (await accounts.check(Target("a", "stage"), Channel.SMS)).summary == "fine"
    assert (script.opened, script.closed) == (1, 1)
    assert accounts.opened(Target("a", "stage"), Channel.SMS) is None


@pytest.mark.parametrize("answers", [asyncio.CancelledError, ContractViolation])
async def test_a_check_that_is_cancelled_ends_as_such_unless_the_plugin_makes_another_error_of_it(
    stage: ModuleType, answers: type[BaseException]
) -> None:
    begun = asyncio.Event()

    async def check() -> Never:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if answers is ContractViolation:
                raise RuntimeError("in its place") from None
            raise
        raise AssertionError

    script = stage.Script(check=check)
    checking = asyncio.ensure_future(
        accounts_of(a=stage.StageSettings(script=script)).check(Target("a", "stage"), Channel.SMS)
    )
    await begun.wait()
    checking.cancel()
    with pytest.raises(answers):
        await checking
    assert (script.opened, script.closed) == (1, 1)


def test_a_program_that_ends_while_an_account_opens_has_nothing_in_its_log(
    stage: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    script = stage.Script(opening=lambda: asyncio.Event().wait())
    accounts = accounts_of(a=stage.StageSettings(script=script))

    async def work() -> asyncio.Task[object]:
        opening: asyncio.Task[object] = asyncio.ensure_future(
            accounts.own_dispatcher(Target("a", "stage"), Channel.SMS)
        )
        await settled()
        return opening

    assert asyncio.run(work()).cancelled()
    assert (script.opened, accounts.opened(Target("a", "stage"), Channel.SMS)) == (1, None)
    assert caplog.records == []


async def test_whether_a_provider_reports_is_known_from_its_open_transport(stage: ModuleType) -> None:
    accounts = accounts_of(a=stage.StageSettings(script=stage.Script()), quiet={"provider": "memory"})
    assert accounts.reports("quiet", Channel.SMS)
    for name, provider in (("a", "stage"), ("quiet", "memory")):
        await accounts.own_dispatcher(Target(name, provider), Channel.SMS)
    assert [accounts.reports(name, Channel.SMS) for name in ("a", "quiet")] == [True, False]
    await accounts.close()


async def test_of_accounts_that_messages_brought_the_one_idle_longest_makes_room(stage: ModuleType) -> None:
    script = stage.Script()
    accounts = accounts_of(a=stage.StageSettings(script=script))
    messages = [sms(options={"token": str(number)}) for number in range(MOST_AD_HOC + 1)]
    target = Target("a", "stage")
    opened = [await accounts.dispatcher_for(target, message) for message in messages[:-1]]
    assert await accounts.dispatcher_for(target, messages[0]) is opened[0]
    assert script.closed == 0
    await accounts.dispatcher_for(target, messages[-1])
    assert script.closed == 1
    assert await accounts.dispatcher_for(target, messages[0]) is opened[0]
    assert await accounts.dispatcher_for(target, messages[1]) is not opened[1]
    await accounts.close()
    assert script.opened == script.closed == MOST_AD_HOC + 2


async def test_an_account_that_made_room_before_all_who_waited_for_it_were_awake_is_opened_again_for_them(
    stage: ModuleType,
) -> None:
    act, gate = Turnstile(), asyncio.Event()
    busy, slow = stage.Script(act), stage.Script(opening=gate.wait)
    accounts = accounts_of(busy=stage.StageSettings(script=busy), a=stage.StageSettings(script=slow))
    one, other = (sms(options={"token": token}) for token in ("one", "other"))
    target = Target("a", "stage")

    async def goes_on_at_once_with_another() -> None:
        await accounts.dispatcher_for(target, one)
        await accounts.dispatcher_for(target, other)

    async with asyncio.TaskGroup() as group:
        for number in range(MOST_AD_HOC - 1):
            message = sms(options={"token": str(number)})
            dispatcher = await accounts.dispatcher_for(Target("busy", "stage"), message)
            group.create_task(dispatcher.send(message, lambda _: None))
        first = group.create_task(goes_on_at_once_with_another())
        waits = group.create_task(accounts.dispatcher_for(target, one))
        await settled()
        gate.set()
        await asyncio.wait([first, waits])
        assert await accounts.dispatcher_for(target, one) is waits.result()
        act.exit.set()
    assert (slow.opened, slow.closed) == (3, 1)
    await accounts.close()


async def test_an_account_whose_only_message_was_cancelled_while_it_opened_makes_room_like_any_other(
    stage: ModuleType,
) -> None:
    gate = asyncio.Event()
    script = stage.Script(opening=gate.wait)
    accounts = accounts_of(a=stage.StageSettings(script=script))
    target, messages = Target("a", "stage"), [sms(options={"token": str(n)}) for n in range(MOST_AD_HOC + 1)]
    waiting = [asyncio.ensure_future(accounts.dispatcher_for(target, message)) for message in messages[:-1]]
    await settled()
    for task in waiting:
        task.cancel()
    gate.set()
    await asyncio.wait(waiting)
    await settled()
    await accounts.dispatcher_for(target, messages[-1])
    assert (script.opened, script.closed) == (MOST_AD_HOC + 1, 1)
    await accounts.close()


async def test_an_account_at_work_makes_no_room_for_another(stage: ModuleType) -> None:
    act, script = Turnstile(), stage.Script()
    script.act = act
    accounts = accounts_of(a=stage.StageSettings(script=script))
    messages = [sms(options={"token": str(number)}) for number in range(MOST_AD_HOC + 1)]
    target = Target("a", "stage")
    opened = [await accounts.dispatcher_for(target, message) for message in messages[:-1]]
    sending = asyncio.ensure_future(opened[0].send(messages[0], lambda _: None))
    await settled()
    await accounts.dispatcher_for(target, messages[-1])
    assert await accounts.dispatcher_for(target, messages[0]) is opened[0]
    assert await accounts.dispatcher_for(target, messages[2]) is opened[2]
    act.exit.set()
    await sending
    await accounts.close()


async def test_where_all_accounts_that_messages_brought_are_at_work_one_more_is_opened(stage: ModuleType) -> None:
    act, script = Turnstile(), stage.Script()
    script.act = act
    accounts = accounts_of(a=stage.StageSettings(script=script))
    messages = [sms(options={"token": str(number)}) for number in range(MOST_AD_HOC + 1)]
    async with asyncio.TaskGroup() as group:
        for message in messages:
            dispatcher = await accounts.dispatcher_for(Target("a", "stage"), message)
            group.create_task(dispatcher.send(message, lambda _: None))
            await settled()
        assert (script.opened, script.closed, act.inside) == (MOST_AD_HOC + 1, 0, MOST_AD_HOC + 1)
        act.exit.set()
    await accounts.close()


async def test_a_provider_that_needs_no_credentials_needs_no_account() -> None:
    async with Postroom() as room:
        receipt = await room.send(sms(provider="memory"))
    assert (receipt.account, receipt.provider) == ("memory", "memory")


async def test_credentials_are_kept_apart_by_name_and_value(stage: ModuleType) -> None:
    accounts = accounts_of(a=stage.StageSettings(script=stage.Script()))
    options: list[dict[str, str]] = [
        {"token": "ab"},
        {"token": "a"},
        {"key": "ab"},
        {"token": "a", "key": "b"},
        {"key": "btokena"},  # one after the other, the same letters
    ]
    target = Target("a", "stage")
    dispatchers = {id(await accounts.dispatcher_for(target, sms(options=given))) for given in options}
    again = await accounts.dispatcher_for(target, sms(options={"key": "b", "token": "a"}))
    assert len(dispatchers) == 5
    assert id(again) in dispatchers
    await accounts.close()


async def test_the_same_credentials_for_two_accounts_or_channels_are_kept_apart(stage: ModuleType) -> None:
    scripts = stage.Script(), stage.Script()
    accounts = accounts_of(a=stage.StageSettings(script=scripts[0]), b=stage.StageSettings(script=scripts[1]))
    given = {"token": "mine"}
    ways = [(name, message) for name in "ab" for message in (sms(options=given), email(options=given))]
    transports = [(await accounts.dispatcher_for(Target(name, "stage"), message)).transport for name, message in ways]
    assert [(each.account, each.channel) for each in transports] == [(name, m.channel_name) for name, m in ways]
    assert [script.opened for script in scripts] == [2, 2]
    await accounts.close()


@pytest.mark.parametrize("used", [True, False])
async def test_a_pool_that_was_closed_hands_nothing_out_and_opens_nothing_more(
    stage: ModuleType, *, used: bool
) -> None:
    script, target = stage.Script(), Target("a", "stage")
    accounts = accounts_of(a=stage.StageSettings(script=script))
    messages = (sms(), sms(options={"token": "mine"}))
    if used:
        for message in messages:
            await accounts.dispatcher_for(target, message)
    await accounts.close()
    assert accounts.ready(target, messages[0]) is None
    for message in messages:
        with pytest.raises(PostroomClosed, match="make a new one"):
            await accounts.dispatcher_for(target, message)
    assert script.opened == script.closed == (2 if used else 0)
