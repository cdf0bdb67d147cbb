"""Uses of the public API as a caller writes them; `mypy --strict` checks this file, nothing runs it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar, assert_type

from pydantic import SecretStr

from postroom import (
    Accepted,
    Address,
    Attachment,
    Channel,
    Config,
    DeliveryError,
    Email,
    Event,
    Message,
    MessageRejected,
    Outcome,
    Postroom,
    PostroomError,
    Receipt,
    RecipientResult,
    Segments,
    Sms,
    SyncPostroom,
)
from postroom.outbox import MessageDetails, MessageFilter, MessageSummary, OutboxStats
from postroom.plugin import (
    AccountSettings,
    Capabilities,
    CheckReport,
    EmailTransport,
    HttpAccountSettings,
    SmsTransport,
    hookimpl,
)
from postroom.plugin.http import HttpSmsTransport


async def sends_one() -> str | None:
    async with Postroom.from_config() as room:
        email = Email(
            to=(Address(email="ann@example.org", name="Ann"),),
            subject="Hello",
            text="Good morning",
            attachments=(Attachment.from_path(Path("plan.pdf")), Attachment(filename="a.txt", content=b"x")),
            headers={"X-Tag": "1"},
            send_at=datetime.now(UTC) + timedelta(hours=1),
            provider="careful",
        )
        receipt = await room.send(email)
        assert_type(receipt, Receipt)
        assert_type(receipt.recipients, tuple[RecipientResult, ...])
        return receipt.provider_message_id


async def reads_an_error(room: Postroom, sms: Sms) -> bool:
    assert_type(sms.segments, Segments)
    try:
        await room.send(sms)
    except DeliveryError as error:
        assert_type(error.outcome, Outcome)
        assert_type(error.receipt, Receipt | None)
        return error.outcome is Outcome.TRANSIENT and (error.retry_after or 0) < 60
    return True


def numbers() -> Iterator[Sms]:
    for number in ("+442079460958", "+12025550123"):
        yield Sms(to=(number,), body="hello")


async def sends_many(room: Postroom) -> list[str]:
    def progress(index: int, result: Receipt | PostroomError) -> None:
        print(index, result)

    results = await room.send_many(numbers(), progress=progress, at_once=10)
    assert_type(results, list[Receipt | PostroomError])
    return [result.id for result in results if isinstance(result, Receipt)]


def sends_blocking() -> Receipt:
    with SyncPostroom.from_urls(sms="twilio://SID:TOKEN@?from=%2B15005550006") as room:
        return room.send(Sms(to=("+442079460958",), body="hello"))


def made_in_code() -> Postroom:
    account = AcmeSettings(api_key=SecretStr("key"))
    return Postroom(
        accounts={"acme": account, "spare": {"provider": "memory"}},
        routes={"both": {"strategy": "weighted", "via": ["acme", "spare"], "weights": {"acme": 3}}},
        defaults={"sms": "both"},
        rules=[{"channel": "sms", "country": "GB", "use": "acme"}],
    )


async def looks_around(room: Postroom) -> None:
    room.validate()
    for name, report in (await room.check()).items():
        assert_type(report, CheckReport | PostroomError)
        print(name, isinstance(report, CheckReport) and report.ok)
    assert_type(room.memory, list[Message])
    assert_type(room.config, Config)
    for target in room.targets(Email(to=(Address(email="a@example.org"),), text="x")):
        assert_type(target.name, str)


class AcmeSettings(HttpAccountSettings):
    env_vars: ClassVar[dict[str, str]] = {"api_key": "ACME_API_KEY"}

    provider: str = "acme"
    api_key: SecretStr


class AcmeSms(HttpSmsTransport[AcmeSettings]):
    settings_model = AcmeSettings
    capabilities = Capabilities(features=frozenset({"media"}), max_recipients=1, max_batch=100)
    default_base_url = "https://api.acme.example"

    async def send(self, sms: Sms, /) -> Accepted:
        key = self.settings.api_key.get_secret_value()
        reply = await self.request("POST", f"{self.base_url}/sms", headers={"Authorization": key}, body=b"{}")
        if reply.status != 201:
            raise self.failure(reply, code="7", kind=MessageRejected)
        return Accepted(provider_message_id=str(reply.json_object()["id"]))

    async def send_many(self, batch: Sequence[Sms], /) -> list[Accepted | DeliveryError]:
        return [Accepted() for _ in batch]

    def validate(self, sms: Sms, /) -> None:
        assert_type(sms.channel_name, Channel)


class LetterSettings(AccountSettings):
    provider: str = "letter"


class LetterEmail(EmailTransport[LetterSettings]):
    settings_model = LetterSettings

    async def send(self, email: Email, /) -> Accepted:
        assert_type(email.from_, Address | None)
        return Accepted()


class PlainSms(SmsTransport[LetterSettings]):
    settings_model = LetterSettings

    async def send(self, sms: Sms, /) -> Accepted:
        return Accepted(provider_message_id=sms.id)


@hookimpl
def postroom_email_transport() -> type[LetterEmail]:
    return LetterEmail


@hookimpl
def postroom_sms_transport() -> type[AcmeSms]:
    return AcmeSms


@hookimpl
def postroom_on_event(event: Event, receipt: Receipt) -> None:
    print(event.type, receipt.status)


@hookimpl
@asynccontextmanager
async def postroom_around_send(message: Message, account: str) -> AsyncIterator[None]:
    print(account, message.id)
    yield


if __name__ == "__main__":
    asyncio.run(sends_one())


async def asks_the_outbox(room: Postroom) -> None:
    receipt = await room.enqueue(Sms(to="+442079460958", body="Hello"))
    assert_type(await room.outbox.get(receipt.id), MessageDetails)
    assert_type(await room.outbox.list(MessageFilter(status=(receipt.status,))), list[MessageSummary])


def asks_the_outbox_without_a_loop(room: SyncPostroom) -> None:
    receipt = room.enqueue(Sms(to="+442079460958", body="Hello"))
    with sqlite3.connect("postroom.db") as connection:
        assert_type(room.enqueue(Sms(to="+442079460958", body="Hello"), connection=connection), Receipt)
    assert_type(room.outbox.get(receipt.id), MessageDetails)
    assert_type(room.outbox.list(MessageFilter(status=(receipt.status,))), list[MessageSummary])
    assert_type(room.outbox.stats(), OutboxStats)
    assert_type(room.outbox.resolve(receipt.id, "sent"), Receipt)
    room.work(until_empty=True)
