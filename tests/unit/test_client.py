"""`Postroom.send`: identity, refusals before anything is sent, per-message credentials, the room's own life."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any, Never

import pytest
from tests.unit.delivery.results import receipt_of, receipts_of

from postroom import (
    Config,
    ConfigError,
    DeliveryError,
    Email,
    IdempotencyConflict,
    InvalidOption,
    MessageError,
    MessageRejected,
    MissingCredential,
    Outcome,
    Postroom,
    PostroomError,
    ProviderNotFound,
    ProviderUnavailable,
    Scope,
    Sms,
    Status,
    UnsupportedFeature,
)
from postroom.messages import Message
from postroom.plugin import CheckReport
from postroom.receipts import Accepted

Act = Callable[[Any], Awaitable[Accepted]]

NUMBER = "+442079460958"


def email(**more: Any) -> Email:
    return Email(**{"to": "b@example.org", "text": "hello", **more})


def sms(**more: Any) -> Sms:
    return Sms(**{"to": NUMBER, "body": "hello", **more})


def raising(error: Exception) -> Act:
    async def act(_: object) -> Never:
        raise error

    return act


def later() -> Act:
    return raising(ProviderUnavailable("later"))


def room_of(stage: ModuleType, *scripts: Any, providers: list[str] | None = None, **settings: Any) -> Postroom:
    names = [f"a{n}" for n in range(len(scripts))]
    providers = providers or ["stage"] * len(scripts)
    accounts = {
        name: stage.StageSettings(provider=provider, script=script, **settings)
        for name, provider, script in zip(names, providers, scripts, strict=True)
    }
    return Postroom(accounts=accounts, routes={"r": {"via": names}}, defaults={"email": "r", "sms": "r"})


async def test_the_message_id_header_stays_over_the_accounts_of_one_send(stage: ModuleType) -> None:
    scripts = [stage.Script(later()), stage.Script(later()), stage.Script()]
    async with room_of(stage, *scripts, from_="post@bücher.example") as room:
        receipt = await room.send(email())
    stamps = {(m.id, m.message_id) for script in scripts for m in script.messages}
    assert stamps == {(receipt.id, receipt.message_id)}
    assert receipt.message_id == f"<{receipt.id}@xn--bcher-kva.example>"


async def test_every_send_has_an_id_and_a_message_id_of_its_own(stage: ModuleType) -> None:
    message = email()
    async with room_of(stage, stage.Script(), from_="post@example.org") as room:
        receipts = receipts_of(await room.send_many([message] * 500))
    assert len({receipt.id for receipt in receipts}) == 500
    assert len({receipt.message_id for receipt in receipts}) == 500
    assert message.id is None
    assert message.message_id is None


async def test_an_id_and_a_message_id_that_are_given_are_kept(stage: ModuleType) -> None:
    script = stage.Script()
    async with room_of(stage, script, from_="post@example.org") as room:
        receipt = await room.send(email(id="mine-1", message_id="<mine@example.org>"))
    assert (receipt.id, receipt.message_id) == ("mine-1", "<mine@example.org>")
    assert (script.messages[0].id, script.messages[0].message_id) == ("mine-1", "<mine@example.org>")


@pytest.mark.parametrize("bad", ["../up", "a/b", "a b", "a>b", "a\\b", ".", "..", "ä", "a\tb"])
def test_an_id_that_could_not_stand_in_a_file_name_or_a_header_is_refused(bad: str) -> None:
    with pytest.raises(MessageError, match="id"):
        email(id=bad)


async def test_the_message_own_sender_goes_before_the_accounts(stage: ModuleType) -> None:
    script = stage.Script()
    async with room_of(stage, script, from_="Post <post@example.org>") as room:
        await room.send(email())
        await room.send(email(from_="ann@example.org"))
    assert [str(message.from_) for message in script.messages] == ["Post <post@example.org>", "ann@example.org"]


async def test_an_email_without_any_sender_is_a_clear_error(stage: ModuleType) -> None:
    script = stage.Script()
    async with room_of(stage, script) as room:
        with pytest.raises(MessageError, match=r"no sender: .* from_, or set from on account 'a0'; nothing was sent"):
            await room.send(email())
    assert script.calls == []


async def test_an_email_goes_to_the_account_of_the_route_that_has_a_sender(stage: ModuleType) -> None:
    first, second = stage.Script(), stage.Script()
    accounts = {
        "a": stage.StageSettings(script=first),
        "b": stage.StageSettings(script=second, from_="post@example.org"),
    }
    async with Postroom(accounts=accounts, routes={"r": {"via": ["a", "b"]}}) as room:
        assert (await room.send(email(provider="r"))).account == "b"


async def test_an_account_that_cannot_express_the_message_is_passed_over(stage: ModuleType) -> None:
    first, second = stage.Script(), stage.Script()
    async with room_of(stage, first, second, providers=["stage-plain", "stage"], from_="p@example.org") as room:
        receipt = await room.send(email(html="<p>hello"))
    assert receipt.account == "a1"
    assert first.calls == []
    assert [attempt.account for attempt in receipt.attempts] == ["a1"]


async def test_when_no_account_can_express_the_message_nothing_is_sent(stage: ModuleType) -> None:
    first, second = stage.Script(), stage.Script()
    async with room_of(stage, first, second, providers=["stage-plain"] * 2, from_="p@example.org") as room:
        with pytest.raises(UnsupportedFeature, match="html"):
            await room.send(email(html="<p>hello"))
    assert first.calls == second.calls == []


async def test_a_real_attempt_outweighs_a_refusal_to_try(stage: ModuleType) -> None:
    first, second = stage.Script(later()), stage.Script()
    async with room_of(stage, first, second, providers=["stage", "stage-plain"], from_="p@example.org") as room:
        with pytest.raises(ProviderUnavailable) as caught:
            await room.send(email(html="<p>hello"))
    assert receipt_of(caught.value).recipients[0].outcome is Outcome.TRANSIENT


def kept_room(stage: ModuleType, tmp_path: Path, script: Any, **settings: Any) -> Postroom:
    """A room with one account, whose outbox is in the test's own folder."""
    account = stage.StageSettings(script=script, from_="p@example.org", **settings)
    return Postroom(accounts={"a": account}, outbox={"url": f"sqlite:///{tmp_path}/outbox.db"})


