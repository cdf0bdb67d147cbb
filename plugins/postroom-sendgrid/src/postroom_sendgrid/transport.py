"""E-mail through SendGrid's v3 Mail Send API."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from postroom.errors import DeliveryError, MessageError, UnexpectedResponse
from postroom.plugin import EMAIL_FEATURES, Capabilities, CheckReport
from postroom.plugin.http import HttpEmailTransport
from postroom.receipts import Accepted
from postroom_sendgrid.bulk import MOST_RECIPIENTS, calls_for
from postroom_sendgrid.errors import Fault, read_faults, refusal
from postroom_sendgrid.limits import check_provider_options, problems
from postroom_sendgrid.settings import HOSTS, SendGridSettings

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from postroom.messages import Email
    from postroom.plugin import Environment
    from postroom.plugin.http import Reply
    from postroom_sendgrid.bulk import Call

REFUSALS_BEFORE_HALVING = 3
"""Refusals of a call after which its innocent messages go on in halves, so that each round clears many."""

Answer = Accepted | DeliveryError


class SendGridEmail(HttpEmailTransport[SendGridSettings]):
    """One call per message, or one per thousand alike messages of a batch."""

    settings_model = SendGridSettings
    capabilities = Capabilities(
        features=EMAIL_FEATURES - {"international_addresses"}, max_batch=1000, max_recipients=MOST_RECIPIENTS
    )

    def __init__(self, account: str, settings: SendGridSettings, environment: Environment) -> None:
        super().__init__(account, settings, environment)
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
        (answer,) = await self.send_many([email])
        if isinstance(answer, DeliveryError):
            raise answer
        return answer

    async def send_many(self, batch: Sequence[Email], /) -> list[Answer]:
        """Hand over a batch in as few calls as it allows, up to `settings.concurrency` of them at once."""
        answers: dict[int, Answer] = {}
        await self._settle_all(calls_for(batch, sandbox=self.settings.sandbox), answers)
        return [answers[index] for index in range(len(batch))]

    async def check(self) -> CheckReport:
        """Ask which scopes the key has; `mail.send` is the one that matters."""
        reply = await self.request("GET", f"{self.base_url}/v3/scopes", headers=self._headers)
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
            return await self._settle(calls[0], answers, refusals)
        async with asyncio.TaskGroup() as group:
            for call in calls:
                group.create_task(self._settle(call, answers, refusals))

    async def _settle(self, call: Call, answers: dict[int, Answer], refusals: int) -> None:
        """Hand over a call, and again without the messages it was refused for.

        SendGrid takes a call whole or not at all, so after a refusal none of its messages was sent and the
        innocent may go again; after anything else they may not.
        """
        try:
            reply = await self._post(call)
            accepted = self._accepted(reply, call)
        except DeliveryError as error:
            answers.update((member.index, error) for member in call.members)
            return
        if accepted:
            answers.update((member.index, accepted) for member in call.members)
            return
        faults = read_faults(reply)
        if _may_be_parted(call, reply, faults):
            await self._settle_all(call.halves(), answers, refusals + 1)
            return
        blamed = _blamed(call, faults) if reply.status == 400 else {}
        innocent = call.part(range(len(call.members)) - blamed.keys()) if blamed else None
        await self._settle_refused(call, reply, blamed, answers)
        if innocent and innocent.members:
            await self._settle_all(_next_round(innocent, refusals), answers, refusals + 1)

    async def _post(self, call: Call) -> Reply:
        async with self._slots:
            return await self.request(
                "POST", self._url, headers=self._headers, body=call.body(), content_type="application/json"
            )
