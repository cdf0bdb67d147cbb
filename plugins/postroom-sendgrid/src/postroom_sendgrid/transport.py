"""E-mail through SendGrid's v3 Mail Send API."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from postroom.errors import DeliveryError, MessageError, UnexpectedResponse
from postroom.plugin import EMAIL_FEATURES, Capabilities, CheckReport
from postroom.plugin.http import HttpEmailTransport
from postroom.receipts import Accepted
from postroom_sendgrid.bulk import LARGEST_CALL, MOST_RECIPIENTS, Call, calls_for
from postroom_sendgrid.errors import blamed_personalizations, refusal
from postroom_sendgrid.payload import ID_ARGUMENT, check_provider_options
from postroom_sendgrid.settings import HOSTS, SendGridSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from postroom.messages import Email
    from postroom.plugin.http import Reply

LATEST_SEND_AT = timedelta(hours=72)
"""How far ahead `send_at` may lie: twilio.com/docs/sendgrid/api-reference/mail-send/mail-send."""

LARGEST_ARGUMENTS = 10_000
"""Bytes of custom arguments in one personalization, from the same site's "Limitations"."""

MOST_CATEGORIES = 10
RESERVED_HEADERS = frozenset({"x-sg-id", "x-sg-eid", "reply-to"})
"""Headers SendGrid keeps for itself, beyond those no message may set."""

Answer = Accepted | DeliveryError


class SendGridEmail(HttpEmailTransport[SendGridSettings]):
    """One call per message, or one per thousand alike messages of a batch."""

    settings_model = SendGridSettings
    capabilities = Capabilities(
        features=EMAIL_FEATURES - {"international_addresses"}, max_batch=1000, max_recipients=MOST_RECIPIENTS
    )

    @property
    def base_url(self) -> str:
        return self.settings.base_url or HOSTS[self.settings.region]

    async def open(self) -> None:
        self._headers = {"Authorization": f"Bearer {self.settings.api_key.get_secret_value()}"}
        self._url = f"{self.base_url}/v3/mail/send"

    def validate(self, email: Email, /) -> None:
        for problem in _problems(email):
            raise MessageError(f"{self.account}: SendGrid {problem}; nothing was sent")
        check_provider_options(email)

    async def send(self, email: Email, /) -> Accepted:
        """Hand over one message. Raises DeliveryError."""
        (answer,) = await self.send_many([email])
        if isinstance(answer, DeliveryError):
            raise answer
        return answer

    async def send_many(self, batch: Sequence[Email], /) -> list[Answer]:
        """Hand over a batch in as few calls as it allows, different calls at once."""
        answers: dict[int, Answer] = {}
        calls = calls_for(batch, sandbox=self.settings.sandbox)
        if len(calls) == 1:
            await self._settle(calls[0], answers)
        else:
            async with asyncio.TaskGroup() as group:
                for call in calls:
                    group.create_task(self._settle(call, answers))
        return [answers[index] for index in range(len(batch))]

    async def check(self) -> CheckReport:
        """Ask which scopes the key has; `mail.send` is the one that matters."""
        reply = await self.request("GET", f"{self.base_url}/v3/scopes", headers=self._headers)
        if reply.status != 200:
            raise refusal(self, reply)
        able = "mail.send" in reply.json_object().get("scopes", ())
        summary = "the key may send" if able else "the key lacks the scope mail.send; add it in SendGrid's settings"
        return CheckReport(ok=able, summary=summary, details={"host": self.base_url})

    async def _settle(self, call: Call, answers: dict[int, Answer]) -> None:
        """Hand over a call, and again without the messages it was refused for.

        SendGrid takes a call whole or not at all, so after a refusal none of its messages was sent and the
        innocent may go again; after anything else they may not.
        """
        pending: Call | None = call
        while pending and pending.members:
            answer, reply = await self._post(pending)
            blamed = self._blamed(pending, reply)
            if not blamed or len(blamed) == len(pending.members):
                answers.update({index: answer for index, _ in pending.members})
                return
            refused, pending = pending.parted(blamed)
            answers.update({index: answer for index, _ in refused.members})

    async def _post(self, call: Call) -> tuple[Answer, Reply | None]:
        try:
            reply = await self.request(
                "POST", self._url, headers=self._headers, body=call.body(), content_type="application/json"
            )
        except DeliveryError as error:
            return error, None
        try:
            return self._accepted(reply), reply
        except DeliveryError as error:
            return error, reply

    def _accepted(self, reply: Reply) -> Accepted:
        if reply.status == 202 or (reply.status == 200 and self.settings.sandbox):
            identifier = reply.headers.get("X-Message-Id")
            return Accepted(provider_message_id=identifier, request_id=identifier)
        if reply.status < 300:
            raise self.failure(reply, kind=UnexpectedResponse, detail="a yes without SendGrid's 202")
        raise refusal(self, reply)

    def _blamed(self, call: Call, reply: Reply | None) -> set[int]:
        if reply is None or reply.status != 400:
            return set()
        owners = (call.owner(number) for number in blamed_personalizations(reply))
        return {owner for owner in owners if owner is not None}


def _problems(email: Email) -> list[str]:
    """What SendGrid would refuse, in words; see its "Mail Send" errors and limitations pages."""
    arguments = sum(len(k.encode()) + len(v.encode()) for k, v in email.metadata.items())
    named = RESERVED_HEADERS.intersection(name.lower() for name in email.headers)
    faults = {
        "needs a recipient in `to`": not email.to,
        "needs a text, an HTML body or a template": not (email.text or email.html or email.template),
        "needs a subject, unless a template has one": not (email.subject or email.template),
        f"takes at most {MOST_RECIPIENTS} recipients a message": len(email.recipients) > MOST_RECIPIENTS,
        f"takes at most {MOST_CATEGORIES} tags": len(email.tags) > MOST_CATEGORIES,
        f"takes metadata of less than {LARGEST_ARGUMENTS:,} bytes": arguments >= LARGEST_ARGUMENTS,
        f"keeps the metadata name {ID_ARGUMENT!r} for the message's id": ID_ARGUMENT in email.metadata,
        f"keeps the header {', '.join(sorted(named))} for itself": bool(named),
        "schedules at most 72 hours ahead": bool(email.send_at and email.send_at > datetime.now(UTC) + LATEST_SEND_AT),
        "takes merge data only with a template": bool(email.merge_data and not email.template),
        f"takes less than {LARGEST_CALL:,} bytes a message": _encoded_size(email) >= LARGEST_CALL,
    }
    return [problem for problem, found in faults.items() if found]


def _encoded_size(email: Email) -> int:
    """Base64 makes four bytes of three, and each UTF-8 byte of a body is taken for one of JSON."""
    attached = sum(-(-len(attachment.content) // 3) * 4 for attachment in email.attachments)
    return attached + sum(len(body.encode()) for body in (email.text, email.html, email.amp) if body)