async def test_a_direct_send_needs_no_outbox_and_makes_none(stage: ModuleType, bare_surroundings: Path) -> None:
    async with room_of(stage, stage.Script(), from_="p@example.org") as room:
        await room.send(email())
    assert list(bare_surroundings.iterdir()) == []


@pytest.mark.parametrize("more", [{"required": True}, {"idempotency_key": "k"}])
async def test_a_message_to_be_kept_is_stored_and_delivered_in_one_call(
    stage: ModuleType, tmp_path: Path, more: Any
) -> None:
    script = stage.Script()
    async with kept_room(stage, tmp_path, script) as room:
        receipt = await room.send(email(**more))
        assert (receipt.status, receipt.account, len(receipt.attempts)) == (Status.SENT, "a", 1)
        assert (await room.outbox.get(receipt.id)).receipt == receipt
    assert [message.message_id for message in script.messages] == [receipt.message_id]


async def test_a_required_message_that_cannot_be_delivered_now_is_kept_and_raises_nothing(
    stage: ModuleType, tmp_path: Path
) -> None:
    async with kept_room(stage, tmp_path, stage.Script(later())) as room:
        receipt = await room.send(email(required=True))
        assert receipt.status is Status.RETRYING
    taking = stage.Script()
    async with kept_room(stage, tmp_path, taking) as room:
        await room.outbox.retry(receipt.id)
        await room.work(until_empty=True)
        assert (await room.outbox.get(receipt.id)).receipt.status is Status.SENT
    assert [message.id for message in taking.messages] == [receipt.id]


async def test_a_required_message_that_is_refused_for_good_raises_what_a_direct_send_raises(
    stage: ModuleType, tmp_path: Path
) -> None:
    async with kept_room(stage, tmp_path, stage.Script(raising(MessageRejected("no", provider_code="9")))) as room:
        with pytest.raises(MessageRejected) as caught:
            await room.send(email(required=True))
    assert (caught.value.provider_code, receipt_of(caught.value).status) == ("9", Status.FAILED)


