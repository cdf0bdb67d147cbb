"""Providers and extensions whose behaviour a test scripts: they stand where a real plugin would.

`stage` can do everything; `stage-plain` has no features; `stage-whole` cannot narrow an e-mail to some of its
recipients; `stage-batch` takes 1,000 messages a call; `stage-pairs` takes SMS to two recipients at most; `stage-asks`
can say what became of a message.
"""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import Any, ClassVar, Never

from pydantic import SecretStr

from postroom.errors import SignatureInvalid
from postroom.events import Event
from postroom.plugin import (
    EMAIL_FEATURES,
    SMS_FEATURES,
    AccountSettings,
    Capabilities,
    EmailTransport,
    SmsTransport,
    hookimpl,
)
from postroom.receipts import Accepted


async def accept(message):
    return Accepted(provider_message_id=f"stage-{message.id}")


class Script:
    """What a transport does, and what was asked of it: one tuple of messages per call."""

    def __init__(
        self,
        act=accept,
        *,
        many=None,
        making=None,
        opening=None,
        closing=None,
        check=None,
        validate=None,
        found=None,
        head=None,
    ) -> None:
        self.act = act
        self.many = many
        self.making = making
        self.opening = opening
        self.closing = closing
        self.check = check
        self.validate = validate
        self.found = found
        self.head = head
        self.calls = []
        self.settings_seen = []
        self.opened = 0
        self.closed = 0

    @property
    def messages(self):
        return [message for call in self.calls for message in call]

    @property
    def recipients(self):
        return [recipient for message in self.messages for recipient in message.recipients]


class StageSettings(AccountSettings):
    env_vars: ClassVar[dict[str, str]] = {"token": "STAGE_TOKEN"}
    message_options: ClassVar[dict[str, str]] = {"stage_secret": "token"}

    provider: str = "stage"
    script: Any = None
    user: str | None = None
    token: SecretStr | None = None
    key: SecretStr | None = None


class _Acting:
    settings_model = StageSettings

    def __init__(self, *given) -> None:
        super().__init__(*given)
        if self.script.making:
            self.script.making()

    @property
    def script(self):
        return self.settings.script or STAGE

    async def open(self) -> None:
        self.script.opened += 1
        if self.script.opening:
            await self.script.opening()

    async def close(self) -> None:
        self.script.closed += 1
        if self.script.closing:
            await self.script.closing()

    async def check(self):
        return await self.script.check() if self.script.check else await super().check()

    def validate(self, message) -> None:
        if self.script.validate:
            self.script.validate(message)

    async def send(self, message):
        self.script.calls.append((message,))
        self.script.settings_seen.append(self.settings)
        return await self.script.act(message)

    async def send_many(self, batch):
        if self.script.many is None:
            self.script.calls.append(tuple(batch))
            return [await accept(message) for message in batch]
        self.script.calls.append(tuple(batch))
        return await self.script.many(batch)

    async def reconcile(self, attempt):
        return await self.script.found(attempt) if self.script.found else None

    def check_webhook_head(self, head):
        return self.script.head(head) if self.script.head else super().check_webhook_head(head)

    def parse_webhook(self, request):
        if request.headers.get("x-stage-signature") != "signed":
            raise SignatureInvalid("stage: the report is not signed; send x-stage-signature: signed")
        return [Event.model_validate(fields) for fields in json.loads(request.body)]


STAGE = Script()
"""The script of accounts that name none, which are those made from text."""


def _provider(email_capabilities, sms_capabilities):
    class StageEmail(_Acting, EmailTransport[StageSettings]):
        capabilities = email_capabilities

    class StageSms(_Acting, SmsTransport[StageSettings]):
        capabilities = sms_capabilities

    class Provider:
        @hookimpl
        def postroom_email_transport(self):
            return StageEmail

        @hookimpl
        def postroom_sms_transport(self):
            return StageSms

    return Provider()


full = _provider(
    Capabilities(features=EMAIL_FEATURES, partial_envelope=True),
    Capabilities(features=SMS_FEATURES, max_recipients=1),
)
plain = _provider(Capabilities(partial_envelope=True), Capabilities(max_recipients=1))
whole = _provider(Capabilities(features=EMAIL_FEATURES), Capabilities(features=SMS_FEATURES, max_recipients=1))
batch = _provider(
    Capabilities(features=EMAIL_FEATURES, partial_envelope=True, max_batch=1000),
    Capabilities(features=SMS_FEATURES, max_recipients=1, max_batch=1000),
)
asks = _provider(
    Capabilities(features=EMAIL_FEATURES, partial_envelope=True, reconciles=True),
    Capabilities(features=SMS_FEATURES, max_recipients=1, reconciles=True),
)
pairs = _provider(
    Capabilities(features=EMAIL_FEATURES, partial_envelope=True, max_recipients=2),
    Capabilities(features=SMS_FEATURES, max_recipients=2),
)


LOG = []
"""What the extensions saw, in order; the `extensions` fixture empties it."""

VETO = {}
"""Gate name -> the error it raises on entering; "after:NAME" -> on leaving; "leaving:NAME" -> what it awaits then."""


class _Observer:
    @hookimpl
    def postroom_on_event(self, event, receipt) -> None:
        LOG.append(("observed", event.type.value, receipt.id))


class _Deaf:
    @hookimpl
    def postroom_on_event(self, event, receipt) -> Never:
        raise RuntimeError("an observer broke")


class _Gate:
    def __init__(self, name) -> None:
        self.name = name

    @hookimpl
    def postroom_around_send(self, message, account):
        if self.name == "gate" and message.provider == "ungated":
            return None
        return self._around(message, account)

    @asynccontextmanager
    async def _around(self, message, account):
        veto = VETO.get(self.name)
        if veto is not None and (not callable(veto) or veto(message)):
            raise VETO["error"]
        LOG.append((self.name, "enter", account))
        try:
            yield
        except BaseException as error:
            LOG.append((self.name, "error", type(error).__name__))
            raise
        finally:
            LOG.append((self.name, "leave", account))
            if f"leaving:{self.name}" in VETO:
                await VETO[f"leaving:{self.name}"]()
            if f"after:{self.name}" in VETO:
                raise VETO[f"after:{self.name}"]


class _Transform:
    """Does to messages and to bytes what `TRANSFORM` says."""

    @hookimpl
    def postroom_transform_message(self, message, account):
        return TRANSFORM["message"](message, account) if "message" in TRANSFORM else None

    @hookimpl
    def postroom_transform_content(self, content, message, account):
        return TRANSFORM["content"](content, message, account) if "content" in TRANSFORM else None


TRANSFORM = {}
"""What the extension `stage-transform` does: "message" and "content" -> a function."""

transform = _Transform()
observer = _Observer()
observer_too = _Observer()
deaf = _Deaf()
gate = _Gate("gate")
second_gate = _Gate("second_gate")
