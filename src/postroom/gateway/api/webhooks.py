"""`/v1/webhooks/{account}`: webhooks of providers, with delivery reports and the replies people send."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from starlette.responses import Response

from postroom.errors import PayloadInvalid, PostroomError, ProviderNotFound, SignatureInvalid, WebhookError
from postroom.gateway.http.errors import UNAVAILABLE, ApiError, bad_request
from postroom.gateway.http.requests import headers_of, state_of
from postroom.plugin import WebhookRequest

if TYPE_CHECKING:
    from starlette.requests import Request

    from postroom.client import Postroom
    from postroom.config.gateway import GatewaySettings
    from postroom.gateway.http.body import BodyReader

_log = logging.getLogger("postroom.gateway")

THANKS = Response(b"<Response/>", 200, media_type="text/xml")
"""What every provider takes for a yes.

Vonage repeats what is not answered 200 (api.support.vonage.com, article 360028543292); Twilio takes text for an SMS
to send back, and anything else that is not XML for an error (twilio.com/docs/api/errors/12300).
"""


class WebhooksApi:
    """Takes in reports. Who may report is shown by the signature, which the account's provider checks."""

    def __init__(self, room: Postroom, settings: GatewaySettings, reader: BodyReader) -> None:
        self._room = room
        self._settings = settings
        self._reader = reader

    async def receive(self, request: Request) -> Response:
        """Take in a provider's report."""
        account = request.path_params["account"]
        headers = headers_of(request.scope)
        head = WebhookRequest(method=request.method, url=self._public_url(request), headers=headers, body=b"")
        report = replace(head, body=await self._body(request, account, head))
        try:
            events = await self._room.receive(account, report)
        except PayloadInvalid as error:
            raise bad_request(error.code, str(error)) from None
        except WebhookError as error:
            raise _not_taken(account, error) from None
        except PostroomError as error:  # whoever asks has shown no key, so only the log says what is wrong
            _log.error("a report for account %r could not be taken in: %s", account, error)
            raise ApiError(
                503, error.code, "The report cannot be taken in now; send it again.", headers=UNAVAILABLE
            ) from None
        state_of(request.scope).messages = len(events)
        return THANKS

    async def _body(self, request: Request, account: str, head: WebhookRequest) -> bytes:
        """Read the body of what may be the provider's. Raises ApiError.

        Of all others it is read too, and nothing of it kept: strangers get one answer, after the same time, whether
        there is no such account, or only no signature.
        """
        try:
            proven = await self._room.check_webhook_head(account, head)
        except PostroomError as error:
            await self._reader.strangers_body(request, keep=False)
            raise _not_taken(account, error) from None
        return await (self._reader.body(request) if proven else self._reader.strangers_body(request, keep=True))

    def _public_url(self, request: Request) -> str:
        """Return the address the provider called, which some of them sign."""
        if self._settings.public_url is None:
            return str(request.url)
        query = f"?{request.url.query}" if request.url.query else ""
        return f"{self._settings.public_url.rstrip('/')}{request.url.path}{query}"


def _not_taken(account: str, error: PostroomError) -> ApiError:
    """Return the one answer to whoever has proved nothing; only the log says what is wrong."""
    level = logging.WARNING if isinstance(error, (WebhookError, ProviderNotFound)) else logging.ERROR
    _log.log(level, "a report for account %r was refused: %s", account, error)
    return ApiError(403, SignatureInvalid.code, "No account takes this report as it is signed; nothing was kept.")
