"""Mistakes that plugins make, one each in an otherwise right plugin; first the ten that matter most."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from postroom_right import RightSettings, RightSms

from postroom.errors import DeliveryError, OutcomeUnknown, ProviderUnreachable, RateLimited
from postroom.events import Event
from postroom.messages import Sms
from postroom.plugin import UnknownAttempt, WebhookRequest, hookimpl
from postroom.plugin.http import HttpReply
from postroom.receipts import Accepted, NotTaken


class Swallows(RightSms):
    """Swallows errors."""

    async def send(self, sms: Sms, /) -> Accepted:
        try:
            return await super().send(sms)
        except DeliveryError:
            return Accepted()


class Retries(RightSms):
    """Retries by itself."""

    async def send(self, sms: Sms, /) -> Accepted:
        try:
            return await super().send(sms)
        except OutcomeUnknown:
            return await super().send(sms)


class Leaks(RightSms):
    """Leaks its token in its repr."""

    def __repr__(self) -> str:
        return f"<RightSms {self.settings.api_key.get_secret_value()}>"


class Blocks(RightSms):
    """Blocks the event loop."""

    async def send(self, sms: Sms, /) -> Accepted:
        time.sleep(0.25)
        return await super().send(sms)


class Believes(RightSms):
    """Reports accepted on an empty answer."""

    def accepted(self, reply: HttpReply) -> Accepted:
        return Accepted() if reply.status == 200 and not reply.body else super().accepted(reply)


class Impatient(RightSms):
    """Loses Retry-After."""

    async def send(self, sms: Sms, /) -> Accepted:
        try:
            return await super().send(sms)
        except RateLimited as error:
            raise RateLimited(str(error), status=error.status) from error


class Drops(RightSms):
    """Drops a field silently."""

    def payload(self, sms: Sms) -> dict[str, Any]:
        return {name: value for name, value in super().payload(sms).items() if name != "media"}


class Shuffles(RightSms):
    """Answers a batch in the order in which its messages were done."""

    async def send_many(self, batch: Any, /) -> list[Accepted | DeliveryError]:
        return [await done for done in asyncio.as_completed([self.one(sms) for sms in batch])]


class Guesses(RightSms):
    """Takes a connection that closed after the request was read for one that was never made."""

    async def send(self, sms: Sms, /) -> Accepted:
        try:
            return await super().send(sms)
        except OutcomeUnknown as error:
            if error.status is None:
                raise ProviderUnreachable(str(error)) from error
            raise


class Trusts(RightSms):
    """Accepts an unsigned webhook."""

    def parse_webhook(self, request: WebhookRequest, /) -> list[Event]:
        return super().parse_webhook(request) if "x-signature" in request.headers else self.read(request.body)


class Confides(RightSms):
    """Logs its headers, for the developer's eyes only."""

    async def send(self, sms: Sms, /) -> Accepted:
        self.log.debug("headers %s", self._headers())
        return await super().send(sms)


class Gossips(RightSms):
    """Logs what it sends."""

    async def send(self, sms: Sms, /) -> Accepted:
        self.log.debug("sending %s", sms.body)
        return await super().send(sms)


class Abandons(RightSms):
    """Lets one refusal end the whole batch."""

    async def send_many(self, batch: Any, /) -> list[Accepted | DeliveryError]:
        return [await self.send(sms) for sms in batch]


class Forgets(RightSms):
    """Declares deduplicates, and sends no key."""

    def stamp(self, sms: Sms) -> dict[str, str]:
        return {}


class Assumes(RightSms):
    """Takes a lookup that failed for a message that was not taken."""

    async def reconcile(self, attempt: UnknownAttempt[Sms], /) -> Accepted | NotTaken | None:
        try:
            return await super().reconcile(attempt)
        except DeliveryError:
            return NotTaken()


class Hurries(RightSms):
    """Dates events by its own clock."""

    def event(self, given: dict[str, Any]) -> Event:
        return super().event({**given, "at": time.time()})


class Shrugs(RightSms):
    """Ends a cancelled send as if nothing had been asked."""

    async def send(self, sms: Sms, /) -> Accepted:
        try:
            return await super().send(sms)
        except asyncio.CancelledError:
            return Accepted()


class Waits(RightSms):
    """Says that it keeps the timeout, and waits as long as it takes."""

    async def request(self, *arguments: Any, **named: Any) -> HttpReply:
        self.settings.__dict__["timeout"] = 60
        return await super().request(*arguments, **named)


class Promises(RightSms):
    """Says that it asks whether a message may still go out, and does not."""

    confirms = True


class Confuses(RightSms):
    """Keeps the answer on the transport until it is asked for."""

    async def send(self, sms: Sms, /) -> Accepted:
        self.answer = await super().send(sms)
        await asyncio.sleep(0.05)
        return self.answer


class Excused(Drops):
    """Says what it cannot."""

    deviations = {"test_a_feature_arrives_if_declared_and_is_refused_if_not[media]": "Right turns media into links"}


class Stale(RightSms):
    """Says that it cannot what it can."""

    deviations = {"test_the_timeout_is_kept": "Right is slow"}


class Plugin:
    """One provider, as an entry point names it."""

    def __init__(self, name: str, base: type[RightSms]) -> None:
        settings = type("Settings", (RightSettings,), {"__annotations__": {"provider": "str"}, "provider": name})
        self.transport = type(base.__name__, (base,), {"settings_model": settings, "__module__": __name__})

    @hookimpl
    def postroom_sms_transport(self) -> type[RightSms]:
        return self.transport


class Careless(RightSms):
    """Takes any setting."""


PLUGINS = {
    mistake.__name__.lower(): Plugin(f"wrong-{mistake.__name__.lower()}", mistake)
    for mistake in (*RightSms.__subclasses__(), Excused)
}
PLUGINS["careless"].transport.settings_model.model_config["extra"] = "ignore"
PLUGINS["careless"].transport.settings_model.model_rebuild(force=True)
globals().update(PLUGINS)
