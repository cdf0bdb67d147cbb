"""Error mapping: Vonage's error codes -> postroom's errors.

Sources, by mark: [s] developer.vonage.com/api-errors/sms; [t] developer.vonage.com/messaging/sms/guides/
troubleshooting-sms; [o] older lists of those two, in clients of 2015 to 2019; [g] developer.vonage.com/api-errors
(generic errors); [m] developer.vonage.com/api-errors/messages; [c] the OpenAPI description of the Messages API 1.4.0.

[m] lists what status webhooks report later; the answer to a request takes its numbers from [c], and six of them mean
something else there (1000, 1060, 1100, 1110, 1140, 1150), as does 1010 in a 429 of Vonage's Java client's tests. So the
HTTP status speaks first, and a number counts only where both lists can be meant. A code that is in no table is
permanent and kept.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from postroom.errors import (
    AuthenticationFailed,
    DeliveryError,
    MessageRejected,
    Outcome,
    ProviderUnavailable,
    QuotaExhausted,
    RateLimited,
    RecipientsRefused,
    Scope,
    SuppressionReason,
)
from postroom.plugin.http import error_for_status
from postroom.receipts import RecipientResult

if TYPE_CHECKING:
    from collections.abc import Iterator

    from postroom.messages import Sms
    from postroom.plugin.http import HttpReply, HttpTransport


_CODE = re.compile(r"#([A-Za-z0-9\-]{1,40})$")
"""The end of a problem's `type`."""


class Meaning(NamedTuple):
    """One of our errors; the next step, outcome and scope are the error's own unless given.

    `suppress` is why the number must not be written to again.
    """

    kind: type[DeliveryError]
    advice: str | None = None
    outcome: Outcome | None = None
    scope: Scope | None = None
    suppress: SuppressionReason | None = None


_LATER = Meaning(ProviderUnavailable)
_FASTER_THAN_ALLOWED = Meaning(RateLimited, "nothing was sent, try again later or lower the account's rate")
_MESSAGE = Meaning(MessageRejected)
_RECIPIENT = Meaning(RecipientsRefused)
_AWAY = Meaning(RecipientsRefused, "the recipient cannot be reached now, try again later", outcome=Outcome.TRANSIENT)
_GONE = Meaning(
    RecipientsRefused, "nothing was sent, the number is no longer in use", suppress=SuppressionReason.BOUNCED
)
_OPTED_OUT = Meaning(
    RecipientsRefused,
    "nothing was sent, the recipient does not want messages from this sender",
    suppress=SuppressionReason.STOPPED,
)
_TRIAL = Meaning(
    RecipientsRefused, "nothing was sent, add the number to the test numbers in Vonage's dashboard or add credit"
)
_SENDER = Meaning(MessageRejected, "nothing was sent, check `from`: it must be a sender this country allows")
_CREDIT = Meaning(QuotaExhausted, "nothing was sent, add credit in Vonage's dashboard")
_CREDENTIALS = Meaning(AuthenticationFailed)
_CLOSED = Meaning(AuthenticationFailed, "nothing was sent, the account may not do this: ask Vonage's support")
_SIGNATURE = Meaning(AuthenticationFailed, "nothing was sent, check signature_secret and signature_method")
_CLOCK = Meaning(AuthenticationFailed, "nothing was sent, check this machine's clock and try again")
_ADDRESS = Meaning(MessageRejected, "nothing was sent, check base_url and api", scope=Scope.ACCOUNT)

SMS_STATUS: dict[str, Meaning] = {
    "1": _FASTER_THAN_ALLOWED,  # [s] throttled
    "2": _MESSAGE,  # [s] missing parameters
    "3": _MESSAGE,  # [s] invalid parameters
    "4": _CREDENTIALS,  # [s] invalid credentials
    "5": _LATER,  # [s] internal error
    "6": _MESSAGE,  # [s] invalid message, as for an unrecognised number prefix
    "7": _RECIPIENT,  # [s] number barred
    "8": _CLOSED,  # [s] partner account barred
    "9": _CREDIT,  # [s] partner quota violation: no credit
    "10": _FASTER_THAN_ALLOWED,  # [s] too many existing binds
    "11": _CLOSED,  # [s] account not enabled for HTTP
    "12": _MESSAGE,  # [s] message too long
    "13": _LATER,  # [o] communication failed: not submitted
    "14": _SIGNATURE,  # [s] invalid signature
    "15": _SENDER,  # [s] invalid sender address
    "16": _MESSAGE,  # [o] invalid TTL
    "19": _CLOSED,  # [o] facility not allowed
    "20": _MESSAGE,  # [o] invalid message class
    "22": _RECIPIENT,  # [t] invalid network code
    "23": _MESSAGE,  # [t] invalid callback URL
    "29": _TRIAL,  # [t] non-whitelisted destination
    "32": _CREDENTIALS,  # [t] signature and API secret both given
    "33": _GONE,  # [t] number de-activated
    "34": _RECIPIENT,  # [o] invalid or missing msisdn
    "101": _OPTED_OUT,  # [o] opted out of the campaign
}

