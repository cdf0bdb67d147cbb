"""Vonage's refusals -> postroom's errors.

SMS API: HTTP 200 with a status per part (developer.vonage.com/api-errors/sms; 13, 14 and 16 to 33 from older lists of
the same pages). Messages API: problem documents (RFC 9457) whose `type` ends in `#code`
(developer.vonage.com/api-errors/messages). Where neither says, the HTTP status decides; an unknown code is permanent
and kept as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from postroom.errors import (
    AuthenticationFailed,
    DeliveryError,
    MessageRejected,
    ProviderUnavailable,
    QuotaExhausted,
    RateLimited,
    RecipientsRefused,
    Scope,
)

if TYPE_CHECKING:
    from postroom.plugin.http import HttpTransport, Reply

SMS_STATUS: dict[str, type[DeliveryError]] = {
    "1": RateLimited,  # throttled
    "2": MessageRejected,  # missing parameters
    "3": MessageRejected,  # invalid parameters
    "4": AuthenticationFailed,  # invalid credentials
    "5": ProviderUnavailable,  # internal error
    "6": MessageRejected,  # invalid message
    "7": RecipientsRefused,  # number barred
    "8": AuthenticationFailed,  # partner account barred
    "9": QuotaExhausted,  # no credit
    "10": RateLimited,  # too many existing binds
    "11": AuthenticationFailed,  # account not enabled for HTTP
    "12": MessageRejected,  # message too long
    "13": ProviderUnavailable,  # communication failed
    "14": AuthenticationFailed,  # invalid signature
    "15": MessageRejected,  # invalid sender address
    "16": MessageRejected,  # invalid TTL
    "19": AuthenticationFailed,  # facility not allowed
    "20": MessageRejected,  # invalid message class
    "22": RecipientsRefused,  # invalid network code
    "23": MessageRejected,  # invalid callback URL
    "29": RecipientsRefused,  # not on the trial account's list
    "32": AuthenticationFailed,  # signature and secret both given
    "33": AuthenticationFailed,  # number de-activated
}

MESSAGES_CODE: dict[str, type[DeliveryError]] = {
    "1000": RateLimited,  # throttled
    "1010": MessageRejected,  # missing parameters
    "1020": MessageRejected,  # invalid parameters
    "1021": MessageRejected,  # invalid tag
    "1022": MessageRejected,  # invalid template parameters
    "1030": ProviderUnavailable,  # internal error
    "1040": MessageRejected,  # invalid message
    "1050": RecipientsRefused,  # number barred
    "1060": AuthenticationFailed,  # partner account barred
    "1070": QuotaExhausted,  # no credit
    "1080": AuthenticationFailed,  # account not enabled
    "1090": MessageRejected,  # message too long
    "1100": ProviderUnavailable,  # communication failed
    "1120": MessageRejected,  # invalid sender
    "1130": MessageRejected,  # invalid TTL
}


def part_refusal(transport: HttpTransport[Any, Any], reply: Reply, part: dict[str, Any]) -> DeliveryError:
    """Return the error for the SMS API's answer about one part."""
    code = str(part.get("status"))
    said = str(part.get("error-text") or "")
    return transport.failure(reply, kind=SMS_STATUS.get(code, MessageRejected), code=code, detail=said)


def problem_refusal(transport: HttpTransport[Any, Any], reply: Reply) -> DeliveryError:
    """Return the error for a problem document of the Messages API."""
    problem = reply.json_object()
    code = str(problem.get("type", "")).rpartition("#")[2] or None
    said = "; ".join(str(problem[key]) for key in ("title", "detail") if problem.get(key))
    kind = MESSAGES_CODE.get(code or "")
    if kind is None:
        return http_refusal(transport, reply, code=code, said=said)
    return transport.failure(reply, kind=kind, code=code, detail=said, request_id=_instance(problem))


def http_refusal(
    transport: HttpTransport[Any, Any], reply: Reply, *, code: str | None = None, said: str = ""
) -> DeliveryError:
    """Return the error for an HTTP status; a 404 means that base_url is wrong."""
    detail = said or reply.body[:200].decode(errors="replace")
    problem = _instance(reply.json_object())
    if reply.status == 404:
        return transport.failure(
            reply,
            kind=MessageRejected,
            scope=Scope.ACCOUNT,
            advice="nothing was sent, check base_url and api",
            code=code,
            detail=detail,
            request_id=problem,
        )
    return transport.failure(reply, code=code, detail=detail, request_id=problem)


def _instance(problem: dict[str, Any]) -> str | None:
    """The id of the problem, which Vonage's support asks for."""
    return str(problem["instance"]) if problem.get("instance") else None
