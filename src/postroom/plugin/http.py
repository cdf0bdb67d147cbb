"""Base of HTTP transports: one request, and the right outcome by the point where it broke."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from pydantic_core import from_json
from yarl import URL

from postroom.errors import (
    AuthenticationFailed,
    DeliveryError,
    MessageRejected,
    Outcome,
    OutcomeUnknown,
    ProviderUnavailable,
    ProviderUnreachable,
    QuotaExhausted,
    RateLimited,
    RecipientsRefused,
    Scope,
    UnexpectedResponse,
)
from postroom.messages import Email, Sms
from postroom.plugin.cancellation import mark_cancelled
from postroom.plugin.exchange import Exchange, in_words, read_bounded
from postroom.plugin.http_session import open_session
from postroom.plugin.redaction import redacted
from postroom.plugin.settings import HttpAccountSettings
from postroom.plugin.time_limit import limit_from_now
from postroom.plugin.transport import Capabilities, MessageT, Transport
from postroom.receipts import Channel

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from multidict import CIMultiDictProxy

    from postroom.outcomes import SuppressionReason

HttpSettingsT = TypeVar("HttpSettingsT", bound=HttpAccountSettings)

FORM = "application/x-www-form-urlencoded"

LARGEST_ANSWER = 1_048_576
"""Bytes of an answer that are read; no provider's answer to a send comes near."""

MOST_HIDDEN = 20
"""Tokens that `hide` was given last and `redact` takes out."""


@dataclass(frozen=True, slots=True)
class HttpReply:
    """A provider's whole response to one request."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes
    handed_over: bool = True
    """False for what `ask` returns: whatever it says, no message went out."""

    def json(self) -> Any:
        """The body as JSON, or None when it is not JSON."""
        try:
            return from_json(self.body)
        except ValueError:
            return None

    def json_object(self) -> dict[str, Any]:
        """The body as a JSON object; empty when it is anything else."""
        found = self.json()
        return found if isinstance(found, dict) else {}

    @property
    def retry_after(self) -> float | None:
        """Seconds of the Retry-After header, which is a number or a date (RFC 9110 section 10.2.3)."""
        return read_retry_after(self.headers.get("Retry-After"))


class HttpTransport(Transport[HttpSettingsT, MessageT]):
    """Base of HTTP transports: `request` does one exchange and raises what broke as a DeliveryError."""

    keeps_timeout = True
    default_base_url: str = ""

    @property
    def base_url(self) -> str:
        return self.settings.base_url or self.default_base_url

    @cached_property
    def _proxies(self) -> dict[tuple[str, str], str | None]:
        return {}

    @cached_property
    def _hidden(self) -> deque[str]:
        return deque(maxlen=MOST_HIDDEN)

    def hide(self, secret: str) -> None:
        """Take `secret` out of all that is shown from now on: a token, for one. The last 20 are kept."""
        if secret not in self._hidden:
            self._hidden.append(secret)

    def secrets(self) -> Iterable[str]:
        """The secret texts that must not appear in anything shown; override to add derived ones."""
        return self.settings.secret_texts()

    def redact(self, text: str) -> str:
        """Return `text` shortened, on one line, with this account's secrets removed."""
        return redacted(text, [*self.secrets(), *self._hidden])

    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes = b"", content_type: str = ""
    ) -> HttpReply:
        """Hand a message over: one request, and its whole answer, whatever its status. Redirects are not followed.

        Raises ProviderUnreachable when the request was never handed over, OutcomeUnknown when it was and no
        whole answer came within `settings.timeout`, which all exchanges of one attempt have together.
        """
        return await self._exchanged(method, url, headers, Exchange(body, content_type))

    async def ask(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes = b"", content_type: str = ""
    ) -> HttpReply:
        """Do an exchange that hands no message over: a token or an upload before the send, `check`, `reconcile`.

        Like `request`, but nothing of it can make an outcome unknown: whatever broke is a ProviderUnreachable, and so
        is never unknown what `failure` makes of its reply.
        """
        return await self._exchanged(method, url, headers, Exchange(body, content_type, carries_message=False))

    async def _exchanged(self, method: str, url: str, headers: Mapping[str, str], exchange: Exchange) -> HttpReply:
        try:
            async with limit_from_now(self.settings.timeout):
                return await self._exchange(method, url, headers, exchange)
        except TimeoutError as error:
            raise self._broken(exchange, url, f"no answer within {self.settings.timeout:g} s") from error
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError) as error:
            raise self._untrusted(error, url) from error
        except aiohttp.ClientHttpProxyError as error:
            # its text holds the proxy's URL, credentials and all
            raise self._broken(exchange, url, f"the proxy answered {error.status}") from None
        except (aiohttp.ClientError, OSError) as error:
            raise self._broken(exchange, url, in_words(error)) from error
        except asyncio.CancelledError as cancelled:
            when = "after" if exchange.handed_over else "before"
            what = f"{self.account}: cancelled {when} the message was handed over"
            mark_cancelled(cancelled, what, handed_over=exchange.handed_over)
            raise

    async def _exchange(self, method: str, url: str, headers: Mapping[str, str], exchange: Exchange) -> HttpReply:
        session = self.resources.shared(open_session)
        async with session.request(
            method,
            url,
            data=exchange.body,
            headers=headers,
            middlewares=(exchange,),
            allow_redirects=False,
            proxy=self._proxy_for(url),
        ) as response:
            body = await read_bounded(response, LARGEST_ANSWER)
            return HttpReply(response.status, response.headers, body, exchange.carries_message)

    def _proxy_for(self, url: str) -> str | None:
        """The proxy of the address that is called, which may be another than `base_url`; looked up once for each."""
        parts = urlsplit(url)
        place = (parts.scheme, parts.netloc)
        if place not in self._proxies:
            self._proxies[place] = environment_proxy(url)
        return self._proxies[place]

    def _broken(self, exchange: Exchange, url: str, why: str) -> DeliveryError:
        why = self.redact(why)
        if exchange.handed_over:
            return OutcomeUnknown(
                f"{self.account}: the request was handed over, then {why}; the message may have been sent, so "
                "look for it at the provider before sending it again",
                detail=why,
            )
        return ProviderUnreachable(
            f"{self.account}: cannot reach {_origin(url)} ({why}); nothing was sent, try again later or check "
            "the network and base_url",
            detail=why,
        )

    def _untrusted(self, error: aiohttp.ClientConnectorError, url: str) -> DeliveryError:
        why = self.redact(in_words(error))
        return ProviderUnreachable(
            f"{self.account}: no trusted TLS connection to {_origin(url)} ({why}); nothing was sent, set "
            "SSL_CERT_FILE if the server has a private certificate authority",
            outcome=Outcome.PERMANENT,
            detail=why,
        )

    def failure(
        self,
        reply: HttpReply,
        *,
        code: str | None = None,
        detail: str = "",
        kind: type[DeliveryError] | None = None,
        advice: str | None = None,
        outcome: Outcome | None = None,
        scope: Scope | None = None,
        retry_after: float | None = None,
        request_id: str | None = None,
        suppress: SuppressionReason | None = None,
    ) -> DeliveryError:
        """Return the error for an answer that is not a yes.

        `kind`, `outcome`, `scope` come from the provider's error table; without them the HTTP status decides.
        `detail` is the provider's own text, `code` its own error code, `advice` the next step for a person.
        `suppress` is why the one recipient it was for must not be written to again. An answer to `ask` is never
        unknown: what would be is a ProviderUnavailable, and transient.
        """
        kind = kind or error_for_status(reply.status)
        redirected = kind is UnexpectedResponse and 300 <= reply.status < 400
        if not reply.handed_over:
            kind = ProviderUnavailable if kind.default_outcome is Outcome.UNKNOWN else kind
            outcome = Outcome.TRANSIENT if outcome is Outcome.UNKNOWN else outcome
        if redirected:
            outcome, scope = Outcome.PERMANENT, Scope.ACCOUNT
            advice = "redirects are not followed, so nothing was sent; correct base_url"
        said = self.redact(detail) or f"HTTP {reply.status}"
        code = self.redact(code) if code else None
        answered = f"{reply.status} {code}" if code else f"{reply.status}"
        return kind(
            f"{self.account}: {self.settings.provider} answered {answered}: {said}; {advice or _advice(kind)}",
            outcome=outcome,
            scope=scope,
            provider_code=code,
            status=reply.status,
            retry_after=retry_after if retry_after is not None else reply.retry_after,
            request_id=self.redact(request_id) if request_id else None,
            detail=said,
            suppress=suppress,
        )