async def test_the_same_key_gives_the_first_receipt_again_and_sends_once(stage: ModuleType, tmp_path: Path) -> None:
    script = stage.Script()
    async with kept_room(stage, tmp_path, script) as room:
        first = await room.send(email(idempotency_key="order-7"))
        assert await room.send(email(idempotency_key="order-7")) == first
        with pytest.raises(IdempotencyConflict, match="order-7"):
            await room.send(email(idempotency_key="order-7", subject="another"))
    assert len(script.calls) == 1


async def test_twenty_senders_with_one_key_make_one_message(stage: ModuleType, tmp_path: Path) -> None:
    script = stage.Script()
    async with kept_room(stage, tmp_path, script) as room:
        receipts = await asyncio.gather(*(room.send(email(idempotency_key="k")) for _ in range(20)))
    assert len({receipt.id for receipt in receipts}) == 1
    assert len(script.calls) == 1


async def test_a_keyed_message_that_is_not_required_is_tried_in_one_round_only(
    stage: ModuleType, tmp_path: Path
) -> None:
    async with kept_room(stage, tmp_path, stage.Script(later())) as room:
        with pytest.raises(ProviderUnavailable):
            await room.send(email(idempotency_key="k"))
        assert (await room.outbox.stats()).states == {Status.FAILED: 1}


async def test_an_expired_message_is_not_sent(stage: ModuleType) -> None:
    script = stage.Script()
    now = datetime.now(UTC)
    async with room_of(stage, script, from_="p@example.org") as room:
        with pytest.raises(MessageError, match="expired at .*; nothing was sent"):
            await room.send(email(expires_at=now - timedelta(seconds=1)))
        await room.send(email(expires_at=now + timedelta(hours=1)))
    assert len(script.calls) == 1


async def test_a_time_that_is_past_is_now_and_one_to_come_needs_the_feature(stage: ModuleType) -> None:
    script, now = stage.Script(), datetime.now(UTC)
    async with room_of(stage, script, providers=["stage-plain"], from_="p@example.org") as room:
        await room.send(email(send_at=now - timedelta(minutes=1)))
        assert script.messages[0].send_at is None
        with pytest.raises(UnsupportedFeature, match="send_at"):
            await room.send(email(send_at=now + timedelta(minutes=1)))


@pytest.mark.parametrize("thing", [None, "text", {"to": "a@example.org"}, 7, Email, object()])
async def test_anything_but_a_message_is_refused(stage: ModuleType, thing: Any) -> None:
    async with room_of(stage, stage.Script()) as room:
        with pytest.raises(TypeError, match="takes an Email or an Sms"):
            await room.send(thing)


async def test_a_closed_room_sends_nothing(stage: ModuleType) -> None:
    script = stage.Script()
    room = room_of(stage, script)
    await room.send(sms())
    await room.close()
    await room.close()
    for use in (room.send(sms()), room.check(), room.__aenter__()):
        with pytest.raises(PostroomError, match="closed; make a new one"):
            await use
    assert (len(script.calls), script.opened, script.closed) == (1, 1, 1)


def test_a_room_belongs_to_one_loop(stage: ModuleType) -> None:
    script = stage.Script()
    room = room_of(stage, script)
    asyncio.run(room.send(sms()))
    with pytest.raises(PostroomError, match="another event loop"):
        asyncio.run(room.send(sms()))
    assert len(script.calls) == 1


async def test_rules_that_lead_nowhere_send_nothing_to_anybody(stage: ModuleType) -> None:
    script = stage.Script()
    config = Config.model_validate(
        {
            "accounts": {"a": stage.StageSettings(script=script)},
            "rules": [{"country": "GB", "use": "a"}, {"country": "US", "use": "gone"}],
        }
    )
    async with Postroom(config) as room:
        with pytest.raises(ProviderNotFound, match="gone"):
            await room.send(sms(to=[NUMBER, "+12025550123"]))
    assert script.calls == []


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

        async def act(message: Message) -> Accepted:
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


async def test_checks_report_each_account_and_survive_a_broken_one(stage: ModuleType) -> None:
    async def broken() -> Never:
        raise RuntimeError("s3cret")

    bad = stage.Script(opening=broken)
    accounts = {
        "bad": stage.StageSettings(script=bad),
        "good": stage.StageSettings(),
        "gone": {"provider": "not-there"},
        "wrong": {"provider": "stage", "tokne": "x"},
    }
    async with Postroom(accounts=accounts) as room:
        reports = await room.check()
    assert set(reports) == {f"{n} ({c})" for n in ("bad", "good", "wrong") for c in ("email", "sms")} | {"gone"}
    good = reports["good (sms)"]
    assert isinstance(good, CheckReport)
    assert good.ok
    assert isinstance(reports["gone"], ProviderNotFound)
    assert isinstance(reports["wrong (email)"], ConfigError)
    assert "s3cret" not in str(reports["bad (sms)"])


