"""E-mail through SendGrid's v3 Mail Send API."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from postroom.errors import DeliveryError, MessageError, UnexpectedResponse
from postroom.plugin import EMAIL_FEATURES, Capabilities, CheckReport
from postroom.plugin.http import HttpEmailTransport
from postroom.receipts import Accepted
from postroom_sendgrid import webhook
from postroom_sendgrid.bulk import MOST_RECIPIENTS, calls_for
from postroom_sendgrid.errors import read_faults, refusal
from postroom_sendgrid.faults import attribute
from postroom_sendgrid.limits import check_provider_options, problems
from postroom_sendgrid.settings import HOSTS, SendGridSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from postroom.events import Event
    from postroom.messages import Email
    from postroom.plugin import Resources, WebhookRequest
    from postroom.plugin.http import HttpReply
    from postroom_sendgrid.bulk import Call

Answer = Accepted | DeliveryError


class SendGridEmail(HttpEmailTransport[SendGridSettings]):
    """One call per message, or one per thousand alike messages of a batch."""

    settings_model = SendGridSettings
    capabilities = Capabilities(
        features=EMAIL_FEATURES - {"international_addresses"}, max_batch=1000, max_recipients=MOST_RECIPIENTS
    )

    def __init__(self, account: str, settings: SendGridSettings, resources: Resources) -> None:
        super().__init__(account, settings, resources)
        key = settings.api_key.get_secret_value()
        self._headers = {"Authorization": f"Bearer {key}", "Accept": "application/json"}
        self._url = f"{self.base_url}/v3/mail/send"
        self._slots = asyncio.Semaphore(settings.concurrency)

    @property
    def base_url(self) -> str:
        return self.settings.base_url or HOSTS[self.settings.region]

    def validate(self, email: Email, /) -> None:
        check_provider_options(email)
        if found := problems(email):
            raise MessageError(f"{self.account}: SendGrid {'; it '.join(found)}; nothing was sent")

    async def send(self, email: Email, /) -> Accepted:
        call, body = await self.encoded(partial(_one_call, email, sandbox=self.settings.sandbox), email)
        reply = await self._post(body)
        accepted = self._accepted(reply, sandbox=call.sandbox)
        if accepted is None:
            raise refusal(self, reply, read_faults(reply), email)
        return accepted

    async def send_many(self, batch: Sequence[Email], /) -> list[Answer]:
        """Hand over a batch in as few calls as it allows, up to `settings.concurrency` of them at once."""
        answers: dict[int, Answer] = {}
        calls = await self.encoded(partial(calls_for, batch, sandbox=self.settings.sandbox), *batch)
        await self._settle_all(calls, answers)
        return [answers[index] for index in range(len(batch))]

    def check_webhook_head(self, head: WebhookRequest, /) -> bool:
        """Refuse what is not signed before its body is read; raises SignatureInvalid."""
        webhook.signature_of(self.account, self.settings, head)
        return False

    def parse_webhook(self, request: WebhookRequest, /) -> list[Event]:
        """Read the events of an Event Webhook; raises SignatureInvalid or PayloadInvalid."""
        return webhook.read(self.account, self.settings, request)

    async def check(self) -> CheckReport:
        """Ask which scopes the key has; `mail.send` is the one that matters."""
        reply = await self.ask("GET", f"{self.base_url}/v3/scopes", headers=self._headers)
        if reply.status != 200:
            raise refusal(self, reply, read_faults(reply))
        scopes = reply.json_object().get("scopes")
        if not isinstance(scopes, list):
            return CheckReport(ok=False, summary=f"{self.base_url} answered without scopes; check base_url")
        able = "mail.send" in scopes
        summary = "the key may send" if able else "the key lacks the scope mail.send; add it in SendGrid's settings"
        return CheckReport(ok=able, summary=summary, details={"host": self.base_url})

    async def _settle_all(self, calls: Sequence[Call], answers: dict[int, Answer], refusals: int = 0) -> None:
        if len(calls) == 1:
            await self._settle(calls[0], answers, refusals)
            return
        async with asyncio.TaskGroup() as group:
            for call in calls:
                group.create_task(self._settle(call, answers, refusals))

    async def _settle(self, call: Call, answers: dict[int, Answer], refusals: int) -> None:
        """Hand over a call, and after a refusal those of its messages that it was not for.

        SendGrid takes a call whole or not at all, so a refusal means that none of its messages was sent and the
        innocent may go again; after anything else they may not.
        """
        try:
            async with self._slots:
                reply = await self._post(call.body())
            accepted = self._accepted(reply, sandbox=call.sandbox)
        except DeliveryError as error:
            answers.update((member.place, error) for member in call.members)
            return
        if accepted:
            answers.update((member.place, accepted) for member in call.members)
            return
        blamed, again = attribute(call, reply.status, read_faults(reply), refusals)
        for member, faults in blamed:
            answers[member.place] = refusal(self, reply, faults, member.email)
        await self._settle_all(again, answers, refusals + 1)

    async def _post(self, body: bytes) -> HttpReply:
        return await self.request("POST", self._url, headers=self._headers, body=body, content_type="application/json")

    def _accepted(self, reply: HttpReply, *, sandbox: bool) -> Accepted | None:
        """The answer when it is a yes, None when it is a refusal; a 200 is a yes in the sandbox alone."""
        if reply.status == 202 or (reply.status == 200 and sandbox):
            identifier = reply.headers.get("X-Message-Id")
            return Accepted(provider_message_id=identifier, request_id=identifier)
        if reply.status < 300:
            raise self.failure(reply, kind=UnexpectedResponse, detail="a yes without SendGrid's 202")
        return None


def _one_call(email: Email, *, sandbox: bool) -> tuple[Call, bytes]:
    (call,) = calls_for([email], sandbox=sandbox)
    return call, call.body()
