"""SMS, MMS and WhatsApp through Vonage: the Messages API or the SMS API, whichever the account chose."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from postroom.errors import MessageError, MissingCredential, UnsupportedFeature
from postroom.plugin import Capabilities, CheckReport
from postroom.plugin.http import HttpSmsTransport
from postroom_vonage import messages_api, reports, sms_api, webhook
from postroom_vonage.auth import basic
from postroom_vonage.errors import refusal
from postroom_vonage.settings import VonageSettings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from postroom.events import Event
    from postroom.messages import Sms
    from postroom.plugin import Resources, WebhookRequest
    from postroom.receipts import Accepted

_MADE_CREDENTIALS = re.compile(r"eyJ[\w\-]+\.[\w\-]+\.[\w\-]*|(?<=sig=)\w+")
"""A JSON Web Token, or the signature in a form: made anew, so they cannot be listed as `secrets`."""


class VonageSms(HttpSmsTransport[VonageSettings]):
    """One Vonage account; each message is one request for one recipient."""

    settings_model = VonageSettings
    capabilities = Capabilities(features=frozenset({"media", "whatsapp", "provider_options"}), max_recipients=1)

    def __init__(self, account: str, settings: VonageSettings, resources: Resources) -> None:
        super().__init__(account, settings, resources)
        self._api: messages_api.MessagesApi | sms_api.SmsApi
        if settings.api == "sms":
            self._api, self.default_base_url = sms_api.SmsApi(settings), sms_api.HOST
        else:
            self._api, self.default_base_url = messages_api.MessagesApi(settings), messages_api.HOST

    async def open(self) -> None:
        """Parse the private key. Raises MissingCredential when it is none."""
        try:
            await self._api.open()
        except MissingCredential as error:
            raise MissingCredential(str(error), path=f"accounts.{self.account}") from None

    def secrets(self) -> Iterable[str]:
        yield from super().secrets()
        if self.settings.basic_credentials:
            yield basic(*self.settings.basic_credentials).removeprefix("Basic ")

    def redact(self, text: str) -> str:
        return super().redact(_MADE_CREDENTIALS.sub("***", text))

    def validate(self, message: Sms, /) -> None:
        if self.settings.api == "sms":
            self._refuse_beyond_text(message)
        problems = [*self._problems(message), *self._api.problems(message)]
        if problems:
            raise MessageError(f"{self.account}: Vonage cannot send this message: {'; '.join(problems)}")

    async def send(self, message: Sms, /) -> Accepted:
        headers, body = self._api.request(message, datetime.now(UTC))
        reply = await self.request(
            "POST", self._api.url, headers=headers, body=body, content_type=self._api.content_type
        )
        return self._api.read(self, message, reply)

    def check_webhook_head(self, head: WebhookRequest, /) -> bool:
        """Refuse what is not signed before its body is read; raises SignatureInvalid."""
        webhook.check_head(self.account, self.settings, head)
        return False

    def parse_webhook(self, request: WebhookRequest, /) -> list[Event]:
        """Read a status or an incoming message of either API; raises SignatureInvalid or PayloadInvalid."""
        return reports.read(self.account, webhook.verified(self.account, self.settings, request))

    async def check(self) -> CheckReport:
        """Read the account's balance, which the API key and secret may.

        A JWT or a signature is made, not tried: no request that sends nothing is known to take one.
        """
        credentials = self.settings.basic_credentials
        if not credentials:
            return CheckReport(ok=True, summary="the credentials are well formed; only sending a message tries them")
        url = f"{self.settings.base_url or sms_api.HOST}/account/get-balance"
        reply = await self.ask("GET", url, headers={"Authorization": basic(*credentials)})
        if reply.status != 200:
            raise refusal(self, None, reply)
        balance = reply.json_object().get("value")
        if balance is None:
            return CheckReport(ok=False, summary=f"{url} answered without a balance; check base_url")
        return CheckReport(ok=True, summary="api_key and api_secret work", details={"balance": str(balance)})

    def _refuse_beyond_text(self, sms: Sms) -> None:
        """Refuse what only the Messages API can carry; `capabilities` are one set for both APIs."""
        beyond = [name for name, used in (("media", sms.media), ("whatsapp", sms.channel == "whatsapp")) if used]
        if not beyond:
            return
        text = f"{self.account}: Vonage's SMS API cannot send {' and '.join(beyond)}"
        if self.settings.unsupported == "error":
            advice = 'nothing was sent; use an account with api = "messages"'
            raise UnsupportedFeature(f"{text}; {advice}", feature=beyond[0], provider=self.settings.provider)
        self.log.warning("%s; the message goes without", text)

    def _problems(self, sms: Sms) -> Iterator[str]:
        if not sms.from_:
            yield "it has no sender; set `from` on the message or the account"
        if sms.expires_at and sms.expires_at <= datetime.now(UTC):
            yield "expires_at is past"