PROBLEMS: dict[str, Meaning] = {
    "low-balance": _CREDIT,  # [g]
    "out-of-credit": _CREDIT,  # [g] the example
    "unauthorized": _CREDENTIALS,  # [g]
    "unathorized": _CREDENTIALS,  # [c] so spelt
    "forbidden": _CREDENTIALS,  # [g]
    "unprovisioned": _CREDENTIALS,  # [g] [c]
    "invalid-api-key": _CREDENTIALS,  # [g]
    "invalid-signature": _CREDENTIALS,  # [g]
    "account-suspended": _CLOSED,  # [g]
    "jwt-expired": _CLOCK,  # [g]
    "jwt-revoked": _CREDENTIALS,  # [g]
    "invalid-params": _MESSAGE,  # [g]
    "invalid-json": _MESSAGE,  # [c]
    "110": _RECIPIENT,  # [c] invalid recipient
    "1000": _FASTER_THAN_ALLOWED,  # [m] throttled; [c] rate limit hit
    "1010": _MESSAGE,  # [m] missing parameters
    "1020": _MESSAGE,  # [m] invalid parameters
    "1021": _MESSAGE,  # [m] invalid tag
    "1022": _MESSAGE,  # [m] invalid template parameters
    "1030": _LATER,  # [m] internal error
    "1040": _MESSAGE,  # [m] invalid message, as for an unrecognised number prefix
    "1050": _RECIPIENT,  # [m] number barred
    "1070": _CREDIT,  # [m] partner quota exceeded
    "1080": _CLOSED,  # [m] account not enabled for REST
    "1090": _MESSAGE,  # [m] message too long
    "1120": _SENDER,  # [m] illegal sender address; [c] invalid sender
    "1130": _MESSAGE,  # [m] invalid TTL
    "1160": _TRIAL,  # [m] non-whitelisted destination
    "1170": _RECIPIENT,  # [m] invalid or missing msisdn
    "1180": _AWAY,  # [m] absent subscriber, temporary
    "1190": _GONE,  # [m] absent subscriber, permanent
    "1200": _RECIPIENT,  # [m] portability error
    "1210": _MESSAGE,  # [m] anti-spam rejection
    "1220": _AWAY,  # [m] handset busy
    "1230": _AWAY,  # [m] network error
    "1240": _OPTED_OUT,  # [m] illegal number: the recipient sent STOP
    "1241": _FASTER_THAN_ALLOWED,  # [m] too many send requests
    "1250": _RECIPIENT,  # [m] unroutable
    "1260": _RECIPIENT,  # [m] destination unreachable
    "1270": _RECIPIENT,  # [m] subscriber age restriction
    "1280": _RECIPIENT,  # [m] number blocked by carrier
    "1290": _RECIPIENT,  # [m] the recipient's prepaid credit is used up
    "1300": _RECIPIENT,  # [m] not part of the provider network
    "1310": _RECIPIENT,  # [m] not a suitable device
    "1340": Meaning(MessageRejected, "nothing was sent, outside WhatsApp's reply window only a template may go"),  # [m]
}


def part_refusal(transport: HttpTransport[Any, Any], sms: Sms, reply: HttpReply, part: dict[str, Any]) -> DeliveryError:
    """Return the error for what the SMS API said about a part, in an HTTP 200."""
    code = str(part["status"])
    said = str(part.get("error-text") or "")
    return _error(transport, sms, reply, SMS_STATUS.get(code, _MESSAGE), code=code, said=said)


def refusal(transport: HttpTransport[Any, Any], sms: Sms | None, reply: HttpReply) -> DeliveryError:
    """Return the error for an HTTP status that is no success; the body may be a problem document (RFC 9457).

    `sms` is None where nothing was to be sent.
    """
    problem = reply.json_object()
    found = _CODE.search(str(problem.get("type")))
    code = found[1] if found else None
    trace = transport.redact(str(problem.get("instance") or "")) or None
    said = "; ".join(_texts(problem))
    return _error(transport, sms, reply, _meaning(reply.status, code), code=code, said=said, request_id=trace)


def _meaning(status: int, code: str | None) -> Meaning:
    if status == 404:
        return _ADDRESS
    if code in PROBLEMS and 400 <= status < 500 and status != 429:
        return PROBLEMS[code]
    return Meaning(error_for_status(status))


def _texts(problem: dict[str, Any]) -> Iterator[str]:
    for key in ("title", "detail"):
        if problem.get(key):
            yield str(problem[key])
    wrong = problem.get("invalid_parameters")
    for parameter in wrong if isinstance(wrong, list) else []:
        if isinstance(parameter, dict):
            yield f"{parameter.get('name')}: {parameter.get('reason')}"


def _error(
    transport: HttpTransport[Any, Any],
    sms: Sms | None,
    reply: HttpReply,
    meaning: Meaning,
    *,
    code: str | None,
    said: str,
    request_id: str | None = None,
) -> DeliveryError:
    own_sender = meaning is _SENDER and sms is not None and sms.from_ == transport.settings.from_
    error = transport.failure(
        reply,
        kind=meaning.kind,
        code=code,
        detail=said,
        advice=meaning.advice,
        outcome=meaning.outcome,
        scope=Scope.ACCOUNT if own_sender else meaning.scope,
        request_id=request_id,
        suppress=meaning.suppress,
    )
    if sms is not None and isinstance(error, RecipientsRefused):
        return error.with_recipients((RecipientResult.failed(sms.to[0], error),))
    return error
