"""SendGrid's refusals -> postroom's errors.

| status | said | error | source |
|---|---|---|---|
| 400 | errors[].field is a recipient | RecipientsRefused | twilio.com/docs/sendgrid/api-reference/mail-send/errors |
| 400 | anything else | MessageRejected | same |
| 401 | "Maximum credits exceeded" | QuotaExhausted | support.sendgrid.com 18322114821403 |
| 401 | anything else (key, scope) | AuthenticationFailed | same |
| 403 | sender identity, permission | AuthenticationFailed | same |
| 404 | any | MessageRejected, the whole account: base_url is wrong | RFC 9110 section 15.5.5 |
| 413 | any | MessageRejected | twilio.com/docs/sendgrid/api-reference/mail-send/limitations |
| 429 | X-RateLimit-Reset is when to go on | RateLimited | twilio.com/docs/sendgrid, "Rate limits" |
| 502, 504 | any | OutcomeUnknown | RFC 9110 sections 15.6.3, 15.6.5: a gateway had passed it on |
| other 5xx | any | ProviderUnavailable | support.sendgrid.com 18322114821403 |
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

from postroom.errors import DeliveryError, MessageRejected, QuotaExhausted, RecipientsRefused, Scope

if TYPE_CHECKING:
    from postroom.plugin.http import HttpTransport, Reply

_RECIPIENT_FIELD = re.compile(r"personalizations\.\d+\.(to|cc|bcc)\.\d+")
_PERSONALIZATION = re.compile(r"personalizations\.(\d+)")


def refusal(transport: HttpTransport[Any, Any], reply: Reply) -> DeliveryError:
    """Return the error an answer stands for."""
    told = said(reply)
    kind: type[DeliveryError] | None = None
    scope: Scope | None = None
    advice: str | None = None
    if reply.status == 400 and _all_recipients(reply):
        kind = RecipientsRefused
    elif reply.status == 401 and "credits exceeded" in told.lower():
        kind = QuotaExhausted
    elif reply.status == 404:
        kind, scope, advice = MessageRejected, Scope.ACCOUNT, "nothing was sent, check base_url and region"
    return transport.failure(
        reply, detail=told, kind=kind, scope=scope, advice=advice, retry_after=_rate_limit_reset(reply)
    )


def said(reply: Reply) -> str:
    """Return what SendGrid said: the message of each error with the field it is about."""
    texts = [
        f"{error['message']} ({error['field']})" if error.get("field") else str(error["message"])
        for error in _errors(reply)
    ]
    return "; ".join(texts) or reply.body[:200].decode(errors="replace")


def blamed_personalizations(reply: Reply) -> set[int]:
    """Return the personalizations a refusal names, by their number in the call."""
    found = (_PERSONALIZATION.search(f"{error.get('field') or ''} {error['message']}") for error in _errors(reply))
    return {int(match[1]) for match in found if match}


def _all_recipients(reply: Reply) -> bool:
    fields = [str(error.get("field") or "") for error in _errors(reply)]
    return bool(fields) and all(_RECIPIENT_FIELD.match(field) for field in fields)


def _errors(reply: Reply) -> list[dict[str, Any]]:
    found = reply.json_object().get("errors")
    if not isinstance(found, list):
        return []
    return [error for error in found if isinstance(error, dict) and error.get("message")]


def _rate_limit_reset(reply: Reply) -> float | None:
    """Seconds until X-RateLimit-Reset, a Unix time; Retry-After is used when it is there."""
    reset = reply.headers.get("X-RateLimit-Reset", "")
    if reply.status != 429 or reply.retry_after is not None or not reset.isdecimal():
        return None
    return max(0.0, int(reset) - time.time())
