"""SMS, MMS and WhatsApp through Vonage: the Messages API or the SMS API, whichever the account chose."""

from __future__ import annotations

from typing import TYPE_CHECKING

from postroom.errors import MessageError, UnsupportedFeature
from postroom.plugin import Capabilities, CheckReport
from postroom.plugin.http import HttpSmsTransport
from postroom_vonage import messages_api, sms_api
from postroom_vonage.auth import basic
from postroom_vonage.errors import http_refusal
from postroom_vonage.options import fields_for
from postroom_vonage.settings import VonageSettings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from postroom.messages import Sms
    from postroom.receipts import Accepted


class VonageSms(HttpSmsTransport[VonageSettings]):
    """One request a recipient."""

    settings_model = VonageSettings
    capabilities = Capabilities(features=frozenset({"media", "whatsapp", "provider_options"}), max_recipients=1)

    @property
    def base_url(self) -> str:
        return self.settings.base_url or (sms_api.HOST if self.settings.api == "sms" else messages_api.HOST)

    async def open(self) -> None:
        uses_sms_api = self.settings.api == "sms"
        self._api = sms_api.SmsApi(self.settings) if uses_sms_api else messages_api.MessagesApi(self.settings)
        await self._api.open()

    def secrets(self) -> Iterable[str]:
        yield from super().secrets()
        if isinstance(self._api, messages_api.MessagesApi):
            yield self._api.authorization().partition(" ")[2]
        if self.settings.api_key and self.settings.api_secret:
            yield basic(self.settings.api_key, self.settings.api_secret.get_secret_value()).partition(" ")[2]

    def validate(self, sms: Sms, /) -> None:
        if not sms.from_:
            raise MessageError(f"{self.account}: Vonage needs a sender; set from on the message or the account")
        if self.settings.api == "sms":
            self._check_for_sms_api(sms)
        else:
            self._check_for_messages_api(sms)

    async def send(self, sms: Sms, /) -> Accepted:
        """Hand over one message to one recipient. Raises DeliveryError."""
        headers, body, content_type = self._api.request(sms)
        reply = await self.request("POST", self._api.url, headers=headers, body=body, content_type=content_type)
        return self._api.read(self, sms, reply)

    async def check(self) -> CheckReport:
        """Read the account's balance, which only the API secret may; a JWT or signature is only made, not tried."""
        key, secret = self.settings.api_key, self.settings.api_secret
        if not (key and secret):
            return CheckReport(ok=True, summary="the credentials are well formed; only a message can try them")
        url = f"{self.settings.base_url or sms_api.HOST}/account/get-balance"
        reply = await self.request("GET", url, headers={"Authorization": basic(key, secret.get_secret_value())})
        if reply.status != 200:
            raise http_refusal(self, reply)
        balance = str(reply.json_object().get("value", "unknown"))
        return CheckReport(ok=True, summary="the credentials are accepted", details={"balance": balance})

    def _check_for_sms_api(self, sms: Sms) -> None:
        for feature, used in (("media", bool(sms.media)), ("whatsapp", sms.channel == "whatsapp")):
            if used:
                raise UnsupportedFeature(
                    f'{self.account}: Vonage\'s SMS API cannot send {feature}; use an account with api = "messages"',
                    feature=feature,
                    provider="vonage",
                )
        fields_for("sms-api", sms.provider_options)

    def _check_for_messages_api(self, sms: Sms) -> None:
        channel = messages_api.channel_of(sms)
        longest = messages_api.LONGEST_TEXT.get(channel)
        if longest and len(sms.body) > longest:
            raise MessageError(f"{self.account}: Vonage takes at most {longest} characters, this has {len(sms.body)}")
        if len(sms.media) > 1:
            raise MessageError(f"{self.account}: Vonage takes one media URL a message; send several messages")
        fields_for(channel, sms.provider_options)
