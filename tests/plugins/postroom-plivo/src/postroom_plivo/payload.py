"""An SMS as the JSON of `POST /v1/Account/{auth_id}/Message/` (plivo.com/docs/messaging/api/message/send-a-message)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from postroom.errors import MessageError
from postroom.segments import is_gsm7

if TYPE_CHECKING:
    from postroom.messages import Sms

LONGEST_GSM, LONGEST_UNICODE = 1600, 737
"""Characters of `text`: the same page, "text"."""


def payload(sms: Sms, status_url: str | None) -> dict[str, Any]:
    """Return the body of the request; `provider_options` come last, so that they win."""
    body = {"dst": sms.to[0].removeprefix("+"), "text": sms.body}
    if sms.from_:
        body["src"] = sms.from_
    if status_url:
        body |= {"url": status_url, "method": "POST"}
    return body | sms.provider_options


def refuse_what_is_too_long(sms: Sms) -> None:
    """Raise MessageError for a text that Plivo would refuse."""
    longest = LONGEST_GSM if is_gsm7(sms.body) else LONGEST_UNICODE
    if len(sms.body) > longest:
        raise MessageError(f"body has {len(sms.body)} characters, Plivo takes {longest} of these; shorten it")
