"""Error mapping: Twilio's error codes -> postroom's errors.

The HTTP status speaks first, for codes change and Twilio advises against logic on them (changelog of 10 July
2024, "Updates to the error code dictionary to clarify number validation errors"): a 429 or 5xx is never made
permanent by its code, and a 4xx whose code is not here stays permanent with the code kept. The source of each
code is its page in Twilio's dictionary, https://www.twilio.com/docs/api/errors/CODE; those in `_BY_TITLE` were
classed by title alone.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from postroom.errors import (
    AuthenticationFailed,
    DeliveryError,
    MessageRejected,
    Outcome,
    OutcomeUnknown,
    ProviderUnavailable,
    QuotaExhausted,
    RateLimited,
    RecipientsRefused,
    Scope,
    SuppressionReason,
)


class Meaning(NamedTuple):
    """One of our errors, and the next step for a person; `outcome` and `scope` are the error's unless given.

    `suppress` is why the number must not be written to again.
    """

    kind: type[DeliveryError]
    advice: str
    outcome: Outcome | None = None
    scope: Scope | None = None
    suppress: SuppressionReason | None = None

    @property
    def lasting(self) -> bool:
        """Whether trying later cannot help."""
        return (self.outcome or self.kind.default_outcome) is Outcome.PERMANENT


def _account(advice: str) -> Meaning:
    return Meaning(MessageRejected, f"nothing was sent, {advice}", scope=Scope.ACCOUNT)


def _recipient(advice: str) -> Meaning:
    return Meaning(RecipientsRefused, f"nothing was sent, {advice}")


def _dead(advice: str) -> Meaning:
    """No sender of any account reaches the number by SMS."""
    return _recipient(advice)._replace(suppress=SuppressionReason.BOUNCED)


def _message(advice: str) -> Meaning:
    return Meaning(MessageRejected, f"nothing was sent, {advice}")


_CREDENTIALS = Meaning(
    AuthenticationFailed,
    "nothing was sent, check account_sid with auth_token, or with api_key and api_secret; credentials belong to one "
    "Twilio region",
)
_INACTIVE = Meaning(
    AuthenticationFailed, "nothing was sent, the Twilio account is suspended, closed or out of funds: see its console"
)
_NUMBER = _dead("check the recipient's number")
_TEMPLATE = _message("check content_sid and content_variables")
_SCHEDULE = _message("set send_at to between 5 minutes and 35 days from now, on an account with messaging_service_sid")
_SENDER = _account("check `from`: it must be a sender of this Twilio account that may write to this country")
_SERVICE = _account("check messaging_service_sid: it must name a service of this Twilio account that has senders")

SENDERS = frozenset({21212, 21603, 21606, 21616, 21659, 21660, 21661, 21701, 21703, 21705, 21709, 30034, 63007})
"""Codes that blame the sender: the account's, unless the message chose its own."""

CODES: dict[int, Meaning] = {
    10001: _INACTIVE,
    20003: _CREDENTIALS,
    20005: _INACTIVE,
    20006: _CREDENTIALS,
    20403: _INACTIVE,
    20404: _account("check account_sid and base_url"),
    20429: Meaning(RateLimited, "Twilio did not process it, try again later or lower the account's concurrency"),
    20500: Meaning(
        OutcomeUnknown,
        "Twilio warns that it may have been sent, so look for it in Twilio's log before sending it again",
    ),
    20503: Meaning(ProviderUnavailable, "nothing was sent, try again later"),
    21211: _NUMBER,
    21212: _SENDER,
    21265: _recipient("the recipient is a short code, which cannot receive"),
    21408: _recipient("enable the recipient's country in the Twilio console under Messaging, Geo Permissions"),
    21602: _message("give it a body, media or content_sid"),
    21606: _SENDER,
    21609: _account("check status_callback: Twilio must be able to reach the URL"),
    21610: _recipient(
        "the recipient has replied STOP to this sender and must reply START before it may write again"
    )._replace(suppress=SuppressionReason.STOPPED),
    21611: Meaning(RateLimited, "the sender's queue is full, try again later or use a messaging service"),
    21617: _message("shorten the body to 1,600 characters"),
    21620: _message("check the media URLs"),
    21635: _dead("the recipient is a landline"),
    21654: _TEMPLATE,
    21655: _TEMPLATE,
    21656: _TEMPLATE,
    21658: _message("shorten the body or the template's variables to 1,600 characters"),
    21659: _SENDER,
    21701: _SERVICE,
    21705: _SERVICE,
    21730: Meaning(ProviderUnavailable, "nothing was sent, Twilio is under maintenance, try again later"),
    30454: Meaning(QuotaExhausted, "nothing was sent, the trial's allowance is used up: upgrade the Twilio account"),
    35114: _SCHEDULE,
    35115: _SCHEDULE,
    35117: _SCHEDULE,
    35118: _SCHEDULE,
    63003: _recipient("the recipient is not on this channel"),
    63007: _account("check `from`: it must be a sender of this channel in this Twilio account"),
    63038: Meaning(
        QuotaExhausted,
        "nothing was sent, the account's messages of 24 hours are used up: try again later or ask Twilio for more",
        outcome=Outcome.TRANSIENT,
    ),
    70051: _CREDENTIALS,
    90010: _INACTIVE,
}

_BY_TITLE: dict[int, Meaning] = {
    21266: _recipient("the recipient is the sender itself"),
    21603: _account("set `from` or messaging_service_sid"),
    21608: _recipient("a trial account writes to verified numbers only: verify it or upgrade the Twilio account"),
    21612: _recipient("this sender cannot reach this recipient: try another sender"),
    21614: _dead("the recipient's number is not a mobile number"),
    21616: _SENDER,
    21619: _message("give it a body, media or content_sid"),
    21623: _message("send at most 10 media"),
    21660: _SENDER,
    21661: _SENDER,
    21703: _SERVICE,
    21709: _SENDER,
    21910: _message("sender and recipient must be on the same channel"),
    30034: _account("register the sender for US A2P 10DLC traffic in the Twilio console"),
    35125: Meaning(QuotaExhausted, "nothing was sent, the account has as many scheduled messages as it may"),
    63016: _message("outside WhatsApp's 24 hours after the recipient's last message, send a template: content_sid"),
    63031: _recipient("the recipient is the sender itself"),
}
CODES |= _BY_TITLE

_NOT_FOUND = CODES[20404]


def meaning(status: int, code: int | None, *, own_sender: bool = False) -> Meaning | None:
    """Return what a refusal means, or None where the HTTP status says it all.

    `own_sender`: the message chose its sender itself, so that a wrong one is not the account's fault.
    """
    found = CODES.get(code) if code is not None else None
    if found is None:
        return _NOT_FOUND if status == 404 else None
    if found.lasting and (status == 429 or status >= 500):
        return None
    if own_sender and code in SENDERS:
        return found._replace(scope=Scope.MESSAGE)
    return found


def read_problem(body: dict[str, Any]) -> tuple[int | None, str]:
    """Return code and text of an error body: Twilio's own form, or a problem of RFC 9457 with a code."""
    code = body.get("code")
    texts = (body.get(name) for name in ("message", "detail", "title"))
    text = next((found for found in texts if isinstance(found, str) and found), "")
    return (code if isinstance(code, int) else None), text
