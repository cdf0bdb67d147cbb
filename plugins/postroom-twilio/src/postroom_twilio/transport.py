"""Carries SMS, MMS and WhatsApp messages over Twilio's Messages resource, one POST each."""

from __future__ import annotations

from base64 import b64encode
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from postroom.errors import DeliveryError, Outcome, RecipientsRefused, UnexpectedResponse
from postroom.plugin import Capabilities, CheckReport
from postroom.plugin.http import FORM, HttpSmsTransport, form_body
from postroom.receipts import Accepted, RecipientResult
from postroom_twilio import limits, webhook
from postroom_twilio.errors import meaning, read_problem
from postroom_twilio.lookup import MOST_PAGES, Owners, Sought
from postroom_twilio.payload import message_fields
from postroom_twilio.settings import TwilioSettings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from postroom.events import Event
    from postroom.messages import Sms
    from postroom.plugin import Resources, UnknownAttempt, WebhookRequest
    from postroom.plugin.http import HttpReply
    from postroom_twilio.lookup import Entry


class TwilioSms(HttpSmsTransport[TwilioSettings]):
    """One Twilio account.

    Everything but the credentials and the host goes through `payload`; a yes is a 2xx with the SID of the new
    message, and nothing else is.
    """

    settings_model = TwilioSettings
    capabilities = Capabilities(
        features=frozenset({"media", "send_at", "provider_options", "whatsapp"}), max_recipients=1, reconciles=True
    )
    default_base_url = "https://api.twilio.com"

    def __init__(self, account: str, settings: TwilioSettings, resources: Resources) -> None:
        super().__init__(account, settings, resources)
        self._basic = b64encode(":".join(settings.credentials).encode()).decode()
        self._headers = {"Authorization": f"Basic {self._basic}", "Accept": "application/json"}
        self._path = f"/2010-04-01/Accounts/{settings.account_sid}"
        self._owners = Owners()

    def secrets(self) -> Iterable[str]:
        return [*super().secrets(), self._basic]

    def validate(self, message: Sms, /) -> None:
        limits.check(message, self.settings, datetime.now(UTC))

    async def send(self, message: Sms, /) -> Accepted:
        fields = message_fields(message, self.settings, datetime.now(UTC))
        reply = await self.request(
            "POST",
            f"{self.base_url}{self._path}/Messages.json",
            headers=self._headers,
            body=form_body(fields),
            content_type=FORM,
        )
        if reply.status // 100 == 2:
            return self._accepted(message, reply)
        raise self._refused(reply, message)

    async def reconcile(self, attempt: UnknownAttempt[Sms], /) -> Accepted | None:
        """Look for the message in Twilio's list; None when it is not there, or could be another.

        It never answers NotTaken: see `lookup`. Raises DeliveryError when the list cannot be read.
        """
        sought = Sought.by(attempt, self.settings)
        found = await self._matches(sought) if sought else []
        if len(found) != 1 or not self._owners.give(found[0]["sid"], attempt.message.id):
            return None
        return _taken(attempt.message, found[0])

    def check_webhook_head(self, head: WebhookRequest, /) -> bool:
        """Refuse what is not signed before its body is read; raises SignatureInvalid."""
        webhook.signature_of(self.account, head)
        return False

    def parse_webhook(self, request: WebhookRequest, /) -> list[Event]:
        """Read a status callback or an incoming message; raises SignatureInvalid or PayloadInvalid."""
        return webhook.read(self.account, self.settings, request)

    async def check(self) -> CheckReport:
        """Read the account, or with an API key its newest message.

        Standard API keys may not read accounts (Twilio docs, "Create API keys", types of keys).
        """
        if self.settings.api_key:
            await self._read(f"{self._path}/Messages.json?PageSize=1")
            return CheckReport(ok=True, summary=f"the API key works for {self.settings.account_sid}")
        account = await self._read(f"{self._path}.json")
        status, name = account.get("status"), str(account.get("friendly_name", ""))
        if not isinstance(status, str):
            return CheckReport(ok=False, summary=f"{self.base_url} answered without an account; check base_url")
        summary = f"account {name!r} is {status}"
        return CheckReport(ok=status == "active", summary=summary, details={"status": status, "friendly_name": name})

    async def _read(self, path: str) -> dict[str, Any]:
        reply = await self.ask("GET", self.base_url + path, headers=self._headers)
        if reply.status // 100 != 2:
            raise self._refused(reply)
        return reply.json_object()

    async def _matches(self, sought: Sought) -> list[Entry]:
        """Every message that may be the one; none when the list is too long to be read to its end."""
        found: list[Entry] = []
        page: object = f"{self._path}/Messages.json?{form_body(sought.query).decode()}"
        for _ in range(MOST_PAGES):
            listed = await self._read(str(page))
            entries = [entry for entry in listed.get("messages") or () if isinstance(entry, dict)]
            found += [entry for entry in entries if isinstance(entry.get("sid"), str) and sought.is_(entry)]
            page = listed.get("next_page_uri")
            # A path alone: anything else could carry the credentials to another host.
            if not isinstance(page, str) or not page.startswith("/") or sought.precedes(entries):
                return found
        return []

    def _accepted(self, message: Sms, reply: HttpReply) -> Accepted:
        body = reply.json_object()
        sid = body.get("sid")
        if not sid or not isinstance(sid, str):
            raise self.failure(
                reply,
                kind=UnexpectedResponse,
                detail="a success without the SID of a message",
                request_id=_request_id(reply),
            )
        self._owners.give(sid, message.id)
        result = RecipientResult(
            address=message.recipients[0],
            outcome=Outcome.ACCEPTED,
            provider_message_id=sid,
            status=reply.status,
            segments=_segments(body.get("num_segments")),
        )
        return Accepted(
            provider_message_id=sid,
            recipients=(result,),
            request_id=_request_id(reply),
            detail=str(body["status"]) if body.get("status") else None,
        )

    def _refused(self, reply: HttpReply, message: Sms | None = None) -> DeliveryError:
        code, detail = read_problem(reply.json_object())
        found = meaning(reply.status, code, own_sender=message is not None and self._own_sender(message))
        error = self.failure(
            reply,
            code=None if code is None else str(code),
            detail=detail,
            kind=found.kind if found else None,
            advice=found.advice if found else None,
            outcome=found.outcome if found else None,
            scope=found.scope if found else None,
            request_id=_request_id(reply),
            suppress=found.suppress if found else None,
        )
        if isinstance(error, RecipientsRefused) and message is not None:
            return error.with_recipients((RecipientResult.failed(message.recipients[0], error),))
        return error

    def _own_sender(self, message: Sms) -> bool:
        chosen = message.from_ is not None and message.from_ != self.settings.from_
        return chosen or "messaging_service_sid" in message.provider_options


def _taken(message: Sms, entry: Entry) -> Accepted:
    sid, status = entry["sid"], entry.get("status")
    result = RecipientResult.accepted(message.recipients[0], sid, segments=_segments(entry.get("num_segments")))
    return Accepted(
        provider_message_id=sid, recipients=(result,), detail=f"found in Twilio's message list, {status or 'no status'}"
    )


def _request_id(reply: HttpReply) -> str | None:
    return reply.headers.get("Twilio-Request-Id")


def _segments(value: object) -> int | None:
    """A messaging service counts later and says "0" until then."""
    return int(value) or None if isinstance(value, str) and value.isascii() and value.isdigit() else None
