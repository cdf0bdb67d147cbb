"""One-click unsubscribe (RFC 8058): the headers of marketing mail, and the page they lead to."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING, Final

from starlette.responses import HTMLResponse

from postroom.gateway.http.errors import ApiError
from postroom.outbox.records import Suppression
from postroom.outbox.suppression import normalized
from postroom.outcomes import SuppressionReason
from postroom.receipts import Channel

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from postroom.messages import Email
    from postroom.outbox.suppression import SuppressionList

_MAC = 16
"""Bytes of the signature: nobody guesses one of 2^128."""

_TIME = 5
"""Bytes of the time at which a link was made, in seconds since 1970."""

_DATED = b"unsubscribe, with its time "
_UNDATED = b"unsubscribe "
"""What is signed with a token's text, so that none of one form is one of the other; earlier versions wrote no time."""

_HEADERS: Final = {
    "content-security-policy": "default-src 'none'; form-action 'self'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
}


class UnsubscribeLinks:
    """Makes links that unsubscribe one recipient, signed with `secret`; without a public address there are none.

    They work for `within` seconds, or for ever, as those of earlier versions do, which hold no time. `clock` gives
    seconds since 1970.
    """

    def __init__(
        self,
        secret: bytes,
        public_url: str | None,
        within: float | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._secret = secret
        self._public_url = public_url.rstrip("/") if public_url else None
        self._within = within
        self._clock = clock

    def add_to(self, message: Email) -> Email:
        """Return marketing mail with the headers mail programs make their button of.

        A link unsubscribes one person, so mail to several gets none; neither does mail that brings its own.
        """
        given = {name.lower() for name in message.headers}
        single = message.category == "marketing" and len(message.recipients) == 1
        if not single or self._public_url is None or "list-unsubscribe" in given:
            return message
        link = f"{self._public_url}/v1/unsubscribe/{self._token(message.recipients[0])}"
        headers = {"List-Unsubscribe": f"<{link}>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}
        return message.stamped(headers={**message.headers, **headers})

    def address_in(self, token: str) -> str | None:
        """Return whom a token of `add_to` is for; None when it is none of ours, or its time is over."""
        try:
            signed = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        except (binascii.Error, ValueError):
            return None
        signature, text = signed[:_MAC], signed[_MAC:]
        if hmac.compare_digest(signature, self._signature(_DATED, text)):
            return text[_TIME:].decode() if self._works(text[:_TIME]) else None
        if text and hmac.compare_digest(signature, self._signature(_UNDATED, text)):
            return text.decode()
        return None

    def _works(self, made_at: bytes) -> bool:
        return self._within is None or self._clock() <= int.from_bytes(made_at) + self._within

    def _token(self, address: str) -> str:
        text = int(self._clock()).to_bytes(_TIME) + address.encode()
        return base64.urlsafe_b64encode(self._signature(_DATED, text) + text).decode().rstrip("=")

    def _signature(self, form: bytes, text: bytes) -> bytes:
        return hmac.digest(self._secret, form + text, hashlib.sha256)[:_MAC]


class UnsubscribeApi:
    """The page behind the links."""

    def __init__(self, suppressions: SuppressionList, links: UnsubscribeLinks) -> None:
        self._suppressions = suppressions
        self._links = links

    async def ask(self, request: Request) -> Response:
        """Ask whether somebody wants to unsubscribe; mail filters open links, so opening it changes nothing."""
        address = self._address(request)
        form = '<form method="post"><button>Unsubscribe</button></form>'
        return _page(f"<p>No more marketing mail to {escape(address)}?</p>{form}")

    async def unsubscribe(self, request: Request) -> Response:
        """Unsubscribe one recipient from marketing mail."""
        address = self._address(request)
        await self._suppressions.add(
            Suppression(
                channel=Channel.EMAIL,
                address=normalized(Channel.EMAIL, address),
                category="marketing",
                reason=SuppressionReason.UNSUBSCRIBED,
                since=datetime.now(UTC),
            )
        )
        return _page(f"<p>{escape(address)} gets no more marketing mail.</p>")

    def _address(self, request: Request) -> str:
        address = self._links.address_in(request.path_params["token"])
        if address is None:
            raise ApiError(
                404, "not_found", "This link is not one of ours, was cut, or is too old; open it from a newer mail."
            )
        return address


def _page(body: str) -> Response:
    head = '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="robots" content="noindex">'
    return HTMLResponse(f"{head}<title>Unsubscribe</title>{body}</html>", headers=_HEADERS)
