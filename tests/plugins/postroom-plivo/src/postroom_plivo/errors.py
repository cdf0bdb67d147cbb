"""Plivo's refusals -> postroom's errors.

| answer | error | source |
|---|---|---|
| "Insufficient Credit", any status | QuotaExhausted | support.plivo.com, article 17000088423 |
| 401 | AuthenticationFailed | [response] |
| 404, 405 | MessageRejected, the whole account: auth_id or base_url is wrong | [response] |
| 429 | RateLimited | [response] |
| other 4xx | MessageRejected | [response] |
| 5xx | by HTTP status | [response] |

[response]: plivo.com/docs/messaging/api/response. The text of a refusal is `error` (plivo-python, `process_response`);
there are no codes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from postroom.errors import DeliveryError, MessageRejected, QuotaExhausted, Scope

if TYPE_CHECKING:
    from postroom.plugin.http import HttpReply, HttpTransport


def refusal(transport: HttpTransport[Any, Any], reply: HttpReply) -> DeliveryError:
    """Return the error that an answer stands for which is not a yes."""
    answer = reply.json_object()
    text = str(answer.get("error") or answer.get("message") or "")
    request_id = str(answer["api_id"]) if answer.get("api_id") else None
    if "insufficient credit" in text.lower():
        return transport.failure(reply, detail=text, kind=QuotaExhausted, request_id=request_id)
    if reply.status in {404, 405}:
        advice = "nothing was sent, check auth_id and base_url"
        return transport.failure(
            reply, detail=text, kind=MessageRejected, scope=Scope.ACCOUNT, advice=advice, request_id=request_id
        )
    return transport.failure(reply, detail=text, request_id=request_id)
