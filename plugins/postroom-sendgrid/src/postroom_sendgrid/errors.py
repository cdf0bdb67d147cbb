"""Error mapping: SendGrid's error responses -> postroom's errors.

| status | said | error | source |
|---|---|---|---|
| 400 | every fault is about a recipient | RecipientsRefused | [errors] |
| 400 | anything else | MessageRejected | [errors] |
| 401 | "Maximum credits exceeded" | QuotaExhausted | [4xx] |
| 401 | "... not authorized ..." | AuthenticationFailed: the key lacks a scope | [4xx] |
| 401 | anything else | AuthenticationFailed: the key is wrong | [4xx] |
| 403 | temporarily blocked after repeated bad requests | RateLimited | [responses] |
| 403 | anything else | AuthenticationFailed: sender identity or permission | [responses] |
| 404, 405 | any | MessageRejected, the whole account: base_url is wrong | RFC 9110 sections 15.5.5, 15.5.6 |
| 413 | any | MessageRejected | [limitations] |
| 429 | X-RateLimit-Reset is when to go on, in Unix seconds | RateLimited | [rate-limits] |
| 502, 504 | any | OutcomeUnknown | RFC 9110 sections 15.6.3, 15.6.5: a gateway had passed it on |
| other 5xx | any | ProviderUnavailable | [responses] |

[errors], [limitations]: twilio.com/docs/sendgrid/api-reference/mail-send/...; [responses], [rate-limits]:
twilio.com/docs/sendgrid/api-reference/how-to-use-the-sendgrid-v3-api/...; [4xx]: support.sendgrid.com, article
18322114821403, "4XX API Errors". SendGrid has no error codes of its own, so status and words must do.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from postroom.errors import (
    AuthenticationFailed,
    DeliveryError,
    MessageRejected,
    QuotaExhausted,
    RateLimited,
    RecipientsRefused,
    Scope,
)
from postroom.receipts import RecipientResult
from postroom_sendgrid.payload import personalizations, wire_address

if TYPE_CHECKING:
    from collections.abc import Sequence

    from postroom.messages import Email
    from postroom.plugin.http import HttpReply, HttpTransport

_PERSONALIZATION = re.compile(r"personalizations\.([0-9]{1,6})\b")
_RECIPIENT = re.compile(r"personalizations\.[0-9]{1,6}\.(?P<kind>to|cc|bcc)\b(?:\.(?P<place>[0-9]{1,6})\b)?")
_TEMPORARY_BLOCK = re.compile(r"temporar|repeated bad|too many bad", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing SendGrid finds wrong; `personalization` is the number of the one it names, if any."""

    message: str
    field: str
    personalization: int | None

    def __str__(self) -> str:
        return f"{self.message} ({self.field})" if self.field else self.message


class Meaning(NamedTuple):
    """What a refusal stands for; None where the HTTP status says it all."""

    kind: type[DeliveryError] | None = None
    scope: Scope | None = None
    advice: str | None = None


def read_faults(reply: HttpReply) -> list[Fault]:
    """Return the `errors` of an answer; empty when it is not of SendGrid's form."""
    found = reply.json_object().get("errors")
    entries = [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []
    return [_fault(str(entry["message"]), str(entry.get("field") or "")) for entry in entries if entry.get("message")]


def refusal(
    transport: HttpTransport[Any, Any], reply: HttpReply, faults: Sequence[Fault], email: Email | None = None
) -> DeliveryError:
    """Return the error an answer stands for; `faults` are those of `email`, where it is about one."""
    said = "; ".join(map(str, faults)) or reply.body[:200].decode(errors="replace")
    meaning = _meaning(reply.status, said, faults)
    error = transport.failure(
        reply,
        detail=said,
        kind=meaning.kind,
        scope=meaning.scope,
        advice=meaning.advice,
        retry_after=_rate_limit_reset(reply),
    )
    if isinstance(error, RecipientsRefused) and email is not None:
        redacted = [replace(fault, message=transport.redact(fault.message)) for fault in faults]
        return error.with_recipients(_results(email, redacted, error))
    return error


def _fault(message: str, field: str) -> Fault:
    """Some faults name the personalization in their words alone."""
    named = _PERSONALIZATION.search(field) or _PERSONALIZATION.search(message)
    return Fault(message, field, int(named[1]) if named else None)


def _meaning(status: int, said: str, faults: Sequence[Fault]) -> Meaning:
    if status == 400 and faults and all(_RECIPIENT.match(fault.field) for fault in faults):
        return Meaning(RecipientsRefused)
    if status == 401:
        return _unauthorized(said.lower())
    if status == 403 and _TEMPORARY_BLOCK.search(said):
        return Meaning(RateLimited, advice="nothing was sent, correct what was refused before and try again later")
    if status == 403:
        advice = "nothing was sent, verify the sender identity of `from` and what the key may do"
        return Meaning(AuthenticationFailed, advice=advice)
    if status in {404, 405}:
        return Meaning(MessageRejected, Scope.ACCOUNT, "nothing was sent, check base_url")
    return Meaning()


def _unauthorized(said: str) -> Meaning:
    if "credits exceeded" in said:
        return Meaning(QuotaExhausted, advice="nothing was sent, wait for the plan's next period or raise the plan")
    if "not authorized" in said:
        return Meaning(AuthenticationFailed, advice="nothing was sent, give the key the scope mail.send")
    return Meaning(AuthenticationFailed, advice="nothing was sent, check api_key, and that region is the key's")


_SHARED_THE_MESSAGE = {
    "code": MessageRejected.code,
    "detail": "not sent: SendGrid refused another recipient of the message",
}


def _results(email: Email, faults: Sequence[Fault], error: DeliveryError) -> tuple[RecipientResult, ...]:
    """Say for each recipient whether it was at fault, or only shared a message with one that was."""
    blamed = _blamed_addresses(email, faults)
    named = (*email.to, *email.cc, *email.bcc)
    details = {address.email: blamed.get(wire_address(address).lower()) for address in named}
    return tuple(
        RecipientResult.failed(recipient, error).model_copy(
            update={"detail": details[recipient]} if details[recipient] else _SHARED_THE_MESSAGE
        )
        for recipient in email.recipients
    )


def _blamed_addresses(email: Email, faults: Sequence[Fault]) -> dict[str, str]:
    """The addresses that `faults` point at -> what is wrong; their numbers count from the message's own first."""
    envelopes, blamed = personalizations(email), dict[str, str]()
    for fault in faults:
        place = _RECIPIENT.match(fault.field)
        if place is None or fault.personalization is None or fault.personalization >= len(envelopes):
            continue
        group = envelopes[fault.personalization].get(place["kind"], [])
        chosen = group if place["place"] is None else group[int(place["place"]) :][:1]
        blamed |= {mailbox["email"].lower(): fault.message for mailbox in chosen}
    return blamed


def _rate_limit_reset(reply: HttpReply) -> float | None:
    """Seconds until X-RateLimit-Reset, a Unix time; Retry-After is used when it is there."""
    reset = reply.headers.get("X-RateLimit-Reset", "")
    if reply.status != 429 or reply.retry_after is not None or not re.fullmatch(r"[0-9]{1,12}", reset):
        return None
    return max(0.0, int(reset) - time.time())
