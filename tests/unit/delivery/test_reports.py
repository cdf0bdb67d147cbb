"""Provider reports: read and verified by the transport of their account, and named for it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from postroom import ContractViolation, Postroom, ProviderNotFound, WebhookError
from postroom.errors import SignatureInvalid
from postroom.plugin import WebhookRequest


def room_at(stage: ModuleType, folder: Path, **accounts: Any) -> Postroom:
    accounts = accounts or {"a": stage.StageSettings(script=stage.Script())}
    return Postroom(accounts=accounts, outbox={"url": f"sqlite:///{folder}/outbox.db"})


def request(body: bytes, *, signed: bool = True) -> WebhookRequest:
    headers = {"x-stage-signature": "signed"} if signed else {}
    return WebhookRequest(method="POST", url="https://example.org/hook", headers=headers, body=body)


def report(**more: Any) -> dict[str, Any]:
    event = {"type": "delivered", "channel": "sms", "provider": "stage", "occurred_at": "2030-01-01T00:00:00Z"}
    return {**event, "recipient": "+442079460958", **more}


async def test_each_event_of_a_report_has_the_name_of_its_account(stage: ModuleType, tmp_path: Path) -> None:
    body = json.dumps([report(account="somebody else's"), report(type="bounced")]).encode()
    async with room_at(stage, tmp_path) as room:
        events = await room.receive("a", request(body))
    assert [(event.type, event.account) for event in events] == [("delivered", "a"), ("bounced", "a")]


async def test_a_report_that_is_dated_in_the_future_is_dated_when_it_came(stage: ModuleType, tmp_path: Path) -> None:
    body = json.dumps([report(occurred_at="2100-01-01T00:00:00Z"), report(occurred_at="2026-01-01T00:00:00Z")]).encode()
    async with room_at(stage, tmp_path) as room:
        forged, honest = await room.receive("a", request(body))
    assert (forged.dated, honest.dated) == (False, True)
    assert honest.occurred_at < forged.occurred_at <= datetime.now(UTC)


async def test_what_is_not_signed_is_refused(stage: ModuleType, tmp_path: Path) -> None:
    async with room_at(stage, tmp_path) as room:
        with pytest.raises(SignatureInvalid, match="x-stage-signature"):
            await room.receive("a", request(b"[]", signed=False))


async def test_a_plugin_that_breaks_on_a_report_is_at_fault_by_name(stage: ModuleType, tmp_path: Path) -> None:
    async with room_at(stage, tmp_path) as room:
        with pytest.raises(ContractViolation, match=r"a: stage raised JSONDecodeError when it was reading a report"):
            await room.receive("a", request(b"no JSON"))


async def test_an_account_whose_provider_never_reports_says_so_whatever_its_settings(
    stage: ModuleType, tmp_path: Path
) -> None:
    async with room_at(stage, tmp_path, quiet={"provider": "memory", "tokne": "x"}) as room:
        with pytest.raises(WebhookError, match="'quiet' sends no reports that postroom can read"):
            await room.receive("quiet", request(b"[]"))


async def test_a_report_to_an_account_that_is_not_there_is_refused(stage: ModuleType, tmp_path: Path) -> None:
    async with room_at(stage, tmp_path) as room:
        with pytest.raises(ProviderNotFound, match="nobody"):
            await room.receive("nobody", request(b"[]"))


def head(*, signed: bool = True) -> WebhookRequest:
    return request(b"", signed=signed)


@pytest.mark.parametrize("proven", [True, False])
async def test_whether_the_head_of_a_report_proves_its_sender_is_what_the_transport_says(
    stage: ModuleType, tmp_path: Path, *, proven: bool
) -> None:
    seen = []

    def look(given: WebhookRequest) -> bool:
        seen.append(given)
        return proven

    async with room_at(stage, tmp_path, a=stage.StageSettings(script=stage.Script(head=look))) as room:
        assert await room.check_webhook_head("a", head()) is proven
    assert seen == [head()]


async def test_a_head_that_cannot_be_the_providers_is_refused_and_a_plugin_that_breaks_on_it_is_at_fault(
    stage: ModuleType, tmp_path: Path
) -> None:
    def refuse(given: WebhookRequest) -> bool:
        if given.headers:
            raise KeyError("s3cret")
        raise SignatureInvalid("not ours")

    async with room_at(stage, tmp_path, a=stage.StageSettings(script=stage.Script(head=refuse))) as room:
        with pytest.raises(SignatureInvalid, match="not ours"):
            await room.check_webhook_head("a", head(signed=False))
        with pytest.raises(ContractViolation, match="a: stage raised KeyError when it was reading the head") as caught:
            await room.check_webhook_head("a", head())
        assert "s3cret" not in str(caught.value)


async def test_the_head_of_a_report_to_an_account_that_gets_none_is_refused(stage: ModuleType, tmp_path: Path) -> None:
    async with room_at(stage, tmp_path, quiet={"provider": "memory", "tokne": "x"}) as room:
        with pytest.raises(WebhookError, match="'quiet' sends no reports"):
            await room.check_webhook_head("quiet", head())
        with pytest.raises(ProviderNotFound, match="nobody"):
            await room.check_webhook_head("nobody", head())