class HttpEmailTransport(HttpTransport[HttpSettingsT, Email]):
    """Carries e-mail over a provider's HTTP API."""

    channel = Channel.EMAIL


class HttpSmsTransport(HttpTransport[HttpSettingsT, Sms]):
    """Carries SMS over a provider's HTTP API; one recipient per message unless capabilities say otherwise."""

    channel = Channel.SMS
    capabilities = Capabilities(max_recipients=1)


def error_for_status(status: int) -> type[DeliveryError]:
    """Return the error an HTTP status stands for where a provider says nothing more exact.

    502 and 504 come from a gateway that had passed the request on (RFC 9110 sections 15.6.3 and 15.6.5), so
    what became of it is unknown.
    """
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status >= 500:
        return ProviderUnavailable
    return MessageRejected if status >= 400 else UnexpectedResponse


def form_body(fields: Mapping[str, str | list[str]]) -> bytes:
    """Return `fields` as the body of a form (FORM), a list as one field for each item.

    A form is encoded like a query string, and yarl does that in C: 2 µs where `urlencode` takes 8.
    """
    return URL.build(query=fields).raw_query_string.encode()


def read_retry_after(value: str | None) -> float | None:
    """Return the seconds a Retry-After value asks for, never negative; None when there is none to read."""
    if not value:
        return None
    if re.fullmatch(r"\s*\d+(\.\d+)?\s*", value):
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


_BY_STATUS: dict[int, type[DeliveryError]] = {
    401: AuthenticationFailed,
    408: ProviderUnavailable,
    425: ProviderUnavailable,
    402: QuotaExhausted,
    403: AuthenticationFailed,
    429: RateLimited,
    502: OutcomeUnknown,
    504: OutcomeUnknown,
}

_LATER = "it was not accepted, try again later"
_ADVICE: dict[type[DeliveryError], str] = {
    AuthenticationFailed: "nothing was sent, check the account's credentials and what they may do",
    MessageRejected: "nothing was sent, change the message before sending it again",
    OutcomeUnknown: "it may have been sent, so look for it at the provider before sending it again",
    ProviderUnavailable: _LATER,
    QuotaExhausted: "nothing was sent, add credit or raise the account's quota",
    RateLimited: _LATER,
    RecipientsRefused: "nothing was sent, check the recipient",
    UnexpectedResponse: "look for the message at the provider before sending it again, and check base_url",
}


def _advice(kind: type[DeliveryError]) -> str:
    return next((_ADVICE[base] for base in kind.__mro__ if base in _ADVICE), _LATER)


def environment_proxy(url: str) -> str | None:
    """Return the proxy that HTTPS_PROXY, HTTP_PROXY and NO_PROXY name for `url`."""
    parts = urlsplit(url)
    if not parts.hostname or proxy_bypass(parts.hostname):
        return None
    return getproxies().get(parts.scheme)


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