def test_validate_finds_wrong_settings_before_anything_is_sent(stage: ModuleType) -> None:
    with pytest.raises(InvalidOption, match=r"accounts\.a\.tokne: unknown key; did you mean 'token'"):
        Postroom(accounts={"a": {"provider": "stage", "tokne": "x"}}).validate()
    Postroom(accounts={"a": {"provider": "stage", "token": "x"}}).validate()


def test_settings_of_another_provider_are_refused(stage: ModuleType) -> None:
    from postroom.builtin.memory import MemorySettings

    with pytest.raises(InvalidOption, match=r"accounts\.a: needs a StageSettings"):
        Postroom(accounts={"a": MemorySettings(provider="stage")}).validate()


async def test_a_code_config_and_parts_together_are_refused(stage: ModuleType) -> None:
    with pytest.raises(TypeError, match="not both"):
        Postroom(Config(), accounts={"a": {"provider": "memory"}})


async def test_a_preview_of_the_targets_opens_nothing_and_turns_no_wheel(stage: ModuleType) -> None:
    script = stage.Script()
    accounts = {n: stage.StageSettings(script=script) for n in "abc"}
    routes = {"r": {"strategy": "round_robin", "via": list("abc")}}
    async with Postroom(accounts=accounts, routes=routes) as room:
        shown = [room.targets(sms(provider="r")) for _ in range(3)]
        assert [[t.name for t in targets] for targets in shown] == [list("abc")] * 3
        assert script.opened == 0
        assert (await room.send(sms(provider="r"))).account == "a"
        assert [t.name for t in room.targets(sms(provider="r"))] == list("bca")


async def test_an_account_failure_moves_on_but_says_so(stage: ModuleType, caplog: pytest.LogCaptureFixture) -> None:
    first = stage.Script(raising(DeliveryError("no", outcome=Outcome.PERMANENT, scope=Scope.ACCOUNT)))
    async with room_of(stage, first, stage.Script()) as room:
        receipt = await room.send(sms())
    assert [a.outcome for a in receipt.attempts] == [Outcome.PERMANENT, Outcome.ACCEPTED]


def test_an_error_with_the_outcome_of_a_success_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="accepted"):
        DeliveryError("fine", outcome=Outcome.ACCEPTED)


class TestValidate:
    """Finding mistakes before the first message."""

    @pytest.mark.parametrize(
        ("parts", "said"),
        [
            ({"defaults": {"sms": "textz"}}, "textz"),
            ({"rules": [{"channel": "sms", "use": "nobody"}]}, "nobody"),
            ({"rules": [{"country": "GB", "use": "nobody"}]}, "nobody"),
        ],
    )
    def test_a_name_that_nothing_answers_to_is_found(self, parts: dict[str, Any], said: str) -> None:
        room = Postroom(accounts={"texts": {"provider": "memory"}}, **parts)
        with pytest.raises(ProviderNotFound, match=said):
            room.validate()

    def test_a_configuration_without_mistakes_passes(self) -> None:
        Postroom(accounts={"texts": {"provider": "memory"}}, defaults={"sms": "texts"}).validate()

    def test_a_table_instead_of_a_config_says_what_to_do(self) -> None:
        with pytest.raises(TypeError, match="from_config"):
            Postroom({"accounts": {}})  # type: ignore[arg-type]  # what is under test


async def test_an_email_to_more_recipients_than_the_provider_takes_is_refused(stage: ModuleType) -> None:
    script = stage.Script()
    everyone = [f"a{number}@example.org" for number in range(3)]
    async with room_of(stage, script, providers=["stage-pairs"], from_="post@example.org") as room:
        with pytest.raises(MessageError, match="at most 2 recipients a message, this has 3; nothing was sent"):
            await room.send(email(to=everyone))
        await room.send(email(to=everyone[:2]))
    assert len(script.calls) == 1
